"""The moving average of the center's last stretch."""

import numpy as np
import pytest

from dkeras_core.exchange.averages import TailAverage


def averaged(exchanges, stride):
    """The average when the center is t after t exchanges."""
    tail = TailAverage(np.full(1, -1e6, np.float32), 1, stride)
    for t in range(1, exchanges + 1):
        tail.update(0, slice(None), np.full(1, t, np.float32), t)
    return float(tail.values[0])


@pytest.mark.parametrize("stride", [1, 4, 16, 64])
@pytest.mark.parametrize("exchanges", [200, 5000])
def test_its_mean_age_is_a_tenth_of_the_run(stride, exchanges):
    # Between two samples the center is up to a stride older
    assert 0.88 * exchanges - stride <= averaged(exchanges, stride) <= 0.92 * exchanges


@pytest.mark.parametrize("exchanges", [1, 2, 3, 5, 10, 40])
def test_a_short_run_has_an_average_too(exchanges):
    assert 0.75 * exchanges <= averaged(exchanges, 64) <= exchanges
