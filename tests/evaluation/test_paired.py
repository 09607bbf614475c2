"""Statistics of two models: merged as they like, in bounded memory, and still the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from dkeras_core.errors import DataError
from dkeras_core.evaluation import scale
from dkeras_core.evaluation.paired import PairedStatistics


def rows(n=2_000, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.random(n).astype(np.float32)
    second = np.clip(first + 0.05 * rng.normal(size=n), 0, 1).astype(np.float32)
    return first, second, (rng.random(n) < first).astype(np.float32), rng.uniform(0.1, 3, n)


def gathered(*columns, threshold=0.4, limit=10_000):
    statistics = PairedStatistics(threshold, limit)
    statistics.update(*columns)
    return statistics


@pytest.mark.parametrize("limit", [10_000, 300])
def test_any_split_merges_to_the_whole(limit):
    columns = rows()
    whole = gathered(*columns, limit=limit)
    part = np.random.default_rng(1).integers(0, 5, len(columns[0]))
    part[part == 3] = 4  # a partition without rows
    merged = PairedStatistics(0.4, limit)
    for p in (2, 3, 0, 4, 1):
        piece = PairedStatistics(0.4, limit)
        for batch in np.array_split(np.flatnonzero(part == p), 3):
            piece.update(*(column[batch] for column in columns))
        merged.merge(PairedStatistics.from_bytes(piece.to_bytes()))
    assert merged.level == whole.level and np.array_equal(merged.codes, whole.codes)
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-12)


def test_memory_is_bounded_and_no_row_is_lost():
    first, second, labels, weights = rows(5_000)
    coarse = gathered(first, second, labels, weights, limit=200)
    assert len(coarse.codes) <= 200 and coarse.level > 5
    np.testing.assert_allclose(coarse.sums.sum(axis=1), [5_000, weights.sum(), (weights**2).sum()])
    positive, first_predicted, first_bin, second_predicted, second_bin = coarse.cells()
    count = coarse.sums[0]
    # classes and predictions stay exact however coarse the scores are
    assert count[positive].sum() == labels.sum()
    assert count[positive & first_predicted].sum() == ((first >= 0.4) & (labels == 1)).sum()
    assert count[~positive & second_predicted].sum() == ((second >= 0.4) & (labels == 0)).sum()
    bins = np.repeat(first_bin, count.astype(int))
    assert np.array_equal(np.sort(bins), np.sort(scale.bins(first) >> coarse.level))
    bins = np.repeat(second_bin, count.astype(int))
    assert np.array_equal(np.sort(bins), np.sort(scale.bins(second) >> coarse.level))


def test_pieces_of_different_width_merge():
    columns = rows()
    fine, coarse = gathered(*columns), gathered(*columns, limit=100)
    width = coarse.level
    for one, other in ((gathered(*columns), coarse), (gathered(*columns, limit=100), fine)):
        one.merge(other)
        assert one.level >= width and one.sums[0].sum() == 4_000


def test_bytes_round_trip_and_damage_is_refused():
    first, second, labels, weights = rows(500)
    for full in (gathered(first, second, labels, weights), gathered(first, second, labels), PairedStatistics(0.25)):
        data = full.to_bytes()
        again = PairedStatistics.from_bytes(data)
        assert again.to_bytes() == data and again.threshold == full.threshold and again.weighted == full.weighted
        for damaged in (b"", data[:10], data[:-3], b"XXXXX" + data[5:]):
            with pytest.raises(DataError, match="damaged"):
                PairedStatistics.from_bytes(damaged)


def test_rows_that_cannot_be_judged_are_left_to_the_other_statistics():
    statistics = PairedStatistics()
    statistics.update(
        np.float32([0.1, np.nan, 0.3, 0.4, 0.5]),
        np.float32([0.1, 0.2, 1.5, 0.4, 0.5]),
        np.array([0, 1, 1, 2, 1]),
        np.array([1.0, 1.0, 1.0, 1.0, -1.0]),
    )
    assert statistics.sums[0].sum() == 1


def test_misuse_is_refused():
    first, second, labels, weights = rows(10)
    with pytest.raises(DataError, match="one length"):
        gathered(first, second[:5], labels)
    with pytest.raises(DataError, match="thresholds"):
        gathered(first, second, labels).merge(PairedStatistics(0.6))
    with pytest.raises(DataError, match="mixed"):
        gathered(first, second, labels).merge(gathered(first, second, labels, weights))
