"""Small SVG charts as text: lines, areas, histograms, markers, stacked bars, with axes that have round ticks.

Colours are CSS classes (``c1`` to ``c5``, ``neutral``) that the style sheet of the report resolves for light, dark
and print. All text is escaped. Nothing refers to anything outside the document.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from the first at or below `low` to the last at or above `high`, about `count` steps."""
    if not high > low:
        spread = abs(low) * 0.1 or 1.0
        low, high = low - spread / 2, high + spread / 2
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s for s in _STEPS if rough <= s * power * (1 + 1e-9)) * power
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 3 - math.floor(math.log10(step))
    return [round(i * step, digits) for i in range(first, last + 1)]


def short(value: float, step: float | None = None) -> str:
    """Return a number for an axis: 12k, 3.5M, 0.25; with `step`, as many decimals as tell neighbours apart."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor * (1 if factor > 1e3 else 10):
            return f"{value / factor:.6g}{unit}" if step else f"{value / factor:.3g}{unit}"
    if step is None:
        return f"{value:.3g}"
    decimals = next((d for d in range(8) if abs(step * 10**d - round(step * 10**d)) < 1e-6), 8)
    return f"{value:.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Axis:
    """A linear axis over [low, high]; ``ticks`` are round numbers inside it."""

    label: str
    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(cls, label: str, values: Iterable[float], *, zero: bool = False, tight: bool = False) -> Axis:
        """Return an axis that holds all `values` (and 0 with `zero`); `tight` ends with the data, not at a tick."""
        values = [value for value in values if value is not None and math.isfinite(value)] or [0.0, 1.0]
        low, high = (min(0.0, *values) if zero else min(values)), max(values)
        ticks = nice_ticks(low, high)
        if not tight or low == high:
            return cls(label, ticks[0], ticks[-1], tuple(ticks))
        return cls(label, low, high, tuple(tick for tick in ticks if low <= tick <= high))

    @classmethod
    def unit(cls, label: str) -> Axis:
        """Return the axis of a share: 0 to 1."""
        return cls(label, 0.0, 1.0, (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))

    def text(self, tick: float) -> str:
        step = self.ticks[1] - self.ticks[0] if len(self.ticks) > 1 else None
        return short(tick, step)

    def share(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


@dataclass
class Plot:
    """One coordinate system; drawing methods add to it, :meth:`svg` gives the picture.

    The picture scales with its box; `width` and `height` are its size in CSS pixels at scale 1.
    """

    title: str
    x: Axis
    y: Axis
    width: int = 500
    height: int = 320
    _under: list[str] = field(default_factory=list)
    _over: list[str] = field(default_factory=list)
    _entries: list[tuple[str, str, str]] = field(default_factory=list)

    LEFT, RIGHT, TOP, BOTTOM = 44, 14, 30, 46

    def _px(self, x: float) -> float:
        return self.LEFT + self.x.share(x) * (self.width - self.LEFT - self.RIGHT)

    def _py(self, y: float) -> float:
        return self.height - self.BOTTOM - self.y.share(y) * (self.height - self.TOP - self.BOTTOM)

    def _points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        return " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in zip(xs, ys, strict=True))

    def line(
        self, xs, ys, colour: str, label: str | None = None, *, style: str = "", titles: Sequence[str] = ()
    ) -> None:
        """Draw a line; `style` is of thin, bold, dashed, with-halo; `titles` show on hover of its points."""
        if "halo" in style:  # keeps it apart from the many lines below
            self._over.append(f'<polyline class="halo" points="{self._points(xs, ys)}"/>')
        hover = f"<title>{escape(label)}</title>" if label and not titles else ""
        self._over.append(
            f'<polyline class="stroke {colour} {style}" points="{self._points(xs, ys)}">{hover}</polyline>'
        )
        for x, y, title in zip(xs, ys, titles, strict=False) if titles else ():
            if title:
                self._hit(x, y, colour, title)
        if label:
            self._entries.append((label, colour, f"line {style}"))

    def area(self, xs, ys, colour: str) -> None:
        """Fill between a line and the bottom of the plot, lightly."""
        points = f"{self._points(xs[:1], [self.y.low])} {self._points(xs, ys)} {self._points(xs[-1:], [self.y.low])}"
        self._under.append(f'<polygon class="fill {colour}" points="{points}"/>')

    def histogram(self, edges, heights, colour: str, label: str, titles: Sequence[str] = ()) -> None:
        """Draw a filled outline of steps: `heights` has one entry less than `edges`."""
        xs = [edge for pair in itertools.pairwise(edges) for edge in pair]
        ys = [height for height in heights for _ in range(2)]
        self.area(xs, ys, colour)
        closed = [self.y.low, *ys, self.y.low]
        self._over.append(f'<polyline class="stroke {colour}" points="{self._points([xs[0], *xs, xs[-1]], closed)}"/>')
        for left, right, height, title in zip(edges[:-1], edges[1:], heights, titles, strict=False):
            top = self._py(height)
            self._over.append(
                f'<rect class="hit {colour}" x="{self._px(left):.1f}" y="{top:.1f}" '
                f'width="{self._px(right) - self._px(left):.1f}" height="{self._py(self.y.low) - top:.1f}">'
                f"<title>{escape(title)}</title></rect>"
            )
        self._entries.append((label, colour, "box"))

    def dots(self, xs, ys, colour: str, titles: Sequence[str], spans: Sequence[tuple[float, float]] = ()) -> None:
        """Draw points; `spans` are vertical intervals (low, high) through them."""
        for x, (low, high) in zip(xs, spans, strict=False):
            low, high = max(low, self.y.low), min(high, self.y.high)
            self._over.append(
                f'<line class="stroke thin {colour}" x1="{self._px(x):.1f}" x2="{self._px(x):.1f}" '
                f'y1="{self._py(low):.1f}" y2="{self._py(high):.1f}"/>'
            )
        for x, y, title in zip(xs, ys, titles, strict=True):
            self._over.append(
                f'<circle class="dot {colour}" cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="3.5">'
                f"<title>{escape(title)}</title></circle>"
            )

    def rule(self, x: float, text: str) -> None:
        """Draw a dashed vertical line with a text beside its upper end."""
        px, end = self._px(x), self.x.share(x) > 0.6
        self._under.append(
            f'<line class="rule" x1="{px:.1f}" x2="{px:.1f}" y1="{self.TOP}" y2="{self.height - self.BOTTOM}"/>'
        )
        self._over.append(
            f'<text class="note" x="{px + (-6 if end else 6):.1f}" y="{self.TOP + 12}" '
            f'text-anchor="{"end" if end else "start"}">{escape(text)}</text>'
        )

    def diagonal(self) -> None:
        """Draw the reference line from the lower left to the upper right corner."""
        self._under.append(
            f'<line class="rule" x1="{self.LEFT}" x2="{self.width - self.RIGHT}" '
            f'y1="{self.height - self.BOTTOM}" y2="{self.TOP}"/>'
        )

    def _hit(self, x: float, y: float, colour: str, title: str) -> None:
        self._over.append(
            f'<circle class="hit {colour}" cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="6">'
            f"<title>{escape(title)}</title></circle>"
        )

    def _axes(self) -> list[str]:
        bottom, right = self.height - self.BOTTOM, self.width - self.RIGHT
        parts = []
        for tick in self.y.ticks:
            y = self._py(tick)
            parts.append(f'<line class="grid" x1="{self.LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick" x="{self.LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(self.y.text(tick))}</text>"
            )
        for tick in self.x.ticks:
            x = self._px(tick)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
            parts.append(
                f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
                f"{escape(self.x.text(tick))}</text>"
            )
        parts.append(f'<line class="axis" x1="{self.LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
        parts.append(f'<text class="label" x="0" y="14">{escape(self.y.label)}</text>')
        parts.append(
            f'<text class="label" x="{right}" y="{bottom + 38}" text-anchor="end">{escape(self.x.label)}</text>'
        )
        return parts

    def svg(self) -> Markup:
        """Return the SVG element."""
        body = "".join([*self._axes(), *self._under, *self._over])
        return Markup(
            f'<svg class="plot" viewBox="0 0 {self.width} {self.height}" role="img" '
            f'aria-label="{escape(self.title)}">{body}</svg>'
        )

    def legend(self) -> Markup:
        """Return the legend as an HTML list, which wraps on narrow screens; empty for a single entry."""
        return legend(self._entries) if len(self._entries) > 1 else Markup("")


def legend(entries: Iterable[tuple[str, str, str]]) -> Markup:
    """Return an HTML list of (label, colour, kind), kind being ``box`` or ``line ...``."""
    items = "".join(f'<li><i class="{kind} {colour}"></i>{escape(label)}</li>' for label, colour, kind in entries)
    return Markup(f'<ul class="legend">{items}</ul>')


@dataclass(frozen=True)
class Segment:
    """A part of a bar: its length in the bar's unit and what appears on hover."""

    value: float
    colour: str
    title: str


