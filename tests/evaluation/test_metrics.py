"""The one-pass statistics against scikit-learn and brute force, whole and merged."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from sklearn import metrics as oracle

from dkeras_core.errors import DataError
from dkeras_core.evaluation import curves, scale
from dkeras_core.evaluation.metrics import METRIC_NAMES, BinaryStatistics


def sample(n=20_000, seed=0, sharpness=1.5, shift=0.0):
    """Scores of a fair model: logits of two classes a few deviations apart; Higgs-like weights."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.34).astype(np.float32)
    logits = sharpness * (rng.normal(size=n) + 1.7 * labels - 0.9) + shift
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    weights = np.where(labels == 1, rng.uniform(0.001, 0.02, n), rng.uniform(0.1, 7, n))
    return scores, labels, weights


def statistics(scores, labels, weights=None, threshold=0.5):
    result = BinaryStatistics(threshold)
    result.update(scores, labels, weights)
    return result


SAMPLES = {
    "ordinary": {},
    "confident": {"sharpness": 7.0},
    "timid": {"sharpness": 0.02},
    "rare": {"shift": -9.0},
    "near one": {"shift": 7.0},
    "few rows": {"n": 40},
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(name, weighted):
    scores, labels, weights = sample(**SAMPLES[name])
    threshold = 0.4
    result = statistics(scores, labels, weights if weighted else None, threshold).result()
    predicted = (scores >= threshold).astype(int)
    for prefix, w in [("", None), ("weighted_", weights)][: 1 + weighted]:
        expected = {
            "accuracy": oracle.accuracy_score(labels, predicted, sample_weight=w),
            "precision": oracle.precision_score(labels, predicted, sample_weight=w, zero_division=0),
            "recall": oracle.recall_score(labels, predicted, sample_weight=w, zero_division=0),
            "f1": oracle.f1_score(labels, predicted, sample_weight=w, zero_division=0),
            "brier": oracle.brier_score_loss(labels, scores, sample_weight=w),
            "roc_auc": oracle.roc_auc_score(labels, scores, sample_weight=w),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn on float32 rows that sum to 1 only nearly
            expected["log_loss"] = oracle.log_loss(labels, scores, sample_weight=w)
        for metric, value in expected.items():
            assert result[prefix + metric] == pytest.approx(value, abs=1e-5), metric
        assert abs(result[f"{prefix}roc_auc"] - expected["roc_auc"]) <= result[f"{prefix}roc_auc_bound"] + 1e-12
        assert result[f"{prefix}roc_auc_bound"] < 1e-3
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert all(metric in result for metric in METRIC_NAMES if weighted or "weighted" not in metric if metric != "ams")


def test_the_bound_of_the_auc_is_small_for_ordinary_scores():
    scores, labels, _ = sample(100_000)
    result = statistics(scores, labels).result()
    assert result["roc_auc_bound"] < 2e-5
    assert abs(result["roc_auc"] - oracle.roc_auc_score(labels, scores)) < 1e-7


def test_the_scale_is_monotone_and_its_edges_are_its_smallest_scores():
    rng = np.random.default_rng(1)
    logistic = 1 / (1 + np.exp(-rng.normal(0, 10, 100_000)))
    special = [0, -0.0, 1e-45, 2**-40, 2**-5, 0.5, 1, *np.nextafter(np.float32([0.5, 1, 2**-5]), np.float32(0))]
    scores = np.sort(np.concatenate([rng.random(100_000), logistic, special, scale.edges()]).astype(np.float32))
    bins, edges = scale.bins(scores), scale.edges()
    assert (np.diff(bins) >= 0).all() and bins[0] == 0 and bins[-1] == scale.BINS - 1
    assert (edges[bins] <= scores).all() and (scores < np.append(edges[1:], 2)[bins]).all()
    widths = np.diff(edges.astype(np.float64))
    nearer = np.minimum(edges[1:], 1 - edges[:-1].astype(np.float64))
    assert (widths <= 2**-16 + 2**-24).all() and (widths <= np.maximum(nearer / 2048, 2**-24) * 1.01 + 1e-12).all()


@pytest.mark.parametrize("seed", range(3))
def test_any_split_merges_to_the_whole(seed):
    scores, labels, weights = sample(5_000)
    totals = {"positive": 690.0, "negative": 410_000.0}
    whole = statistics(scores, labels, weights).result(totals)
    rng = np.random.default_rng(seed)
    part = rng.integers(0, 7, len(scores))
    part[part == 3] = 4  # partition 3 is empty
    merged = BinaryStatistics()
    for p in rng.permutation(7):
        piece = BinaryStatistics()
        for batch in np.array_split(np.flatnonzero(part == p), 3):
            piece.update(scores[batch], labels[batch], weights[batch])
        merged.merge(BinaryStatistics.from_bytes(piece.to_bytes()))

    def compare(left, right, path=""):
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            for key in left:
                compare(left[key], right[key], f"{path}/{key}")
        elif isinstance(left, list):
            assert len(left) == len(right)
            for i, pair in enumerate(zip(left, right, strict=True)):
                compare(*pair, f"{path}/{i}")
        else:
            assert left == right or left == pytest.approx(right, rel=1e-12), path

    compare(merged.result(totals), whole)
    assert merged.result()["confusion"] == whole["confusion"]  # counts: bit for bit


def test_bytes_round_trip_bit_for_bit_and_damage_is_refused():
    for full in (statistics(*sample(3_000)), statistics(*sample(3_000)[:2]), BinaryStatistics(0.25)):
        data = full.to_bytes()
        again = BinaryStatistics.from_bytes(data)
        assert again.to_bytes() == data and again.rows == full.rows and again.threshold == full.threshold
        for damaged in (b"", data[:20], data[:-3], b"XXXXX" + data[5:], data[:-9] + b"123456789"):
            with pytest.raises(DataError, match="damaged"):
                BinaryStatistics.from_bytes(damaged)


def test_ams_is_the_maximum_of_the_brute_force_computation():
    scores, labels, weights = sample(2_000, seed=3)
    totals = {"positive": 691.99, "negative": 410_999.85}
    signal_scale = totals["positive"] / weights[labels == 1].sum()
    background_scale = totals["negative"] / weights[labels == 0].sum()
    values = {}
    for threshold in np.unique(scores):
        selected = scores >= threshold
        s = weights[selected & (labels == 1)].sum() * signal_scale
        b = weights[selected & (labels == 0)].sum() * background_scale
        values[threshold] = (np.sqrt(2 * ((s + b + 10) * np.log(1 + s / (b + 10)) - s)), s, b)
    best = max(values.values())
    result = statistics(scores, labels, weights).result(totals)
    assert result["ams"] == pytest.approx(best[0], rel=1e-3)
    assert result["ams_signal"] == pytest.approx(best[1], rel=1e-2)
    # the threshold reported selects exactly what the reported numbers say
    selected = scores >= np.float32(result["ams_threshold"])
    s = weights[selected & (labels == 1)].sum() * signal_scale
    b = weights[selected & (labels == 0)].sum() * background_scale
    assert (result["ams_signal"], result["ams_background"]) == pytest.approx((s, b), rel=1e-9)
    assert result["ams"] == pytest.approx(curves.median_significance(s, b), rel=1e-9)
    curve = result["curves"]["ams"]
    assert max(curve["ams"]) == result["ams"]
    for threshold, value in list(zip(curve["threshold"], curve["ams"], strict=True))[::20]:
        selected = scores >= threshold
        s = weights[selected & (labels == 1)].sum() * signal_scale
        b = weights[selected & (labels == 0)].sum() * background_scale
        assert value == pytest.approx(curves.median_significance(s, b), rel=2e-2, abs=1e-9)


def test_ams_does_not_depend_on_the_share_of_rows_held_out():
    scores, labels, weights = sample(20_000)
    totals = {"positive": 692.0, "negative": 411_000.0}
    ams = statistics(scores, labels, weights).result(totals)["ams"]
    assert statistics(scores, labels, weights * 7).result(totals)["ams"] == pytest.approx(ams, rel=1e-12)


def test_ams_needs_weights_and_totals():
    scores, labels, weights = sample(100)
    assert "ams" not in statistics(scores, labels).result({"positive": 1.0, "negative": 1.0})
    assert "ams" not in statistics(scores, labels, weights).result()


def test_standard_error_of_the_auc_is_that_of_delong():
    scores, labels, _ = sample(400, seed=5)
    x, y = scores[labels == 1].astype(float), scores[labels == 0].astype(float)
    wins = (x[:, None] > y).astype(float) + 0.5 * (x[:, None] == y)
    expected = np.sqrt(wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y))
    assert statistics(scores, labels).result()["roc_auc_se"] == pytest.approx(expected, rel=1e-3)


def test_roc_points_lie_on_the_curve():
    scores, labels, _ = sample(20_000)
    curve = statistics(scores, labels).result()["curves"]["roc"]
    assert 150 <= len(curve["fpr"]) <= 203
    assert (curve["fpr"][0], curve["tpr"][0], curve["threshold"][0]) == (0, 0, None)
    assert (curve["fpr"][-1], curve["tpr"][-1]) == (1, 1)
    for fpr, tpr, threshold in list(zip(curve["fpr"], curve["tpr"], curve["threshold"], strict=True))[1::10]:
        selected = scores >= np.float32(threshold)
        assert fpr == pytest.approx(selected[labels == 0].mean(), abs=1e-12)
        assert tpr == pytest.approx(selected[labels == 1].mean(), abs=1e-12)
    steps = np.hypot(np.diff(curve["fpr"]), np.diff(curve["tpr"]))
    assert steps.max() < 0.03  # no long jumps: the drawn curve is smooth
    assert np.trapezoid(curve["tpr"], curve["fpr"]) == pytest.approx(oracle.roc_auc_score(labels, scores), abs=2e-3)


def test_histograms_and_calibration():
    scores, labels, _ = sample(20_000)
    result = statistics(scores, labels).result()
    histogram = result["curves"]["scores"]
    for name, label in (("positive", 1), ("negative", 0)):
        expected, edges = np.histogram(scores[labels == label], bins=50, range=(0, 1), density=True)
        assert histogram[name] == pytest.approx(expected, abs=0.01)
        assert histogram["edges"] == pytest.approx(edges)
    calibration = result["curves"]["calibration"]
    place = np.minimum((scores * 20).astype(int), 19)  # the bins' edges are exact to 2^-16: a row or two differ
    assert calibration["rows"] == pytest.approx([(place == i).sum() for i in range(20)], abs=2)
    assert calibration["score"] == pytest.approx([scores[place == i].mean() for i in range(20)], abs=1e-4)
    assert calibration["observed"] == pytest.approx([labels[place == i].mean() for i in range(20)], abs=2e-3)
    gaps = np.abs(np.subtract(calibration["score"], calibration["observed"]))
    assert result["calibration_error"] == pytest.approx(np.average(gaps, weights=calibration["rows"]), abs=1e-6)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only(label):
    result = statistics(np.float32([0.1, 0.7]), np.full(2, label), np.ones(2)).result(
        {"positive": 1.0, "negative": 1.0}
    )
    assert result["roc_auc"] is result["roc_auc_se"] is result["ams"] is result["weighted_roc_auc"] is None
    assert result["accuracy"] == 0.5 and result["curves"]["roc"]["fpr"] == []


def test_all_scores_equal():
    result = statistics(np.full(10, 0.5, np.float32), np.arange(10) % 2).result()
    assert result["roc_auc"] == 0.5 and result["roc_auc_bound"] == 0.5 and result["accuracy"] == 0.5
    assert result["curves"]["roc"]["fpr"] == [0, 1]


def test_extreme_scores_have_a_finite_log_loss():
    result = statistics(np.float32([0, 1, 1e-45]), np.array([1, 0, 0])).result()
    assert result["log_loss"] == pytest.approx(-2 / 3 * np.log(np.finfo(np.float32).eps), rel=1e-6)


def test_rows_of_no_weight_count_for_nothing_weighted():
    scores, labels, weights = sample(1_000)
    weights[::2] = 0
    result = statistics(scores, labels, weights).result()
    expected = oracle.roc_auc_score(labels[1::2], scores[1::2], sample_weight=weights[1::2])
    assert result["weighted_roc_auc"] == pytest.approx(expected, abs=1e-5)


def test_refused_rows_are_numbered_over_all_partitions():
    first, second = BinaryStatistics(), BinaryStatistics()
    first.update(np.float32([np.nan, 0.5, np.inf]), np.array([0, 1, 1]))
    second.update(np.float32([np.nan, 1.5, 0.5, 0.2]), np.array([0, 1, 2, 0]))
    merged = BinaryStatistics.from_bytes(first.to_bytes()).merge(second)
    with pytest.raises(DataError) as caught:
        merged.result()
    message = str(caught.value)
    assert "3 scores that are NaN" in message and "among 7 rows" in message
    assert "1 scores outside" in message and "1 labels" in message
    with pytest.raises(DataError, match="2 weights"):
        statistics(np.float32([0.1, 0.2, 0.3]), np.zeros(3), np.array([-1, np.nan, 1])).result()


def test_misuse_is_refused():
    with pytest.raises(DataError, match="no rows"):
        BinaryStatistics().result()
    with pytest.raises(DataError, match="one length"):
        statistics(np.zeros(3, np.float32), np.zeros(4))
    with pytest.raises(DataError, match="thresholds"):
        BinaryStatistics(0.5).merge(BinaryStatistics(0.6))
    with pytest.raises(DataError, match="mixed"):
        statistics(*sample(10)).merge(statistics(*sample(10)[:2]))


def test_what_the_scale_cannot_tell_apart_shows_in_the_bound():
    scores, labels, _ = sample(sharpness=20.0)  # a fifth of the scores lie below 2^-40
    result = statistics(scores, labels).result()
    error = abs(result["roc_auc"] - oracle.roc_auc_score(labels, scores))
    assert 1e-4 < error < result["roc_auc_bound"]
