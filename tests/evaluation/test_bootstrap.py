"""Intervals against a bootstrap of the rows themselves, against DeLong's formulas, and against the truth."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn import metrics as oracle

from dkeras_core.evaluation import bootstrap
from dkeras_core.evaluation.bootstrap import compare, intervals
from dkeras_core.evaluation.curves import median_significance
from dkeras_core.evaluation.metrics import METRIC_NAMES, PLAIN, BinaryStatistics
from dkeras_core.evaluation.paired import PairedStatistics

TOTALS = {"positive": 692.0, "negative": 411_000.0}


def models(n, seed=0, noise=0.3, worse=0.2, separation=1.7):
    """Scores of two models that see the same signal with noise of their own; labels; Higgs-like weights."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.34).astype(np.float32)
    signal = rng.normal(size=n) + separation * labels - separation / 2

    def scores(noise):
        return (1 / (1 + np.exp(-1.5 * (signal + noise * rng.normal(size=n))))).astype(np.float32)

    weights = np.where(labels == 1, rng.uniform(0.001, 0.02, n), rng.uniform(0.1, 7, n))
    return scores(noise), scores(noise + worse), labels, weights


def gathered(scores, labels, weights=None, threshold=0.5):
    statistics = BinaryStatistics(threshold)
    statistics.update(scores, labels, weights)
    return statistics, statistics.result(TOTALS if weights is not None else None)


def compared(first, second, labels, weights=None, **options):
    paired = PairedStatistics()
    paired.update(first, second, labels, weights)
    results = [gathered(scores, labels, weights)[1] for scores in (first, second)]
    return compare(paired, *results, TOTALS if weights is not None else None, **options)


def spread(interval):
    """The standard error that a 95 % interval stands for."""
    return (interval[1] - interval[0]) / (2 * 1.96)


def of_rows(scores, labels, weights, ams_threshold):
    """One metric of one drawing of rows, each counted ``weights`` times, by other means than the package's."""
    predicted = scores >= 0.5
    clipped = np.clip(scores.astype(np.float64), 1.2e-7, 1 - 1.2e-7)
    selected = scores >= np.float32(ams_threshold)
    signal = weights[selected & (labels == 1)].sum() / weights[labels == 1].sum() * TOTALS["positive"]
    background = weights[selected & (labels == 0)].sum() / weights[labels == 0].sum() * TOTALS["negative"]
    some = weights > 0
    return {
        "accuracy": np.average(predicted == labels, weights=weights),
        "precision": oracle.precision_score(labels, predicted, sample_weight=weights),
        "recall": oracle.recall_score(labels, predicted, sample_weight=weights),
        "f1": oracle.f1_score(labels, predicted, sample_weight=weights),
        "log_loss": np.average(-np.log(np.where(labels == 1, clipped, 1 - clipped)), weights=weights),
        "brier": np.average((scores - labels) ** 2, weights=weights),
        "roc_auc": oracle.roc_auc_score(labels[some], scores[some], sample_weight=weights[some]),
        "ams": median_significance(signal, background),
    }


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_a_bootstrap_of_the_rows(weighted):
    scores, _, labels, weights = models(300, seed=3)
    statistics, result = gathered(scores, labels, weights)
    found = intervals(statistics, result, TOTALS, replicates=4000)
    rng = np.random.default_rng(99)
    drawn = [
        of_rows(scores, labels, rng.poisson(1, 300) * (weights if weighted else 1.0), result["ams_threshold"])
        for _ in range(2000)
    ]
    names = [(f"weighted_{name}", name) for name in PLAIN] + [("ams", "ams")] if weighted else zip(PLAIN, PLAIN)  # noqa: B905
    for name, plain in names:
        expected = np.quantile([replicate[plain] for replicate in drawn], [0.025, 0.975])
        assert found[name] == pytest.approx(expected, abs=0.15 * (expected[1] - expected[0])), name
        assert spread(found[name]) == pytest.approx(spread(expected), rel=0.1), name