@dataclass(frozen=True)
class Bar:
    """A bar of segments with a text above its left end and one above its right end."""

    segments: Sequence[Segment]
    left: str = ""
    right: str = ""


def stacked_bars(bars: Sequence[Bar], title: str, *, thickness: int = 14, pitch: int = 40) -> Markup:
    """Return horizontal stacked bars on one scale, one below the other.

    Lengths are shares of the box, so the bars follow its width while the text keeps its size.
    """
    longest = max((sum(segment.value for segment in bar.segments) for bar in bars), default=0) or 1.0
    labelled = any(bar.left or bar.right for bar in bars)
    parts = []
    for i, bar in enumerate(bars):
        top = i * pitch + (18 if labelled else 0)
        if bar.left:
            parts.append(f'<text class="tick" x="0" y="{top - 6}">{escape(bar.left)}</text>')
        if bar.right:
            parts.append(f'<text class="tick" x="100%" y="{top - 6}" text-anchor="end">{escape(bar.right)}</text>')
        parts.append(f'<rect class="track" x="0" y="{top}" width="100%" height="{thickness}" rx="2"/>')
        start = 0.0
        for segment in bar.segments:
            parts.append(
                f'<rect class="bar {segment.colour}" x="{start / longest:.3%}" y="{top}" '
                f'width="{segment.value / longest:.3%}" height="{thickness}">'
                f"<title>{escape(segment.title)}</title></rect>"
            )
            start += segment.value
    height = (len(bars) - 1) * pitch + thickness + (18 if labelled else 0) if bars else 0
    return Markup(
        f'<svg class="bars" width="100%" height="{height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
    )
