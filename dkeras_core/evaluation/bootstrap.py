"""Confidence intervals of the metrics, and of the difference of two models, by the Poisson bootstrap.

A bootstrap draws every row a random number of times and looks how much a metric moves; with numbers from Poisson(1)
rows are drawn independently of each other, so partitions need not know of one another (Chamandy, Muralidharan, Najmi,
Naidu, "Estimating uncertainty for massive data streams", 2012). Here not even the rows are needed: all metrics are
functions of how many rows stand in which cell of class and score, rows of one cell are alike, and c rows drawn
Poisson(1) times each are Poisson(c) rows. So the statistics that the one pass over the data gathers are enough, the
replicates are drawn on the driver from a fixed seed, and the cost does not grow with the data. Where nearly every row
has a cell of its own, this is the bootstrap of rows exactly.

A row of weight w counts w times the number it was drawn. The weights of a cell are drawn together, as Poisson(W^2/Q)
times Q/W with W the sum and Q the sum of squares, which has the mean and variance of drawing each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkeras_core.evaluation import curves, scale
from dkeras_core.evaluation.metrics import CLIP, LOWER_IS_BETTER, PLAIN, BinaryStatistics
from dkeras_core.evaluation.paired import PairedStatistics, grouped

REPLICATES = 1000
CONFIDENCE = 0.95
#: Metrics whose interval cannot be told: replicates add noise to every bin, which moves the calibration error upwards.
WITHOUT_INTERVAL = frozenset({"calibration_error"})

_CELLS = 1 << 13  # of one model's statistics: bins are taken together until there are no more
_BLOCK = 1 << 22  # numbers drawn at once: 32 MB
_UNDEFINED = 0.05  # share of replicates that may lack a class before there is no interval


@dataclass(frozen=True)
class _View:
    """How one model sees the cells: bins in rising order of the score, and what a row of the cell costs it."""

    predicted: np.ndarray  # bool[cells]
    bins: np.ndarray  # int64[cells]
    log_loss: np.ndarray  # float64[cells]
    squared: np.ndarray  # float64[cells]
    selected: np.ndarray | None  # bool[cells]: above the threshold of the greatest AMS

    @classmethod
    def of(cls, positive: np.ndarray, predicted: np.ndarray, bins: np.ndarray, level: int, ams_threshold) -> _View:
        """Make the view of cells whose bins are 2^level of the scale's; the middle one stands for their scores."""
        middle = scale.middles()[np.minimum((bins << level) + (1 << level) // 2, scale.BINS - 1)]
        clipped = np.clip(middle, CLIP, 1 - CLIP)
        selected = None
        if ams_threshold is not None:
            selected = bins >= scale.bins(np.float32([ams_threshold]))[0] >> level
        return cls(
            predicted, bins, -np.log(np.where(positive, clipped, 1 - clipped)), (middle - positive) ** 2, selected
        )


@dataclass(frozen=True)
class _Cells:
    """What is drawn from: of each cell its class, rows, sum of weights and sum of squared weights."""

    positive: np.ndarray  # bool[cells]
    rows: np.ndarray  # float64[cells]
    weight: np.ndarray | None
    squares: np.ndarray | None

    def draws(self, weighted: bool, replicates: int, seed: int) -> Iterator[np.ndarray]:
        """Yield float64[1, cells], the cells as they are, and then blocks of replicates float64[n, cells]."""
        expected, unit = self.rows, 1.0
        if weighted:
            some = self.weight > 0
            expected = np.divide(self.weight**2, self.squares, out=np.zeros_like(self.weight), where=some)
            unit = np.divide(self.squares, self.weight, out=np.zeros_like(self.weight), where=some)
        yield (expected * unit)[None]
        generator = np.random.default_rng(seed)
        block = max(1, _BLOCK // max(1, len(expected)))
        for start in range(0, replicates, block):
            yield generator.poisson(expected, (min(block, replicates - start), len(expected))) * unit


def intervals(
    statistics: BinaryStatistics,
    metrics: Mapping[str, Any],
    class_totals: Mapping[str, float] | None = None,
    *,
    confidence: float = CONFIDENCE,
    replicates: int = REPLICATES,
    seed: int = 1,
) -> dict[str, list[float]]:
    """Return {metric: [low, high]} for the metrics of one model.

    Parameters
    ----------
    statistics : what was gathered.
    metrics : what its ``result(class_totals)`` says; the intervals are laid around these values.
    confidence : probability that an interval covers the value on ever more rows of the same kind.

    Returns
    -------
    dict
        The interval of the AMS holds its threshold. Metrics that are undefined, or that did not move at all (every row
        is classified rightly, say), have none: these rows cannot tell.
    """
    cells, predicted, bins, level = _marginal(statistics)
    view = _View.of(cells.positive, predicted, bins, level, metrics.get("ams_threshold"))
    found = {}
    for weighted in (False, True)[: 1 + bool(statistics.weighted)]:
        moved = _concatenated(
            _metrics(drawn, cells.positive, view, weighted, class_totals)
            for drawn in cells.draws(weighted, replicates, seed)
        )
        for name, values in moved.items():
            value = metrics.get(name)
            interval = None if value is None else _interval(values - values[0] + value, confidence)
            if interval is not None and interval[0] < interval[1]:
                low, high = interval
                # Values cannot leave their range: laid around the exact value, an interval may by a hair.
                top = np.inf if name.endswith(("log_loss", "ams")) else 1.0
                found[name] = [max(0.0, low), min(top, high)]
    return found


def compare(
    paired: PairedStatistics,
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    class_totals: Mapping[str, float] | None = None,
    *,
    confidence: float = CONFIDENCE,
    replicates: int = REPLICATES,
    seed: int = 1,
) -> dict[str, dict[str, Any]]:
    """Return how much better the first model is than the second on the same rows, metric by metric.

    Both models see the same rows the same number of times in every replicate, so that what is hard for both moves
    neither.

    Parameters
    ----------
    paired : both models' scores together.
    first, second : what ``BinaryStatistics.result()`` says of each.

    Returns
    -------
    {metric: {"gain": float, "interval": [low, high]}}
        ``gain`` is positive where the first is better, also for metrics of which less is better. The first is
        significantly worse when ``high`` is below 0. Metrics that one of them lacks are left out.
    """
    positive, *both = paired.cells()
    rows, weight, squares = paired.sums
    cells = _Cells(positive, rows, weight, squares)
    views = [
        _View.of(positive, predicted, bins, paired.level, metrics.get("ams_threshold"))
        for predicted, bins, metrics in ((*both[:2], first), (*both[2:], second))
    ]
    found = {}
    for weighted in (False, True)[: 1 + bool(paired.weighted)]:
        blocks: tuple[list, list] = ([], [])
        for drawn in cells.draws(weighted, replicates, seed):
            for view, gathered in zip(views, blocks, strict=True):
                gathered.append(_metrics(drawn, positive, view, weighted, class_totals))
        mine, other = (_concatenated(gathered) for gathered in blocks)
        for name in mine:
            if first.get(name) is None or second.get(name) is None or name not in other:
                continue
            sign = -1 if name in LOWER_IS_BETTER else 1
            gain, moved = sign * (first[name] - second[name]), sign * (mine[name] - other[name])
            interval = _interval(moved - moved[0] + gain, confidence)
            if interval is not None:
                found[name] = {"gain": gain, "interval": interval}
    return found


def _marginal(statistics: BinaryStatistics) -> tuple[_Cells, np.ndarray, np.ndarray, int]:
    """Return the cells of one model's statistics, whether each is predicted positive, its bin, and the level."""
    held = np.flatnonzero(statistics.counts)
    positive, bins = np.divmod(held, scale.BINS)
    edge = scale.bins(np.float32([statistics.threshold]))[0]
    sums, shares = [statistics.counts], [_above(statistics.counts, statistics.confusion, edge)]
    if statistics.weighted:
        sums += [statistics.weights, statistics.squares]
        shares += [_above(statistics.weights, statistics.weighted_confusion, edge)] * 2
    values = np.stack([array.reshape(-1)[held].astype(np.float64) for array in sums])
    # The bin that the threshold lies in holds rows of both predictions: it becomes two cells.
    split = np.flatnonzero(bins == edge)
    above = values[:, split] * np.stack(shares)[:, positive[split]]
    values[:, split] -= above
    flags = positive * 2 + (bins > edge)
    flags, bins = np.append(flags, flags[split] + 1), np.append(bins, edge + np.zeros_like(split))
    values, level = np.append(values, above, axis=1), 0
    codes, grouped_values = grouped(flags * scale.BINS + bins, values)
    while len(codes) > _CELLS:
        level += 1
        codes, grouped_values = grouped(flags * scale.BINS + (bins >> level), values)
    some = grouped_values[0] > 0
    flags, bins = np.divmod(codes[some], scale.BINS)
    rows, weight, squares = (*grouped_values[:, some], None, None)[:3]
    return _Cells(flags >= 2, rows, weight, squares), flags % 2 == 1, bins, level


def _above(sums: np.ndarray, confusion: np.ndarray, edge: int) -> np.ndarray:
    """Return float64[2], of each class the share of the threshold's bin that is above the threshold."""
    above, whole = confusion[:, 1] - sums[:, edge + 1 :].sum(axis=1), sums[:, edge]
    return np.divide(above, whole, out=np.zeros(2), where=whole > 0).clip(0, 1)


def _metrics(
    drawn: np.ndarray, positive: np.ndarray, view: _View, weighted: bool, class_totals: Mapping[str, float] | None
) -> dict[str, np.ndarray]:
    """Return each metric float64[n] of n replicates ``drawn`` float64[n, cells]; NaN where undefined."""
    # One product gives all sums over rows.
    columns = [np.ones(len(positive)), positive, view.predicted, positive & view.predicted, view.log_loss, view.squared]
    total, positives, predicted, hits, log_loss, squared = (drawn @ np.stack(columns, axis=1).astype(np.float64)).T
    negatives = total - positives

    def ratio(part, whole, empty=np.nan):
        return np.divide(part, whole, out=np.full(len(whole), empty), where=whole > 0)

    values = {
        "accuracy": ratio(negatives - predicted + 2 * hits, total),
        "precision": ratio(hits, predicted, 0.0),
        "recall": ratio(hits, positives, 0.0),
        "f1": ratio(2 * hits, positives + predicted, 0.0),
        "log_loss": ratio(log_loss, total),
        "brier": ratio(squared, total),
        "roc_auc": ratio(_ordered_pairs(drawn, positive, view.bins), positives * negatives),
    }
    if not weighted:
        return values
    found = {f"weighted_{name}": values[name] for name in PLAIN}
    if view.selected is not None and class_totals is not None:
        chosen = drawn @ np.stack([view.selected & ~positive, view.selected & positive], axis=1).astype(np.float64)
        background = ratio(chosen[:, 0], negatives) * class_totals["negative"]
        signal = ratio(chosen[:, 1], positives) * class_totals["positive"]
        found["ams"] = curves.median_significance(signal, background)
    return found


def _ordered_pairs(drawn: np.ndarray, positive: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Return float64[n]: the pairs in which the positive has the greater score, those of one bin counted half."""
    order = np.argsort(bins, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(bins[order]) > 0))
    sorted_ = drawn[:, order]
    of_bin = np.add.reduceat(sorted_, starts, axis=1)
    of_positives = np.add.reduceat(sorted_ * positive[order], starts, axis=1)
    of_negatives = of_bin - of_positives
    below = np.cumsum(of_negatives, axis=1) - of_negatives / 2
    return np.einsum("ij,ij->i", of_positives, below)


def _concatenated(blocks) -> dict[str, np.ndarray]:
    blocks = list(blocks)
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _interval(values: np.ndarray, confidence: float) -> list[float] | None:
    """Return the percentile interval of replicates; the first value, which is none of them, is left out."""
    values = values[1:]
    defined = values[np.isfinite(values)]
    if len(defined) < (1 - _UNDEFINED) * len(values) or not len(defined):
        return None
    tail = (1 - confidence) / 2
    return [float(value) for value in np.quantile(defined, [tail, 1 - tail])]
