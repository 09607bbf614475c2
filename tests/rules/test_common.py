"""One test for every rule: a row in CASES is all that a new algorithm adds here."""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Callable

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError
from dkeras_core.rules import Arrival


@dataclasses.dataclass
class Case:
    """What is known about an algorithm.

    step: one exchange computed by hand, as (parameters, p, x, center) -> (x, center) afterwards.
    conserves: whether an exchange leaves the sum of workers and center as it was.
    invalid: parameters that have to be refused.
    """

    parameters: dict
    step: tuple
    conserves: bool
    invalid: list[dict] = dataclasses.field(default_factory=list)


CASES = {
    "asynchronous_easgd": Case(
        parameters={"moving_rate": 0.25, "communication_period": 4},
        # e = 0.25 (x - c) = (0.5, -1, 0): x <- x - e, c <- c + e
        step=([3.0, -2.0, 7.0], [1.0, 2.0, 7.0], [2.5, -1.0, 7.0], [1.5, 1.0, 7.0]),
        conserves=True,
        invalid=[
            {"moving_rate": value}
            for value in (0, 0.0, -0.5, 1.01, float("nan"), float("inf"), "0.5", "papers", None, True, [0.5])
        ],
    ),
}
NAMES = rules.names()


class Simulation:
    """p workers and a server in one thread: random speeds, exchanges served one by one, shards at different times.

    With ``delay``, a worker goes on with its local steps while its exchange is under way, and gets the answer up to
    that many steps late.
    """

    def __init__(self, rule, workers, x0, seed=0, delay=0, shards=2):
        self.rule = rule.for_workers(workers)
        self.random = np.random.default_rng(seed)
        self.center = x0.copy()
        self.server_state = self.rule.server_state(self.center)
        cuts = np.array_split(np.arange(x0.size), shards)
        self.spans = [slice(cut[0], cut[-1] + 1) for cut in cuts if cut.size]
        self.counts = [0] * len(self.spans)
        self.xs = [x0.copy() for _ in range(workers)]
        self.states = [self.rule.worker_state(x) for x in self.xs]
        self.seen = [[0] * len(self.spans) for _ in self.xs]
        self.delay = delay
        self.staleness = []

    def exchange(self, worker) -> np.ndarray:
        message = self.rule.message(self.xs[worker], self.states[worker], self.rule.communication_period)
        answer = np.full_like(message, np.nan)
        for part, span in enumerate(self.spans):
            count = self.counts[part]
            arrival = Arrival(worker, count, count - self.seen[worker][part])
            state = {name: vector[span] for name, vector in self.server_state.items()}
            self.rule.apply(self.center[span], message[span], answer[span], state, arrival)
            self.counts[part] = self.seen[worker][part] = count + 1
            self.staleness.append(arrival.staleness)
        return answer

    def receive(self, worker, answer):
        self.rule.receive(self.xs[worker], answer, self.states[worker])

    def run(self, steps: int, step: Callable[[np.ndarray, int], np.ndarray]):
        """``steps`` local steps for each worker; ``step(x, k)`` is the k-th."""
        pending = {}
        events = [(self.random.exponential(), worker, 0) for worker in range(len(self.xs))]
        heapq.heapify(events)
        while events:
            now, worker, k = heapq.heappop(events)
            x = self.xs[worker]
            x += step(x, k)
            if worker in pending and k >= pending[worker][0]:
                self.receive(worker, pending.pop(worker)[1])
            if (k + 1) % self.rule.communication_period == 0 and worker not in pending:
                pending[worker] = (k + self.random.integers(0, self.delay + 1), self.exchange(worker))
                if pending[worker][0] <= k:
                    self.receive(worker, pending.pop(worker)[1])
            if k + 1 < steps:
                heapq.heappush(events, (now + self.random.exponential(), worker, k + 1))
        for worker, (_, answer) in pending.items():
            self.receive(worker, answer)

    @property
    def mean(self):
        return np.mean(self.xs, axis=0)


