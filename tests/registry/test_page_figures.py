"""The page's pictures: metrics of every version in its time, and where production went."""

import re
from datetime import timedelta

import pytest
from past import END, Past
from wellformed import WellFormed

from dkeras_core.registry import Registry, page, page_figures, page_rows
from dkeras_core.registry.overview import interval, read_model
from dkeras_core.registry.page_figures import _place, over_versions
from dkeras_core.storage.local import LocalStorage


@pytest.fixture
def registry(tmp_path):
    return Registry(LocalStorage(), str(tmp_path / "root"))


def picture(registry, metric="roc_auc"):
    return over_versions(read_model(registry, "higgs"), metric, END)


def test_the_line_of_production_follows_promotions_and_roll_backs(registry):
    past = Past(registry)
    for number, auc in ((1, 0.80), (2, 0.84), (3, 0.88)):
        past.publish(number, 10 - number, auc)
    past.promote("production", 1, 8.5)
    past.promote("production", 3, 6.0, applied=False)
    past.promote("production", 3, 3.0)
    past.promote("production", 1, 1.0, action="rollback")
    figure = picture(registry)
    (path,) = re.findall(r'class="stroke bold c2" d="([^"]+)"', figure.picture)
    heights = [float(y) for y in re.findall(r"[MV][\d.]* ?([\d.]+)?", path) if y] or None
    moves = re.findall(r"H([\d.]+)V([\d.]+)", path)
    start = float(re.match(r"M[\d.]+ ([\d.]+)", path)[1])
    ys = [start, *(float(y) for _, y in moves)]
    assert len(moves) == 3 and ys[0] == ys[2] == ys[3] > ys[1], (path, heights)
    assert [float(x) for x, _ in moves] == sorted(float(x) for x, _ in moves)
    assert ("production, @1", "0.8000") in figure.facts and ("best, @3", "0.8800") in figure.facts


def test_moments_lie_between_the_versions_by_their_time(registry):
    past = Past(registry)
    for number, ago in ((1, 10), (2, 8), (3, 4)):
        past.publish(number, ago)
    shown = list(reversed(read_model(registry, "higgs").versions))
    places = [_place(shown, END - timedelta(days=ago), END) for ago in (11, 10, 9, 8, 7, 4, 2, 0)]
    assert places == pytest.approx([0, 0, 0.5, 1, 1.25, 2, 2.2, 2.4])


def test_one_failed_training_does_not_flatten_the_others(registry):
    past = Past(registry)
    for number in range(1, 41):
        past.publish(number, 41 - number, 0.5 if number == 7 else 0.90 + number / 4000)
    figure = picture(registry)
    assert figure.caption == "1 far from all others is drawn at the edge."
    ticks = [float(tick) for tick in re.findall(r'text-anchor="end">([\d.]+)</text>', figure.picture)]
    assert min(ticks) > 0.88 and len(ticks) >= 3


def test_thousands_of_deleted_versions_do_not_swell_the_page(registry, monkeypatch):
    monkeypatch.setattr(page_figures, "_MOST", 10)
    monkeypatch.setattr(page_rows, "GONE", 3)
    past = Past(registry)
    for number in range(1, 16):
        past.publish(number, 20 - number)
    for number in range(1, 13):
        past.delete(number, 1.0)
    (points,) = re.findall(r'<path class="points neutral large" d="([^"]+)"', picture(registry).picture)
    assert points.count("M") == 7 and picture(registry).caption == "5 older ones are left out."
    text = WellFormed(page.render(registry)).text
    assert "; 12 deleted" in text and "12 versions, the newest 3 of them" in text


def test_the_best_is_the_least_where_less_is_better_and_living(registry):
    past = Past(registry)
    for number, auc in ((1, 0.95), (2, 0.90), (3, 0.80)):
        past.publish(number, 5 - number, auc)
    past.delete(1, 0.5)
    figure = picture(registry, "log_loss")
    assert [name for name, _ in figure.facts] == ["newest, @3", "best, @2"]
    assert "deleted" in figure.legend and picture(registry, "f1") is None


def test_intervals(registry):
    past = Past(registry)
    past.publish(1, 1.0, 0.9)
    (summary,) = read_model(registry, "higgs").versions

    def of(metrics):
        return interval(summary.model_copy(update={"metrics": metrics}), "roc_auc")

    assert of({"roc_auc": 0.9, "intervals": {"roc_auc": [0.88, 0.91]}}) == (0.88, 0.91)
    assert of({"roc_auc": 0.9, "roc_auc_se": 0.01}) == pytest.approx((0.8804, 0.9196))
    for odd in ({}, {"roc_auc": 0.9}, {"roc_auc": 0.9, "intervals": 3}, {"intervals": {"roc_auc": [None, 1]}}):
        assert of(odd) is None
