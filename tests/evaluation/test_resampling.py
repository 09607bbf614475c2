"""The interval of a cross-validation against SciPy, and against what it is to cover."""

import math

import numpy as np
import pytest
from scipy import stats

from dkeras_core.evaluation.resampling import interval, student_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 9, 29, 199, 1999])
@pytest.mark.parametrize("probability", [0.5, 0.75, 0.95, 0.975, 0.999])
def test_quantiles_of_student(freedom, probability):
    expected = stats.t.ppf(probability, freedom)
    assert student_quantile(probability, freedom) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_interval_by_hand():
    values = [0.8, 0.9, 0.85, 0.81, 0.84]
    margin = stats.t.ppf(0.975, 4) * math.sqrt((1 / 5 + 1 / 4) * np.var(values, ddof=1))
    assert interval(values, 1 / 4) == pytest.approx((np.mean(values) - margin, np.mean(values) + margin))
    assert interval([0.5, 0.5], 1.0) == (0.5, 0.5)


def test_independent_values_are_covered_as_promised():
    """Without a common training split (ratio 0) this is Student's interval of a mean, which is exact."""
    draws = np.random.default_rng(1).normal(3.0, 2.0, (2000, 5))
    held = [low <= 3.0 <= high for low, high in (interval(row.tolist(), 0.0, 0.9) for row in draws)]
    assert np.mean(held) == pytest.approx(0.9, abs=0.02)


def test_repeated_folds_are_covered_where_independence_is_not():
    """Least squares on 200 rows, 5 folds drawn 3 times: the plain standard error of 15 values is far too small."""
    draws, folds, repeats, rows = np.random.default_rng(2), 5, 3, 200
    weights = draws.normal(size=10)

    def sample(n):
        x = draws.normal(size=(n, 10))
        return x, x @ weights + 2 * draws.normal(size=n)

    def loss(train, test):
        fitted = np.linalg.lstsq(*train, rcond=None)[0]
        return float(np.mean((test[1] - test[0] @ fitted) ** 2))

    large, found, expected = sample(20_000), [], []
    for _ in range(400):
        x, y = sample(rows)
        values = []
        for _ in range(repeats):
            part = draws.permutation(rows) % folds
            values += [loss((x[part != i], y[part != i]), (x[part == i], y[part == i])) for i in range(folds)]
        expected.append(loss((x[part != 0], y[part != 0]), large))
        found.append(values)
    truth, plain = np.mean(expected), stats.t.ppf(0.975, folds * repeats - 1) / math.sqrt(folds * repeats)
    corrected = [low <= truth <= high for low, high in (interval(values, 1 / (folds - 1)) for values in found)]
    naive = [abs(np.mean(values) - truth) <= plain * np.std(values, ddof=1) for values in found]
    assert np.mean(corrected) >= 0.93 and np.mean(naive) < 0.85, (np.mean(corrected), np.mean(naive))
