"""The figures of the report about the training, from train.json.

Every function returns a :class:`Figure`, or None when its part is missing.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from dkeras_core.evaluation import text
from dkeras_core.evaluation.charts import Axis, Bar, Plot, Segment, legend, stacked_bars
from dkeras_core.evaluation.figures import Figure

_MEAN_POINTS = 120
_HOVER_POINTS = 40
_WORKER_POINTS = 8_000  # of all workers together: what keeps the file small
WORKER_TIMES = (
    ("compute", "c1"), ("exchange", "c2"), ("wait", "neutral"), ("compile", "c4"), ("start", "c5"), ("spool", "c3"),
)  # fmt: skip


def loss(train: Mapping[str, Any] | None, over: str) -> Figure | None:
    """Return the loss over ``seconds`` or ``rows``: a thin line for each worker, their mean bold."""
    lines = _worker_lines(train, over)
    if not lines:
        return None
    budget = max(60, _WORKER_POINTS // len(lines))
    workers = {worker: _thinned(line, budget) for worker, line in lines.items() if worker is not None}
    mean = _thinned(lines[None], _MEAN_POINTS) if None in lines else _mean_line(list(workers.values()))
    unit = "seconds" if over == "seconds" else "rows trained by each worker" if workers else "rows trained"
    everything = [*workers.values(), mean]
    plot = Plot(
        f"Training loss over {over}",
        Axis.over(unit, [x for line in everything for x, _ in line], zero=True, tight=True),
        Axis.over("training loss", [y for line in everything for _, y in line]),
    )
    for line in workers.values():
        xs, ys = zip(*line, strict=True)
        plot.line(xs, ys, "c5", style="thin faded" if len(workers) <= 4 else "thin faint")
    xs, ys = zip(*mean, strict=True)
    step = max(1, len(xs) // _HOVER_POINTS)
    shown = [f"{text.count(x)} {'s' if over == 'seconds' else 'rows'}: loss {y:.4f}" for x, y in mean]
    titles = [title if i % step == 0 or i == len(shown) - 1 else "" for i, title in enumerate(shown)]
    plot.line(xs, ys, "c1", style="bold with-halo" if len(workers) > 4 else "bold", titles=titles)
    names = [("mean of the workers", "c1", "line bold")]
    if len(workers) > 1:
        names.append((f"each of {len(workers)} workers", "c5", "line thin faded"))
    facts = [("first", text.metric(mean[0][1])), ("last", text.metric(mean[-1][1]))]
    facts.append(("least", text.metric(min(y for _, y in mean))))
    return Figure(f"Loss over {'time' if over == 'seconds' else 'rows'}", "", plot.svg(), legend(names), facts)


def _worker_lines(train: Mapping[str, Any] | None, over: str) -> dict[Any, list[tuple[float, float]]]:
    lines = defaultdict(list)
    for point in (train or {}).get("curve") or ():
        if point.get("loss") is not None and point.get(over) is not None:
            lines[point.get("worker")].append((float(point[over]), float(point["loss"])))
    return {worker: sorted(line) for worker, line in lines.items()}


def _thinned(line: list[tuple[float, float]], points: int) -> list[tuple[float, float]]:
    """Return at most about `points` points, each the mean of a run of neighbours; the first point stays."""
    group = -(-len(line) // points)
    if group <= 1:
        return line
    parts = [line[:1], *(line[i : i + group] for i in range(1, len(line), group))]
    return [(sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part)) for part in parts]


def _mean_line(lines: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Return the mean of the lines where all of them have begun; a line that has ended keeps its last value."""
    smooth = [_thinned(line, _MEAN_POINTS) for line in lines]
    start, end = max(line[0][0] for line in smooth), max(line[-1][0] for line in smooth)
    places = [start + (end - start) * i / (_MEAN_POINTS - 1) for i in range(_MEAN_POINTS)]
    return [(x, sum(_value_at(line, x) for line in smooth) / len(smooth)) for x in places]