def test_standard_errors_are_those_of_the_formulas():
    scores, _, labels, _ = models(3_000)
    statistics, result = gathered(scores, labels)
    found = intervals(statistics, result)
    losses = -np.log(np.where(labels == 1, scores, 1 - scores).astype(np.float64))
    expected = {
        "roc_auc": result["roc_auc_se"],  # DeLong
        "log_loss": losses.std() / np.sqrt(3_000),
        "accuracy": np.sqrt(result["accuracy"] * (1 - result["accuracy"]) / 3_000),
        "recall": np.sqrt(result["recall"] * (1 - result["recall"]) / result["positives"]),
    }
    for name, value in expected.items():
        assert spread(found[name]) == pytest.approx(value, rel=0.08), name
        assert found[name][0] < result[name] < found[name][1]


def test_every_metric_has_an_interval_around_it_but_the_calibration_error():
    scores, _, labels, weights = models(400)
    statistics, result = gathered(scores, labels, weights, threshold=0.37)
    found = intervals(statistics, result, TOTALS, replicates=200)
    assert set(found) == set(METRIC_NAMES) - {"calibration_error"}
    for name, (low, high) in found.items():
        assert type(low) is type(high) is float and low < result[name] < high, name
    assert intervals(statistics, result, TOTALS, replicates=200) == found  # the same again: reports can be compared
    wider = intervals(statistics, result, TOTALS, replicates=200, confidence=0.99)
    assert spread(wider["roc_auc"]) > 1.1 * spread(found["roc_auc"])


def test_rows_beside_the_threshold_in_one_bin_are_told_apart():
    """Half of the rows lie a hair below the threshold, half above: binned alone they would be one cell."""
    scores = np.tile(np.float32([0.3, 0.3 + 3e-8]), 500)
    labels = np.tile([0.0, 1.0], 500)
    labels[:100] = 1 - labels[:100]
    statistics, result = gathered(scores, labels, np.ones(1000), threshold=float(np.float32(0.3 + 3e-8)))
    assert len(np.flatnonzero(statistics.counts.sum(axis=0))) == 1 and result["accuracy"] == 0.9
    found = intervals(statistics, result, replicates=400)
    for name in ("accuracy", "recall", "weighted_accuracy", "weighted_precision"):
        assert spread(found[name]) == pytest.approx(np.sqrt(0.09 / (1000 if "acc" in name else 500)), rel=0.2), name


def test_cells_that_are_coarse_widen_nothing_and_move_nothing(monkeypatch):
    """With 40 cells the binned metrics are off; their intervals still lie around the exact ones."""
    scores, _, labels, _ = models(2_000)
    statistics, result = gathered(scores, labels)
    fine = intervals(statistics, result)
    monkeypatch.setattr(bootstrap, "_CELLS", 40)
    for name, (low, high) in intervals(statistics, result).items():
        assert spread([low, high]) == pytest.approx(spread(fine[name]), rel=0.3), name
        assert (low + high) / 2 == pytest.approx(result[name], abs=0.25 * spread(fine[name])), name


def test_ties_count_half_in_every_replicate():
    scores, _, labels, _ = models(2_000)
    statistics, result = gathered(np.where(scores > 0.5, np.float32(0.8), np.float32(0.2)), labels)
    found = intervals(statistics, result)["roc_auc"]
    assert spread(found) == pytest.approx(result["roc_auc_se"], rel=0.08)


def test_what_cannot_be_told_has_no_interval():
    one_class, result = gathered(np.float32([0.1, 0.7, 0.8]), np.ones(3))
    found = intervals(one_class, result, replicates=100)
    assert "roc_auc" not in found and "accuracy" in found
    perfect, result = gathered(np.float32([0.1, 0.2, 0.8, 0.9] * 9), np.array([0, 0, 1, 1] * 9))
    found = intervals(perfect, result, replicates=100)
    assert "accuracy" not in found and "roc_auc" not in found and "log_loss" in found


def paired_delong(first, second, labels):
    """Difference of two areas under the curve and its standard error (DeLong et al., 1988) from all placements."""

    def placements(scores):
        x, y = scores[labels == 1].astype(float), scores[labels == 0].astype(float)
        ranks = rankdata(np.concatenate([x, y]))
        return (ranks[: len(x)] - rankdata(x)) / len(y), 1 - (ranks[len(x) :] - rankdata(y)) / len(x)

    (x1, y1), (x2, y2) = placements(first), placements(second)
    variance = (x1 - x2).var(ddof=1) / len(x1) + (y1 - y2).var(ddof=1) / len(y1)
    return x1.mean() - x2.mean(), np.sqrt(variance)


