"""Curves and rank statistics from counts (or weight sums) ``[class, bin]`` on the quantised score axis.

Every function takes an array of shape [2, scale.BINS], row 0 the negative class, and returns plain lists that JSON
and the report can hold. Where the answer is undefined (a class has no rows) it is None or empty.
"""

from __future__ import annotations

import math

import numpy as np

from dkeras_core.evaluation import scale

#: The regularisation term of the ATLAS Higgs challenge (Adam-Bourdarios et al., 2014, eq. 7).
B_REG = 10.0


def roc_auc(counts: np.ndarray) -> tuple[float | None, float | None, float | None]:
    """Return the area under the ROC curve, the bound on the error of binning, and the standard error.

    A pair of a positive and a negative in one bin counts one half; were the scores not binned it would count 0 to 1,
    hence the bound: half the share of such pairs. The standard error (DeLong et al., 1988) holds for counts of
    independent rows; it is None for fewer than two rows of a class.
    """
    negative, positive = counts.astype(np.float64)
    n, p = negative.sum(), positive.sum()
    if not n or not p:
        return None, None, None
    # placements: the share of the other class below (positives) or above (negatives) a row of this bin
    below = (np.cumsum(negative) - negative / 2) / n
    above = (p - np.cumsum(positive) + positive / 2) / p
    auc = float(positive @ below / p)
    bound = float(positive @ negative / (2 * p * n))
    if n < 2 or p < 2:
        return auc, bound, None
    variance = positive @ (below - auc) ** 2 / (p - 1) / p + negative @ (above - auc) ** 2 / (n - 1) / n
    return auc, bound, math.sqrt(variance)


def roc(counts: np.ndarray, points: int = 200) -> dict:
    """Return the ROC curve at about `points` thresholds, evenly spaced along the curve, ends included.

    Each is a point of the true curve: rows with ``score >= threshold`` give ``fpr`` and ``tpr``; the first
    threshold is None (nothing is selected).
    """
    negative, positive = counts.astype(np.float64)
    if not negative.sum() or not positive.sum():
        return {"fpr": [], "tpr": [], "threshold": []}
    occupied = np.flatnonzero(negative + positive)[::-1]
    fpr = np.append(0, np.cumsum(negative[occupied]) / negative.sum())
    tpr = np.append(0, np.cumsum(positive[occupied]) / positive.sum())
    keep = _spread(fpr + tpr, points)
    thresholds = [None, *scale.edges()[occupied].tolist()]
    return {
        "fpr": np.minimum(fpr[keep], 1).tolist(),
        "tpr": np.minimum(tpr[keep], 1).tolist(),
        "threshold": [thresholds[i] for i in keep],
    }


def _spread(position: np.ndarray, points: int) -> np.ndarray:
    """Return indices of at most `points` entries of the rising `position`, about evenly spaced, with both ends."""
    targets = np.linspace(position[0], position[-1], points)
    indices = np.searchsorted(position, targets).clip(0, len(position) - 1)
    return np.unique(np.concatenate([[0], indices, [len(position) - 1]]))


def score_histograms(counts: np.ndarray, bins: int = 50) -> dict:
    """Return densities of the score of each class over `bins` equal bins of [0, 1]; each integrates to 1."""
    coarse = np.minimum((scale.middles() * bins).astype(np.int64), bins - 1)
    densities = []
    for row in counts:
        total = row.sum()
        histogram = np.bincount(coarse, row, minlength=bins)
        densities.append((histogram / total * bins).tolist() if total else [0.0] * bins)
    return {
        "edges": np.linspace(0, 1, bins + 1).tolist(),
        "negative": densities[0],
        "positive": densities[1],
    }


def calibration(counts: np.ndarray, bins: int = 20) -> tuple[dict, float | None]:
    """Return the reliability curve over `bins` equal bins of the score and the expected calibration error.

    For each bin that holds rows: their mean score (from bin middles, exact to 2^-17), the share of positives, and
    their number. The calibration error is the mean distance of the two, weighted by number.
    """
    coarse = np.minimum((scale.middles() * bins).astype(np.int64), bins - 1)
    rows = np.bincount(coarse, counts.sum(axis=0), minlength=bins)
    positives = np.bincount(coarse, counts[1], minlength=bins)
    scores = np.bincount(coarse, counts.sum(axis=0) * scale.middles(), minlength=bins)
    held = rows > 0
    rows, positives, scores = rows[held], positives[held], scores[held]
    curve = {
        "score": (scores / rows).tolist(),
        "observed": (positives / rows).tolist(),
        "rows": rows.astype(np.int64).tolist(),
    }
    return curve, float(np.abs(positives - scores).sum() / rows.sum()) if rows.sum() else None


def median_significance(signal, background):
    """Return the approximate median significance sqrt(2 ((s + b + b_reg) ln(1 + s / (b + b_reg)) - s)).

    Parameters
    ----------
    signal, background : float or float64[n]
        Expected weights s and b of the rows selected (eq. 7 of the challenge's documentation, b_reg = 10).
    """
    regularised = background + B_REG
    # For s << b the two terms cancel to s^2 / 2b: log1p keeps the digits, maximum catches what rounding leaves.
    square = 2 * ((signal + regularised) * np.log1p(signal / regularised) - signal)
    return np.sqrt(np.maximum(square, 0))


def ams(weights: np.ndarray, positive_total: float, negative_total: float, points: int = 200) -> tuple[dict, dict]:
    """Return the greatest AMS over all thresholds, with its threshold, and the curve AMS over threshold.

    Parameters
    ----------
    weights : float64[2, scale.BINS]
        Weight sums of the rows evaluated; each class is scaled to its total.
    positive_total, negative_total : float
        Weight sums of the whole data set.
    """
    sums = weights.sum(axis=1)
    if not sums.all():
        empty = {"ams": None, "ams_threshold": None, "ams_signal": None, "ams_background": None}
        return empty, {"threshold": [], "ams": []}
    # reversed cumulative sums: what `score >= edge of the bin` selects
    selected = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
    background = selected[0] * (negative_total / sums[0])
    signal = selected[1] * (positive_total / sums[1])
    values = median_significance(signal, background)
    occupied = np.flatnonzero(weights.sum(axis=0))
    best = occupied[np.argmax(values[occupied])]
    edges = scale.edges()
    summary = {
        "ams": float(values[best]),
        "ams_threshold": float(edges[best]),
        "ams_signal": float(signal[best]),
        "ams_background": float(background[best]),
    }
    thresholds = np.unique(np.append(np.linspace(0, 1, points + 1), edges[best].astype(np.float64)))
    at = np.searchsorted(edges, thresholds).clip(0, scale.BINS - 1)
    return summary, {"threshold": thresholds.tolist(), "ams": values[at].tolist()}
