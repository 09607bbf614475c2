"""Ticks, coordinates and escaping of the charts."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from dkeras_core.evaluation import text
from dkeras_core.evaluation.charts import Axis, Bar, Plot, Segment, nice_ticks, short, stacked_bars


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.31, 0.69, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (0, 97, [0, 20, 40, 60, 80, 100]),
        (0, 1_234_567, [0, 250_000, 500_000, 750_000, 1_000_000, 1_250_000]),
        (-3.2, 4.1, [-4, -2, 0, 2, 4, 6]),
    ],
)
def test_ticks_are_round_and_hold_the_data(low, high, ticks):
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize(("low", "high"), [(0.3, 0.3), (0, 0), (1e-9, 1.0001e-9), (1e12, 1e12 + 1)])
def test_ticks_of_narrow_ranges_are_few_and_rise(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 12 and ticks[0] <= low and ticks[-1] >= high and ticks == sorted(ticks)


def test_numbers_on_axes():
    axis = Axis.over("rows", [0, 480_000], zero=True)
    assert [axis.text(tick) for tick in axis.ticks] == ["0", "100k", "200k", "300k", "400k", "500k"]
    assert [Axis.unit("x").text(tick) for tick in (0.0, 0.2, 1.0)] == ["0.0", "0.2", "1.0"]
    assert short(2_500_000, 500_000) == "2.5M" and short(-0.25, 0.25) == "−0.25"


def test_a_line_passes_through_its_points():
    plot = Plot("t", Axis("x", 0, 10, (0, 10)), Axis("y", 0, 1, (0, 1)), width=200, height=150)
    plot.line([0, 5, 10], [0, 1, 0.5], "c1")
    svg = ElementTree.fromstring(plot.svg())
    points = svg.find("polyline").get("points").split()
    left, right, top, bottom = plot.LEFT, 200 - plot.RIGHT, plot.TOP, 150 - plot.BOTTOM
    assert points == [
        f"{left:.1f},{bottom:.1f}",
        f"{(left + right) / 2:.1f},{top:.1f}",
        f"{right:.1f},{(top + bottom) / 2:.1f}",
    ]


def test_everything_written_is_escaped():
    hostile = '<script>alert(1)</script>&"'
    plot = Plot(hostile, Axis.unit(hostile), Axis.unit(hostile))
    plot.line([0, 1], [0, 1], "c1", hostile)
    plot.line([0, 1], [0, 1], "c2", hostile, titles=[hostile, ""])
    plot.histogram([0, 0.5, 1], [0.2, 0.4], "c1", hostile, [hostile, hostile])
    plot.dots([0.5], [0.5], "c1", [hostile], [(0.4, 0.6)])
    plot.rule(0.7, hostile)
    bars = stacked_bars([Bar([Segment(1, "c1", hostile)], hostile, hostile)], hostile)
    for markup in (plot.svg(), plot.legend(), bars):
        tree = ElementTree.fromstring(markup)
        assert "<script" not in markup and tree.find(".//script") is None
        assert hostile in "".join(tree.itertext())


def test_stacked_bars_share_one_scale():
    bars = [Bar([Segment(3, "c1", "a"), Segment(1, "c2", "b")]), Bar([Segment(2, "c1", "a")])]
    widths = [rect.get("width") for rect in ElementTree.fromstring(stacked_bars(bars, "t")).iter("rect")]
    assert widths == ["100%", "75.000%", "25.000%", "100%", "50.000%"]
    assert stacked_bars([Bar([Segment(0, "c1", "")])], "nothing spent")


def test_durations_sizes_and_changes():
    assert [text.seconds(s) for s in (0.123, 12.34, 99.99, 245, 7620)] == [
        "0.12 s",
        "12.3 s",
        "1 min 40 s",
        "4 min 5 s",
        "2 h 7 min",
    ]
    assert text.size(9_503_241_111) == "8.9 GiB" and text.size(12) == "12 B"
    assert text.change("roc_auc", 0.9, 0.8) == {"text": "+0.1000", "tone": "better"}
    assert text.change("log_loss", 0.9, 0.8)["tone"] == "worse"
    assert text.change("log_loss", 0.7, 0.8)["tone"] == "better"
    assert text.change("f1", 0.80001, 0.8)["tone"] == "even"
    assert text.change("f1", 0.8, None) is None