@pytest.mark.parametrize("noise", [0.3, 0.01])
def test_the_difference_of_two_models_has_the_error_of_delong(noise):
    """Also for two models that are nearly the same, and with cells made coarser because there are many rows."""
    n = 4_000
    first, second, labels, _ = models(n, noise=noise, worse=noise)
    paired = PairedStatistics(limit=3_000)
    paired.update(first, second, labels)
    assert paired.level > 0
    results = [gathered(scores, labels)[1] for scores in (first, second)]
    found = compare(paired, *results)
    gain, error = paired_delong(first, second, labels)
    assert found["roc_auc"]["gain"] == pytest.approx(gain, abs=1e-5)
    assert spread(found["roc_auc"]["interval"]) == pytest.approx(error, rel=0.1)
    losses = [-np.log(np.where(labels == 1, s, 1 - s).astype(np.float64)) for s in (first, second)]
    assert found["log_loss"]["gain"] == pytest.approx((losses[1] - losses[0]).mean(), abs=1e-6)
    assert spread(found["log_loss"]["interval"]) == pytest.approx((losses[1] - losses[0]).std() / n**0.5, rel=0.1)
    # pairing is what makes small differences visible
    alone = max(result["roc_auc_se"] for result in results)
    assert spread(found["roc_auc"]["interval"]) < alone


def test_gain_is_positive_where_the_first_is_better_and_the_other_way_round():
    first, second, labels, weights = models(3_000, worse=0.6)
    found = compared(first, second, labels, weights, replicates=300)
    back = compared(second, first, labels, weights, replicates=300)
    assert set(found) == set(back) == set(METRIC_NAMES) - {"calibration_error"}
    for name in ("roc_auc", "log_loss", "brier", "weighted_roc_auc", "weighted_log_loss"):
        assert found[name]["gain"] > 0 and found[name]["interval"][0] > 0, name
        assert back[name]["gain"] == -found[name]["gain"] and back[name]["interval"][1] < 0, name
        assert spread(back[name]["interval"]) == pytest.approx(spread(found[name]["interval"]), rel=0.2), name


def test_a_model_is_not_worse_than_itself():
    first, _, labels, weights = models(500)
    for result in compared(first, first, labels, weights, replicates=100).values():
        assert result == {"gain": 0.0, "interval": [0.0, 0.0]}


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """300 rows, again and again: the truth is known, for scores are normal in both classes."""
    truth = 0.5 * (1 + erf(1.7 / np.sqrt(1 + 0.09) / 2))
    covered = []
    for seed in range(400):
        scores, _, labels, _ = models(300, seed)
        statistics = BinaryStatistics()
        statistics.update(scores, labels)
        found = intervals(statistics, {"roc_auc": oracle.roc_auc_score(labels, scores)}, replicates=400)
        covered.append(found["roc_auc"][0] <= truth <= found["roc_auc"][1])
    assert 0.92 <= np.mean(covered) <= 0.98, np.mean(covered)


@pytest.mark.slow
def test_equal_models_are_called_significantly_worse_as_rarely_as_promised():
    """One in 40, by chance; a model that is worse by three standard errors is found out mostly."""

    def worse(n, seed, **noise):
        good, bad, labels, _ = models(n, seed, **noise)
        paired = PairedStatistics()
        paired.update(bad, good, labels)
        areas = [{"roc_auc": oracle.roc_auc_score(labels, scores)} for scores in (bad, good)]
        return compare(paired, *areas, replicates=300)["roc_auc"]["interval"][1] < 0

    wrong = np.mean([worse(400, seed, noise=0.4, worse=0.0) for seed in range(500)])
    found = np.mean([worse(2_000, seed, noise=0.3, worse=0.2) for seed in range(50)])
    assert 0.008 <= wrong <= 0.045 and found > 0.8, (wrong, found)
