"""The picture of a metric over the versions of a model: every version with its interval, and what production ran.

The horizontal axis is the order of publishing, one step a version, with dates below: where ten versions of one night
follow a year of silence, each can still be told from the next. Events lie between the versions by their time.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup, escape

from dkeras_core.evaluation import text
from dkeras_core.evaluation.charts import Axis, Plot, legend
from dkeras_core.registry.catalog import Summary
from dkeras_core.registry.overview import Model, interval, value

_TICKS = 5
_HOVER = 120  # versions with a text on hover; the newest ones
_SINGLE = 60  # up to so many versions are drawn as dots with a border, more as points
_ROBUST = 20  # from so many versions on, a few far away do not set the scale
_SPARK = 60
_MOST = 2_000  # versions in a picture, the newest: what keeps the file small


@dataclass(frozen=True)
class Figure:
    """A picture with its heading, a sentence, its legend and numbers; the template of the report draws it."""

    title: str
    caption: str
    picture: Markup
    legend: Markup
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class _Order(Axis):
    """The order of publishing, 0 to n - 1, with a number and a date at each tick."""

    numbers: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()

    def text(self, tick: float) -> str:
        return self.numbers[self.ticks.index(tick)]


class _VersionPlot(Plot):
    """A plot whose horizontal axis has two lines of text, with points and spans that stay small for 1,000 versions."""

    BOTTOM = 42

    def _axes(self) -> list[str]:
        bottom = self.height - self.BOTTOM
        return super()._axes() + [
            f'<text class="tick" x="{self._px(tick):.1f}" y="{bottom + 34}" text-anchor="middle">{escape(date)}</text>'
            for tick, date in zip(self.x.ticks, self.x.dates, strict=True)
        ]

    def _inside(self, y: float) -> float:
        return min(max(y, self.y.low), self.y.high)

    def points(self, xs: Sequence[float], ys: Sequence[float], colour: str, large: bool) -> None:
        """Draw points, all of them in one path."""
        marks = "".join(f"M{self._px(x):.1f} {self._py(self._inside(y)):.1f}h0" for x, y in zip(xs, ys, strict=True))
        self._over.append(f'<path class="points {colour}{" large" if large else ""}" d="{marks}"/>')

    def spans(self, xs: Sequence[float], spans: Sequence[tuple[float, float] | None], colour: str) -> None:
        """Draw vertical intervals, all of them in one path."""
        lines = "".join(
            f"M{self._px(x):.1f} {self._py(self._inside(span[0])):.1f}V{self._py(self._inside(span[1])):.1f}"
            for x, span in zip(xs, spans, strict=True)
            if span is not None
        )
        style = "faded" if len(xs) <= _SINGLE else "faint"
        if lines:
            self._under.append(f'<path class="stroke thin {colour} {style}" d="{lines}"/>')

    def steps(self, xs: Sequence[float], ys: Sequence[float], colour: str) -> None:
        """Draw a line of steps: the value of each x holds until the next one."""
        path = f"M{self._px(xs[0]):.1f} {self._py(self._inside(ys[0])):.1f}"
        for x, y in zip(xs[1:], ys[1:], strict=True):
            path += f"H{self._px(x):.1f}V{self._py(self._inside(y)):.1f}"
        self._over.append(f'<path class="halo" d="{path}"/><path class="stroke bold {colour}" d="{path}"/>')

    def flags(self, flags: Sequence[tuple[float, float, str, str]]) -> None:
        """Name single points (x, y, text, colour) above the plot, in rows where they would meet; the first to be drawn.

        The rows take their height from the plot.
        """
        rows: list[float] = []  # where the last text of each ends
        placed = []
        for x, y, words, colour in sorted(flags):
            px, width = self._px(x), 7.4 * len(words) + 12
            left = px - width if px + width > self.width - self.RIGHT + 12 else px
            row = next((i for i, end in enumerate(rows) if end <= left), len(rows))
            rows[row : row + 1] = [left + width]
            placed.append((px, y, words, colour, row, left < px))
        self.TOP = _VersionPlot.TOP + 16 * len(rows)
        for px, y, words, colour, row, before in placed:
            top, bottom = 34 + 16 * row, self._py(self._inside(y))
            self._under.append(f'<line class="rule" x1="{px:.1f}" x2="{px:.1f}" y1="{top - 9}" y2="{bottom:.1f}"/>')
            self._over.append(
                f'<text class="note {colour}" x="{px + (-5 if before else 5):.1f}" y="{top}" '
                f'text-anchor="{"end" if before else "start"}">{escape(words)}</text>'
            )


def over_versions(model: Model, metric: str, now: datetime) -> Figure | None:
    """Return the picture of one metric; None when no version has it."""
    every = sorted([*model.versions, *model.deleted], key=lambda summary: summary.number)
    shown = [summary for summary in every if value(summary, metric) is not None]
    if not shown:
        return None
    lacking, older = len(every) - len(shown), len(shown[:-_MOST])
    shown = shown[-_MOST:]
    ys = [value(summary, metric) for summary in shown]
    spans = [interval(summary, metric) for summary in shown]
    low, high, outside = _scale(ys, spans)
    flags = _flags(model, shown, ys)
    name, room = text.label(metric), 0.08 * (high - low)
    axis = Axis.over(name, [low - room, high + room], tight=True)
    plot = _VersionPlot(f"{name} of every version", _order(shown), axis, width=540, height=290)
    plot.flags(flags)
    xs = list(range(len(shown)))
    plot.spans(xs, spans, "c1")
    living = [i for i, summary in enumerate(shown) if summary.deleted is None]
    gone = [i for i, summary in enumerate(shown) if summary.deleted is not None]
    entries = []
    line = _production(model, metric, shown, now)
    for part, colour, label in ((gone, "neutral", "deleted"), (living, "c1", "version")):
        if part:
            plot.points([xs[i] for i in part], [ys[i] for i in part], colour, len(shown) <= _SINGLE)
            entries.insert(0, (label, colour, "dot"))
    if len(line) > 1:
        plot.steps(*zip(*line, strict=True), "c2")
    if any(spans):
        entries.append(("95 % interval", "c1", "line thin faded"))
    if len(line) > 1:
        entries.append(("ran in production", "c2", "line bold"))
    for x, y, _, colour in flags:
        plot.points([x], [y], colour, True)
    for i in xs[-_HOVER:]:
        plot._hit(i, plot._inside(ys[i]), "c1", _described(shown[i], metric))
    caption = _said(outside, lacking, older)
    return Figure(name, caption, plot.svg(), legend(entries), _facts(model, metric, shown))


def sparkline(model: Model, metric: str) -> Markup:
    """Return the last versions as a line of the height of a text; empty when there are fewer than two."""
    ys = [value(summary, metric) for summary in reversed(model.versions[:_SPARK])]
    ys = [y for y in ys if y is not None]
    if len(ys) < 2:
        return Markup("")
    low, high, _ = _scale(ys, [])
    step, spread = 116 / (len(ys) - 1), (high - low) or 1.0
    points = [(2 + i * step, 20 - 16 * (min(max(y, low), high) - low) / spread) for i, y in enumerate(ys)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    x, y = points[-1]
    return Markup(
        f'<svg class="spark" viewBox="0 0 120 24" role="img" aria-label="{escape(text.label(metric))} of the last '
        f'{len(ys)} versions"><polyline class="stroke c1" points="{line}"/>'
        f'<circle class="dot c1" cx="{x:.1f}" cy="{y:.1f}" r="3"/></svg>'
    )


def _scale(ys: Sequence[float], spans: Sequence[tuple[float, float] | None]) -> tuple[float, float, int]:
    """Return the range of the vertical axis, and how many values lie outside of it.

    One failed training among a hundred good ones would press these into a line, so values far from all others (further
    from the middle 90 % than these are wide) are drawn at the edge.
    """
    low, high = min(ys), max(ys)
    if len(ys) >= _ROBUST:
        ordered = sorted(ys)
        cut = len(ys) // 20
        first, last = ordered[cut], ordered[-1 - cut]
        room = (last - first) or 1e-9
        low, high = max(low, first - room), min(high, last + room)
    else:
        ends = [end for span in spans if span for end in span]
        low, high = min([low, *ends]), max([high, *ends])
    return low, high, sum(not low <= y <= high for y in ys)


def _order(shown: Sequence[Summary]) -> _Order:
    last = len(shown) - 1
    ticks = sorted({round(i * last / (_TICKS - 1)) for i in range(_TICKS)})
    times = [summary.created for summary in shown if summary.created]
    days = (max(times) - min(times)).days if times else 0
    numbers = tuple(f"@{shown[i].number}" for i in ticks)
    dates = tuple(_date(shown[i].created, days) for i in ticks)
    pad = max(0.5, 0.03 * len(shown))
    return _Order("", -pad, last + pad, tuple(ticks), numbers, dates)


def _date(time: datetime | None, days: int) -> str:
    if time is None:
        return ""
    return f"{time:%H:%M}" if days < 1 else f"{time.day} {time:%b}" if days < 300 else f"{time:%b %Y}"


def _production(model: Model, metric: str, shown: Sequence[Summary], now: datetime) -> list[tuple[float, float]]:
    """Return (x, value) from which on production ran a version of that value; the last point is now."""
    moves = [
        event.entry
        for event in reversed(model.events)
        if event.applied and event.entry.alias == "production" and event.entry.action in ("promote", "rollback")
    ]
    line: list[tuple[float, float]] = []
    if moves and moves[0].before.version is not None:
        before = value(model.version(moves[0].before.version), metric)
        line += [(0.0, before)] if before is not None else []
    for move in moves:
        y = value(model.version(move.version), metric)
        if y is not None:
            line.append((_place(shown, move.time, now), y))
    return [*line, (len(shown) - 0.6, line[-1][1])] if line else []


def _place(shown: Sequence[Summary], time: datetime, now: datetime) -> float:
    """Return where a moment lies between the versions: in proportion to the time from one to the next."""
    after = next((i for i, summary in enumerate(shown) if summary.created and summary.created > time), None)
    if after == 0:
        return 0.0
    index = (len(shown) if after is None else after) - 1
    begin, end = shown[index].created, now if after is None else shown[after].created
    whole = (end - begin).total_seconds() if begin else 0.0
    part = min(max((time - begin).total_seconds() / whole, 0.0), 1.0) if whole > 0 else 0.0
    return index + part * (0.4 if after is None else 1.0)


def _flags(model: Model, shown: Sequence[Summary], ys: Sequence[float]) -> list[tuple[float, float, str, str]]:
    at = {summary.number: i for i, summary in enumerate(shown)}
    named: dict[int, list[str]] = {}
    for alias in model.aliases:
        if alias.pointer and alias.pointer.number in at:
            named.setdefault(alias.pointer.number, []).append(alias.name)
    return [
        (at[number], ys[at[number]], ", ".join(words[:2]) + (" …" if len(words) > 2 else ""),
         "c2" if "production" in words else "c1")
        for number, words in named.items()
    ]  # fmt: skip


def _described(summary: Summary, metric: str) -> str:
    span = interval(summary, metric)
    around = f" ({text.metric(span[0])} to {text.metric(span[1])})" if span else ""
    day = f", {summary.created.day} {summary.created:%B %Y}" if summary.created else ""
    gone = ", deleted" if summary.deleted else ""
    return f"version {summary.number}{day}{gone}: {text.label(metric)} {text.metric(value(summary, metric))}{around}"


def _said(outside: int, lacking: int, older: int) -> str:
    parts = []
    if outside:
        parts.append(f"{outside} far from all others {'is' if outside == 1 else 'are'} drawn at the edge.")
    if lacking:
        parts.append(f"{lacking} {'has' if lacking == 1 else 'have'} no such figure.")
    if older:
        parts.append(f"{text.count(older)} older {'one is' if older == 1 else 'ones are'} left out.")
    return " ".join(parts)


def _facts(model: Model, metric: str, shown: Sequence[Summary]) -> list[tuple[str, str]]:
    best_of = min if metric in text.LOWER_IS_BETTER else max
    living = [summary for summary in shown if summary.deleted is None] or shown
    best = best_of(living, key=lambda summary: value(summary, metric))
    facts = []
    pointer = model.production.pointer if model.production else None
    running = value(model.version(pointer.number), metric) if pointer else None
    if running is not None:
        facts.append((f"production, @{pointer.number}", text.metric(running)))
    facts.append((f"newest, @{living[-1].number}", text.metric(value(living[-1], metric))))
    facts.append((f"best, @{best.number}", text.metric(value(best, metric))))
    return list(itertools.islice(facts, 3))