def _value_at(line: list[tuple[float, float]], x: float) -> float:
    right = bisect.bisect_left(line, (x,))
    if right == len(line):
        return line[-1][1]
    if right == 0 or line[right][0] == x:
        return line[right][1]
    (x0, y0), (x1, y1) = line[right - 1], line[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def epochs(train: Mapping[str, Any] | None) -> Figure | None:
    """Return the loss at the ends of epochs: of training, and of the center on the validation rows."""
    history, at = (train or {}).get("history") or {}, (train or {}).get("epoch") or []
    lines = {name: _measured(at, history.get(name)) for name in ("loss", "val_loss")}
    if not lines["val_loss"]:
        return None
    names = {"loss": ("training", "c5", "thin"), "val_loss": ("validation, of the center", "c1", "bold")}
    plot = Plot(
        "Loss at the ends of epochs",
        Axis.over("epoch", at, zero=True, tight=True),
        Axis.over("loss", [value for line in lines.values() for _, value in line]),
    )
    for name, line in lines.items():
        if line:
            _by_epoch(plot, line, *names[name])
    restored = train.get("restored")
    if restored is not None:
        plot.rule(restored, f"result: epoch {restored}")
    best = min(lines["val_loss"], key=lambda point: point[1])
    facts = [("least", f"{text.metric(best[1])} in epoch {best[0]}")]
    final = dict(sorted((train.get("final") or {}).items(), key=lambda entry: entry[0] != "val_loss"))
    facts += [(f"result, {text.label(name.removeprefix('val_'))}", text.metric(value)) for name, value in final.items()]
    caption = "Epochs that ended while an earlier one was evaluated have no figures here."
    return Figure("Loss by epoch", caption, plot.svg(), plot.legend(), facts)


def metrics(train: Mapping[str, Any] | None) -> Figure | None:
    """Return the metrics of the center on the validation rows at the ends of epochs."""
    history, at = (train or {}).get("history") or {}, (train or {}).get("epoch") or []
    names = [name for name in history if name.startswith("val_") and name != "val_loss"]
    lines = {name.removeprefix("val_"): _measured(at, history[name]) for name in names}
    lines = {name: line for name, line in lines.items() if line}
    if not lines:
        return None
    plot = Plot(
        "Metrics at the ends of epochs",
        Axis.over("epoch", at, zero=True, tight=True),
        Axis.over("on the validation rows", [value for line in lines.values() for _, value in line]),
    )
    for number, (name, line) in enumerate(lines.items()):
        _by_epoch(plot, line, text.label(name), f"c{number % 5 + 1}", "bold")
    facts = [(f"last {text.label(name)}", text.metric(line[-1][1])) for name, line in lines.items()]
    return Figure("Metrics by epoch", "Of the center, on the validation rows.", plot.svg(), plot.legend(), facts)


def _by_epoch(plot: Plot, line: list[tuple[int, float]], label: str, colour: str, style: str) -> None:
    """Draw a line with its points, so that a run of one epoch shows something too."""
    xs, ys = zip(*line, strict=True)
    plot.line(xs, ys, colour, label, style=style)
    if len(line) <= _HOVER_POINTS:
        plot.dots(xs, ys, colour, [f"epoch {epoch}: {label} {value:.4f}" for epoch, value in line])


def _measured(at, values) -> list[tuple[int, float]]:
    return [(epoch, value) for epoch, value in zip(at, values or (), strict=False) if value is not None]


def workers(train: Mapping[str, Any] | None) -> Figure | None:
    """Return a bar for each worker: where its seconds went."""
    accounts = [account for account in (train or {}).get("workers") or () if account]
    bars = []
    totals = dict.fromkeys((name for name, _ in WORKER_TIMES), 0.0)
    many = len(accounts) > 16
    for account in accounts:
        segments = []
        for name, colour in WORKER_TIMES:
            value = float(account.get(f"{name}_seconds") or 0)
            totals[name] += value
            who = f"worker {account.get('worker')}"
            segments.append(Segment(value, colour, f"{who}: {name} {text.seconds(value)}"))
        spent = sum(segment.value for segment in segments)
        where = f" on {account['host']}" if account.get("host") else ""
        left = f"Worker {account.get('worker')}{where}"
        bars.append(Bar(segments) if many else Bar(segments, left, text.seconds(spent)))
    whole = sum(totals.values())
    if not whole:
        return None
    names = [(f"{name} {text.share(totals[name], whole)}", colour, "box") for name, colour in WORKER_TIMES]
    picture = stacked_bars(bars, "Time of each worker", pitch=12 if many else 44, thickness=9 if many else 14)
    longest = max(sum(segment.value for segment in bar.segments) for bar in bars)
    caption = f"A bar for each of {len(bars)} workers; the longest is {text.seconds(longest)}." if many else ""
    return Figure("Time of each worker", caption, picture, legend(names))
