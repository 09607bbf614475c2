import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError
from dkeras_core.rules import Arrival


def test_defaults():
    rule = rules.get("asynchronous_easgd")
    assert rule.to_config() == {
        "name": "asynchronous_easgd",
        "communication_period": "by_workers",
        "moving_rate": "by_workers",
    }
    assert not rule.synchronous


def test_what_the_number_of_workers_decides():
    made = [rules.get("asynchronous_easgd").for_workers(p) for p in (1, 8, 10, 16, 17, 64, 1000)]
    assert [rule.communication_period for rule in made] == [10, 10, 6, 4, 3, 2, 2]
    assert [rule.moving_rate for rule in made] == [0.5, 0.5, 0.5, 0.5, 0.7, 0.7, 0.7]
    given = rules.get("asynchronous_easgd", communication_period=10, moving_rate=0.5)
    assert given.for_workers(64) == given


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


@pytest.mark.parametrize(("workers", "rate"), [(2, 0.5), (10, 0.1), (64, 1 / 64), (1, 1.0)])
def test_synchronous_moving_rate_must_not_overshoot(workers, rate):
    """beta = p alpha of at most 1: with 1 the center becomes the mean of the workers."""
    rule = rules.get("easgd", moving_rate=rate).for_workers(workers)
    center, mean, answer = np.zeros(3, np.float32), np.ones(3, np.float32), np.empty(3, np.float32)
    rule.apply(center, mean, answer, {}, Arrival(0, 0, 0, workers))
    np.testing.assert_allclose(center, mean, rtol=1e-6)
    with pytest.raises(ConfigError, match=r"overshoots(.|\n)*at most"):
        rules.get("easgd", moving_rate=rate).for_workers(workers + 1)


def test_fewer_workers_pull_less():
    """When 3 of 4 have finished, beta is alpha for the one that is left."""
    rule = rules.get("easgd", moving_rate=0.25).for_workers(4)
    for met, moved in ((4, 1.0), (1, 0.25)):
        center, mean, answer = np.zeros(3, np.float32), np.ones(3, np.float32), np.empty(3, np.float32)
        rule.apply(center, mean, answer, {}, Arrival(0, 0, 0, met))
        assert (center == moved).all() and (answer == 0).all()


@pytest.mark.parametrize("workers", [1, 4, 64])
@pytest.mark.parametrize("name", ["asynchronous_easgd", "easgd", "eamsgd"])
def test_exchanges_conserve_the_sum(simulate, name, workers):
    simulation = simulate(rules.get(name), workers, np.zeros(33, np.float32), seed=workers)
    for x in simulation.xs:
        x += simulation.random.normal(size=33).astype(np.float32)
    before = simulation.center + np.sum(simulation.xs, axis=0)
    spread = np.ptp([*simulation.xs, simulation.center], axis=0).sum()
    simulation.run(40, lambda x, k: np.float32(0))
    np.testing.assert_allclose(simulation.center + np.sum(simulation.xs, axis=0), before, atol=2e-5)
    assert np.ptp([*simulation.xs, simulation.center], axis=0).sum() < 0.96 * spread
