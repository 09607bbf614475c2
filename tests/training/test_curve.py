"""The curve keeps every worker's story in bounded space and knows the totals of the moment."""

from types import SimpleNamespace

import pytest

from dkeras_core.training.curve import LIMIT, Curve

SETTINGS = SimpleNamespace(rows=1000, epochs=4)


def test_state_adds_up_the_workers():
    curve = Curve()
    curve.add(0, 0, {"rows": 300, "loss": 0.4})
    curve.add(1, 0, {"rows": 200, "loss": 0.6})
    state = curve.state(4000, SETTINGS)
    assert (state["rows"], state["rows_total"], state["epoch"], state["loss"]) == (500, 4000, 0.5, 0.5)


def test_a_report_without_loss_counts_rows_only():
    curve = Curve()
    curve.add(0, 0, {"state": "spooling"})
    assert curve.state(4000, SETTINGS)["loss"] is None
    assert curve.points() == []


def test_points_stay_bounded_and_keep_first_and_last_region():
    curve = Curve()
    for step in range(10 * LIMIT):
        curve.add(0, 0, {"rows": step, "loss": 1.0})
    points = curve.points()
    assert LIMIT / 3 < len(points) <= LIMIT + 1
    assert points[0]["rows"] == 0
    assert points[-1]["rows"] > 10 * LIMIT * 0.98


def test_parts_divide_what_came_since_they_were_last_asked():
    curve = Curve()
    assert [mean for _, mean in curve.parts(2)] == [None, None]
    curve.add(0, 0, {"rows": 100, "loss": 1.0})
    curve.add(1, 0, {"rows": 200, "loss": 0.4})
    assert [mean for _, mean in curve.parts(3)] == pytest.approx([1.0, 0.4, 0.4])
    for step in range(10 * LIMIT):
        curve.add(0, 0, {"rows": 100 + step, "loss": 0.5})
    assert len(curve._marks) <= 4 * LIMIT + 1
    (seconds, mean), (later, second) = curve.parts(2)
    assert (mean, second) == pytest.approx((0.5, 0.5)) and seconds <= later


def test_a_newer_attempt_begins_its_line_again():
    curve = Curve()
    curve.add(0, 0, {"rows": 900, "loss": 0.3})
    curve.add(0, 1, {"rows": 50, "loss": 0.5})
    assert [point["rows"] for point in curve.points()] == [50]
    assert curve.state(4000, SETTINGS)["rows"] == 50


def test_totals_never_go_back_when_a_worker_is_started_again():
    curve = Curve()
    curve.add(0, 3, {"rows": 900, "loss": 0.5})
    curve.add(1, 4, {"rows": 100, "loss": 1.0})
    assert curve.parts(1)[0][1] == pytest.approx(0.55)
    curve.add(0, 7, {"state": "spooling"})
    assert curve.parts(1)[0][1] is None
    curve.add(0, 7, {"rows": 100, "loss": 0.25})
    curve.add(0, 3, {"rows": 950, "loss": 9.0})  # the lost attempt's last word
    curve.add(0, 7, {"rows": 300, "loss": 0.5})
    assert curve.parts(1)[0][1] == pytest.approx((0.25 * 100 + 0.5 * 200) / 300)
    assert curve.latest()[0] == (300, 0.5)
