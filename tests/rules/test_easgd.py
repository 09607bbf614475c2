import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.rules import Arrival


def test_defaults():
    rule = rules.get("asynchronous_easgd")
    assert rule.to_config() == {"name": "asynchronous_easgd", "communication_period": 10, "moving_rate": 0.5}
    assert not rule.synchronous


@pytest.mark.parametrize("workers", [1, 4, 64])
def test_the_papers_moving_rate(workers):
    rule = rules.get("asynchronous_easgd", moving_rate="paper").for_workers(workers)
    assert rule.moving_rate == pytest.approx(0.9 / workers)
    assert rule.for_workers(2 * workers) == rule  # a number from here on
    assert rules.get("asynchronous_easgd", moving_rate=1).for_workers(workers).moving_rate == 1.0


def test_moving_rate_one_swaps_worker_and_center():
    rule = rules.get("asynchronous_easgd", moving_rate=1.0)
    x, center = np.array([4, 5], np.float32), np.array([1, 3], np.float32)
    answer = np.empty_like(x)
    rule.apply(center, x, answer, {}, Arrival(0, 0, 0))
    rule.receive(x, answer, {})
    assert list(x) == [1, 3] and list(center) == [4, 5]


def test_float32_throughout():
    rule = rules.get("asynchronous_easgd", moving_rate=0.1)
    x, center, answer = (np.ones(3, np.float32) for _ in range(3))
    rule.apply(center, x * 2, answer, {}, Arrival(0, 0, 0))
    assert center.dtype == answer.dtype == np.float32
    assert center[0] == np.float32(1) + np.float32(0.1)
