"""Metrics of binary classification from mergeable statistics that are gathered in one pass.

:class:`BinaryStatistics` holds counts and weight sums on the score axis of :mod:`dkeras_core.evaluation.scale`, one
row a class, plus the exact confusion counts and loss sums. Statistics of two sets of rows add up to those of their
union, so partitions are gathered apart and merged in any order. Memory is fixed: 3 MB, with weights 10 MB.

Multi-class statistics would stand beside it as a second class with the same four methods (update, merge, to_bytes /
from_bytes, result).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import numpy as np

from dkeras_core.errors import DataError
from dkeras_core.evaluation import curves, scale

#: Probabilities are clipped to [CLIP, 1 - CLIP] before the logarithm (the resolution of float32, as scikit-learn).
CLIP = float(np.finfo(np.float32).eps)

PLAIN = ("accuracy", "precision", "recall", "f1", "log_loss", "brier", "roc_auc")
#: Every number that a gate may name. The weighted ones and ams exist only for data with weights.
METRIC_NAMES = (
    *PLAIN,
    "calibration_error",
    "ams",
    *(f"weighted_{name}" for name in PLAIN),
)
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error", "weighted_log_loss", "weighted_brier"})

_REFUSALS = (
    "scores that are NaN or infinite",
    "scores outside [0, 1]",
    "labels that are neither 0 nor 1",
    "weights that are negative, NaN or infinite",
)
_MAGIC = b"DKBS2"
_HEADER = struct.Struct("<5sdbI")  # magic, threshold, weighted (-1: not known yet), cells that hold rows


class BinaryStatistics:
    """Sufficient statistics of scores against labels.

    Parameters
    ----------
    threshold : float
        Scores greater than or equal to it are predicted positive (accuracy, precision, recall, F1).
    """

    def __init__(self, threshold: float = 0.5):
        self.threshold = float(threshold)
        self.weighted: bool | None = None  # not known before the first row
        self.counts = np.zeros((2, scale.BINS), np.int64)  # [class, bin]
        self.weights: np.ndarray | None = None  # float64 [class, bin]
        self.squares: np.ndarray | None = None  # sums of squared weights: how much chance is in the sum of the weights
        self.confusion = np.zeros((2, 2), np.int64)  # [class, predicted]
        self.weighted_confusion = np.zeros((2, 2))
        self.losses = np.zeros((2, 2))  # [plain or weighted, log loss or squared error]
        self.refused = np.zeros(len(_REFUSALS), np.int64)

    @property
    def rows(self) -> int:
        """Rows seen, the refused ones included."""
        return int(self.confusion.sum() + self.refused.sum())

    def update(self, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add rows.

        Rows that cannot be judged (NaN score and the like) are counted apart; :meth:`result` refuses them by number,
        so that the message tells of the whole data set, not of the first batch.

        Parameters
        ----------
        scores : float32[n], probabilities of the positive class.
        labels : [n], 0 or 1.
        weights : float64[n], optional; in all calls or in none.
        """
        scores = np.asarray(scores, np.float32)
        labels = np.asarray(labels)
        if scores.ndim != 1 or labels.shape != scores.shape:
            raise DataError(f"scores {scores.shape} and labels {labels.shape} must be vectors of one length")
        if not len(scores):
            return
        self._settle_weighted(weights is not None)
        reasons = np.zeros(len(scores), np.int8)  # 0: the row is good; else 1 + index of the first refusal
        if weights is not None:
            weights = np.asarray(weights, np.float64)
            if weights.shape != scores.shape:
                raise DataError(f"weights {weights.shape} and scores {scores.shape} differ in shape")
            reasons[~(np.isfinite(weights) & (weights >= 0))] = 4
        reasons[~((labels == 0) | (labels == 1))] = 3
        reasons[~((scores >= 0) & (scores <= 1))] = 2
        reasons[~np.isfinite(scores)] = 1
        if reasons.any():
            self.refused += np.bincount(reasons, minlength=5)[1:]
            good = reasons == 0
            scores, labels = scores[good], labels[good]
            weights = weights[good] if weights is not None else None

        positive = labels.astype(np.int64)
        cell = positive * scale.BINS + scale.bins(scores)
        predicted = positive * 2 + (scores >= self.threshold)
        probability = scores.astype(np.float64)
        clipped = np.clip(probability, CLIP, 1 - CLIP)
        log_loss = -np.log(np.where(positive == 1, clipped, 1 - clipped))
        squared = (probability - positive) ** 2

        np.add.at(self.counts.reshape(-1), cell, 1)
        self.confusion += np.bincount(predicted, minlength=4).reshape(2, 2)
        self.losses[0] += log_loss.sum(), squared.sum()
        if weights is not None:
            np.add.at(self.weights.reshape(-1), cell, weights)
            np.add.at(self.squares.reshape(-1), cell, weights**2)
            self.weighted_confusion += np.bincount(predicted, weights, minlength=4).reshape(2, 2)
            self.losses[1] += log_loss @ weights, squared @ weights

    def _settle_weighted(self, weighted: bool) -> None:
        if self.weighted is None:
            self.weighted = weighted
            if weighted:
                self.weights, self.squares = np.zeros((2, scale.BINS)), np.zeros((2, scale.BINS))
        elif self.weighted != weighted:
            raise DataError("statistics with weights and without cannot be mixed")

    def merge(self, other: BinaryStatistics) -> BinaryStatistics:
        """Add the rows of `other` to this object and return it; both must have one threshold."""
        if other.threshold != self.threshold:
            raise DataError(f"statistics of thresholds {self.threshold} and {other.threshold} cannot be merged")
        if other.weighted is not None:
            self._settle_weighted(other.weighted)
        self.counts += other.counts
        if other.weights is not None:
            self.weights += other.weights
            self.squares += other.squares
        self.confusion += other.confusion
        self.weighted_confusion += other.weighted_confusion
        self.losses += other.losses
        self.refused += other.refused
        return self

    def to_bytes(self) -> bytes:
        """Return a compact form (only cells that hold rows), readable by :meth:`from_bytes` on any machine."""
        cells = np.flatnonzero(self.counts)
        weighted = -1 if self.weighted is None else int(self.weighted)
        parts = [
            self.confusion.astype("<i8").tobytes(),
            self.refused.astype("<i8").tobytes(),
            self.weighted_confusion.astype("<f8").tobytes(),
            self.losses.astype("<f8").tobytes(),
            cells.astype("<i4").tobytes(),
            self.counts.reshape(-1)[cells].astype("<i8").tobytes(),
        ]
        if self.weights is not None:
            parts += [sums.reshape(-1)[cells].astype("<f8").tobytes() for sums in (self.weights, self.squares)]
        header = _HEADER.pack(_MAGIC, self.threshold, weighted, len(cells))
        return header + zlib.compress(b"".join(parts), 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> BinaryStatistics:
        """Read what :meth:`to_bytes` wrote; DataError when the bytes are something else or damaged."""
        try:
            magic, threshold, weighted, cells = _HEADER.unpack_from(data)
            body = zlib.decompress(data[_HEADER.size :])
        except (struct.error, zlib.error) as error:
            raise DataError(f"damaged statistics: {error}") from error
        if magic != _MAGIC or len(body) != 128 + cells * (28 if weighted == 1 else 12):
            raise DataError(f"damaged statistics: {len(data)} bytes that do not follow the format")
        result = cls(threshold)
        if weighted >= 0:
            result._settle_weighted(bool(weighted))
        result.confusion[:] = np.frombuffer(body, "<i8", 4).reshape(2, 2)
        result.refused[:] = np.frombuffer(body, "<i8", 4, 32)
        result.weighted_confusion[:] = np.frombuffer(body, "<f8", 4, 64).reshape(2, 2)
        result.losses[:] = np.frombuffer(body, "<f8", 4, 96).reshape(2, 2)
        index = np.frombuffer(body, "<i4", cells, 128)
        result.counts.reshape(-1)[index] = np.frombuffer(body, "<i8", cells, 128 + 4 * cells)
        if result.weights is not None:
            result.weights.reshape(-1)[index] = np.frombuffer(body, "<f8", cells, 128 + 12 * cells)
            result.squares.reshape(-1)[index] = np.frombuffer(body, "<f8", cells, 128 + 20 * cells)
        return result

    def result(self, class_totals: Mapping[str, float] | None = None) -> dict:
        """Return all metrics as JSON values: numbers (None where undefined) and, under "curves", lists to draw.

        Parameters
        ----------
        class_totals : {"positive": float, "negative": float}, optional
            Sums of the weights of each class over the *whole* data set (all splits). With them the AMS is computed:
            the weights of these rows are scaled, class by class, to the totals.

        Notes
        -----
        ``roc_auc`` counts rows of both classes in one bin as ties; ``roc_auc_bound`` is the most that this can
        differ from the value on unbinned scores. ``roc_auc_se`` is the standard error by DeLong, DeLong,
        Clarke-Pearson (1988). Weighted metrics use the weights as they are.

        Raises
        ------
        DataError
            Rows were refused (how many, and why), or there are none.
        """
        if self.refused.any():
            reasons = [f"{count:,} {why}" for count, why in zip(self.refused, _REFUSALS, strict=True) if count]
            raise DataError(
                f"{' and '.join(reasons)} among {self.rows:,} rows",
                "look at the model (did training diverge? does it end in a sigmoid?) and at label and weight columns",
            )
        if not self.rows:
            raise DataError("no rows to evaluate", "look at the split settings of the pipeline file")
        positives, negatives = (int(n) for n in self.counts.sum(axis=1)[::-1])
        auc, bound, standard_error = curves.roc_auc(self.counts)
        reliability, calibration_error = curves.calibration(self.counts)
        result = {
            "rows": self.rows,
            "positives": positives,
            "negatives": negatives,
            "threshold": self.threshold,
            **_confusion_metrics(self.confusion),
            "log_loss": self.losses[0, 0] / self.rows,
            "brier": self.losses[0, 1] / self.rows,
            "roc_auc": auc,
            "roc_auc_bound": bound,
            "roc_auc_se": standard_error,
            "calibration_error": calibration_error,
            "confusion": {
                name: int(self.confusion[index])
                for name, index in {"tp": (1, 1), "fp": (0, 1), "tn": (0, 0), "fn": (1, 0)}.items()
            },
            "curves": {
                "roc": curves.roc(self.counts),
                "scores": curves.score_histograms(self.counts),
                "calibration": reliability,
            },
        }
        if self.weighted:
            result.update(self._weighted_metrics())
        if self.weighted and class_totals is not None:
            best, curve = curves.ams(self.weights, class_totals["positive"], class_totals["negative"])
            result.update(best)
            result["curves"]["ams"] = curve
        return _plain(result)

    def _weighted_metrics(self) -> dict:
        total = self.weighted_confusion.sum()
        auc, bound, _ = curves.roc_auc(self.weights)
        metrics = {
            **_confusion_metrics(self.weighted_confusion),
            "log_loss": self.losses[1, 0] / total if total else None,
            "brier": self.losses[1, 1] / total if total else None,
            "roc_auc": auc,
            "roc_auc_bound": bound,
            "positives": self.weighted_confusion[1].sum(),
            "negatives": self.weighted_confusion[0].sum(),
        }
        return {f"weighted_{name}": value for name, value in metrics.items()}


def _confusion_metrics(confusion: np.ndarray) -> dict:
    """Return accuracy, precision, recall and F1; like scikit-learn, 0 where a denominator is 0."""
    (true_negative, false_positive), (false_negative, true_positive) = confusion

    def ratio(part, whole):
        return part / whole if whole else 0.0

    return {
        "accuracy": ratio(true_negative + true_positive, confusion.sum()),
        "precision": ratio(true_positive, true_positive + false_positive),
        "recall": ratio(true_positive, true_positive + false_negative),
        "f1": ratio(2 * true_positive, 2 * true_positive + false_positive + false_negative),
    }


def _plain(value):
    """Return the same nested value with Python's numbers in place of NumPy's."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