def test_every_rule_has_a_case():
    assert sorted(CASES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_step_by_hand(name):
    case = CASES[name]
    x, center, x_after, center_after = (np.array(v, np.float32) for v in case.step)
    simulation = Simulation(rules.get(name, **case.parameters), 1, center, shards=1)
    simulation.xs[0][:] = x
    simulation.receive(0, simulation.exchange(0))
    np.testing.assert_array_equal(simulation.xs[0], x_after)
    np.testing.assert_array_equal(simulation.center, center_after)


@pytest.mark.parametrize("name", NAMES)
def test_hot_path_works_in_place(name):
    rule = rules.get(name).for_workers(2)
    x = np.random.default_rng(0).normal(size=8).astype(np.float32)
    center, answer = np.zeros_like(x), np.empty_like(x)
    state = rule.worker_state(x)
    message = rule.message(x, state, 10)
    assert message.dtype == np.float32
    assert rule.apply(center, message, answer, rule.server_state(center), Arrival(0, 0, 0)) is None
    assert rule.receive(x, answer, state) is None
    assert np.isfinite(answer).all()


@pytest.mark.parametrize("workers", [1, 4, 64])
@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].conserves])
def test_exchanges_conserve_the_sum(name, workers):
    simulation = Simulation(rules.get(name), workers, np.zeros(33, np.float32), seed=workers)
    for x in simulation.xs:
        x += simulation.random.normal(size=33).astype(np.float32)
    before = simulation.center + np.sum(simulation.xs, axis=0)
    simulation.run(40, lambda x, k: np.float32(0))
    np.testing.assert_allclose(simulation.center + np.sum(simulation.xs, axis=0), before, atol=2e-5)
    assert np.ptp([*simulation.xs, simulation.center], axis=0).max() < 5  # they have moved towards each other


@pytest.mark.parametrize("delay", [0, 5])
@pytest.mark.parametrize("workers", [1, 4, 64])
@pytest.mark.parametrize("name", NAMES)
def test_quadratic(name, workers, delay):
    """f(x) = 1/2 (x - b)' A (x - b) with condition number 100: workers and center arrive at b."""
    random = np.random.default_rng(1)
    curvature = np.geomspace(0.01, 1, 20).astype(np.float32)
    optimum = random.normal(size=20).astype(np.float32)
    simulation = Simulation(rules.get(name), workers, np.zeros(20, np.float32), delay=delay)
    simulation.run(2000, lambda x, k: -0.9 * curvature * (x - optimum))
    np.testing.assert_allclose(simulation.mean, optimum, atol=1e-3)
    np.testing.assert_allclose(simulation.center, optimum, atol=1e-3)
    assert workers == 1 or max(simulation.staleness) >= workers / 2  # others did come between


@pytest.mark.parametrize("workers", [1, 4, 64])
@pytest.mark.parametrize("name", NAMES)
def test_logistic_regression(name, workers):
    """Noisy gradients of a regularised logistic regression whose optimum Newton's method gives."""
    random = np.random.default_rng(2)
    rows = random.normal(size=(512, 5))
    labels = (random.random(512) < 1 / (1 + np.exp(-rows @ [1, -2, 0.5, 0, 1]))).astype(float)

    def loss(w):
        margins = rows @ w
        return np.mean(np.logaddexp(0, margins) - labels * margins) + 0.005 * w @ w

    def gradient(w, sample):
        return rows[sample].T @ (1 / (1 + np.exp(-rows[sample] @ w)) - labels[sample]) / len(sample) + 0.01 * w

    optimum, everything = np.zeros(5), np.arange(512)
    for _ in range(20):
        scores = 1 / (1 + np.exp(-rows @ optimum))
        hessian = (rows * (scores * (1 - scores))[:, None]).T @ rows / 512 + 0.01 * np.eye(5)
        optimum -= np.linalg.solve(hessian, gradient(optimum, everything))
    simulation = Simulation(rules.get(name), workers, np.zeros(5, np.float32))
    simulation.run(300, lambda x, k: (-1 / (1 + k / 30) * gradient(x, random.integers(0, 512, 32))).astype(np.float32))
    assert loss(np.zeros(5)) - loss(optimum) > 0.2
    assert loss(simulation.mean) - loss(optimum) < 2e-3
    assert loss(simulation.center) - loss(optimum) < 5e-3


@pytest.mark.parametrize("name", NAMES)
def test_configuration_round_trip(name):
    for values in ({}, CASES[name].parameters):
        rule = rules.get(name, **values)
        again = rules.rule_from_config(json.loads(json.dumps(rule.to_config())))
        assert again == rule and type(again) is type(rule)
    assert {**rule.to_config(), **values} == rule.to_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.communication_period = 3


@pytest.mark.parametrize(
    ("name", "values"),
    [(name, values) for name in NAMES for values in CASES[name].invalid]
    + [(name, {"communication_period": v}) for name in NAMES for v in (0, -1, 2.5, "10", None, True, float("nan"))],
)
def test_invalid_parameters_are_refused(name, values):
    with pytest.raises(ConfigError, match=f"{name}: {next(iter(values))} must be"):
        rules.get(name, **values)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_numbers_become_plain(name):
    rule = rules.get(name, communication_period=np.int64(7))
    assert type(rule.communication_period) is int
    json.dumps(rule.to_config())
