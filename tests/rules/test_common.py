"""One test for every rule: a row in CASES is all that a new algorithm adds here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError
from dkeras_core.exchange.wire import dense


@dataclasses.dataclass
class Case:
    """What is known about an algorithm.

    parameters: those of the steps by hand, whose numbers are exact in float32.
    center: where the server and all workers of the steps by hand begin.
    steps: exchanges computed by hand from the paper's equations, one after the other: ({worker: x when it sends, or
        its gradient}, {worker: x, or the averaged gradient, when it has the answer}, center after, [published after]).
    sequential: parameters with which one worker is sequential training; None when theory does not say so.
    converging: parameters for p workers on the quadratic and the logistic regression.
    rate: factor on the local learning rate there, with a reason when it is not 1.
    center_follows: whether the center arrives at the optimum as well.
    tolerance: how near the result comes: to the optimum of the quadratic, to the least loss of the regression.
    invalid: parameters that have to be refused, beside wrong communication periods.
    """

    parameters: dict = dataclasses.field(default_factory=dict)
    center: list = dataclasses.field(default_factory=list)
    steps: list = dataclasses.field(default_factory=list)
    sequential: dict | None = None
    converging: Callable[[int], dict] = lambda workers: {}
    rate: Callable[[int], float] = lambda workers: 1.0
    center_follows: bool = True
    tolerance: tuple[float, float] = (2e-3, 5e-3)
    invalid: list[dict] = dataclasses.field(default_factory=list)


NOT_NUMBERS = [float("nan"), float("inf"), "0.5", None, True, False, [0.5]]
NO_RATE = [0, 0.0, -0.5, 1.01, "papers", *NOT_NUMBERS]
NO_MOMENTUM = [-0.1, 1, 1.0, 2, *NOT_NUMBERS]


def over_momentum(workers):
    """Outer momentum makes the steps larger, and one worker has no others to average the noise with."""
    return 0.25 if workers == 1 else 1.0


def each(parameter, values):
    return [{parameter: value} for value in values]


CASES = {
    "asynchronous_easgd": Case(
        parameters={"moving_rate": 0.25, "communication_period": 4},
        center=[1.0, 2.0, 7.0],
        # e = 0.25 (x - c) = (0.5, -1, 0): x <- x - e, c <- c + e
        steps=[({0: [3.0, -2.0, 7.0]}, {0: [2.5, -1.0, 7.0]}, [1.5, 1.0, 7.0])],
        invalid=each("moving_rate", NO_RATE),
    ),
    "easgd": Case(
        parameters={"moving_rate": 0.25},
        center=[0.0, 4.0],
        # x <- x - 0.25 (x - c), with the old c; beta = 0.5: c <- 0.5 c + 0.5 mean
        steps=[({0: [4.0, 0.0], 1: [8.0, 4.0]}, {0: [3.0, 1.0], 1: [6.0, 4.0]}, [3.0, 3.0])],
        invalid=each("moving_rate", NO_RATE),
    ),
    "eamsgd": Case(
        parameters={"moving_rate": 0.5, "momentum": 0.5},
        center=[1.0],
        steps=[({0: [3.0]}, {0: [2.0]}, [2.0])],
        invalid=each("moving_rate", NO_RATE) + each("momentum", [0, 0.0, *NO_MOMENTUM]),
    ),
    "downpour": Case(
        parameters={"commit_rate": 1},
        center=[1.0, 1.0],
        # worker 1 commits a stale update: d = x - (the center it took), not x - c
        steps=[({0: [2.0, 1.0]}, {0: [2.0, 1.0]}, [2.0, 1.0]), ({1: [0.0, 3.0]}, {1: [1.0, 3.0]}, [1.0, 3.0])],
        sequential={},
        invalid=each("commit_rate", NO_RATE),
    ),
    "mdownpour": Case(
        parameters={"learning_rate": 0.5, "momentum": 0.5},
        center=[1.0],
        # g = 2: v = -1, c = 1 - 0.5 - 1; then g = -4: v = -0.5 + 2 = 1.5, c = -0.5 + 0.75 + 2
        steps=[({0: [2.0]}, {0: [-0.5]}, [-0.5]), ({1: [-4.0]}, {1: [2.25]}, [2.25])],
        converging=lambda workers: {"learning_rate": 0.15 / workers, "momentum": 0.5},
        invalid=each("momentum", NO_MOMENTUM) + each("learning_rate", [0, -1, 11, *NOT_NUMBERS]),
    ),
    "adownpour": Case(
        parameters={"commit_rate": 1},
        center=[0.0],
        # z is the mean of the centers 0; 0, 4; 0, 4, 8
        steps=[
            ({0: [4.0]}, {0: [4.0]}, [4.0], [0.0]),
            ({0: [8.0]}, {0: [8.0]}, [8.0], [2.0]),
            ({0: [8.0]}, {0: [8.0]}, [8.0], [4.0]),
        ],
        converging=lambda workers: {"communication_period": 1},
        tolerance=(0.15, 0.05),  # the way from the start stays in the mean
        invalid=each("commit_rate", NO_RATE),
    ),
    "mvadownpour": Case(
        parameters={"averaging_rate": 0.25, "commit_rate": 1},
        center=[0.0],
        steps=[({0: [4.0]}, {0: [4.0]}, [4.0], [0.0]), ({0: [4.0]}, {0: [4.0]}, [4.0], [1.0])],
        converging=lambda workers: {"communication_period": 1, "averaging_rate": 0.05},
        invalid=each("averaging_rate", NO_RATE) + each("commit_rate", NO_RATE),
    ),
    "adag": Case(
        parameters={"communication_period": 4, "commit_rate": 1},
        center=[1.0, 1.0],
        # d = (4, -2) in 4 steps
        steps=[({0: [5.0, -1.0]}, {0: [2.0, 0.5]}, [2.0, 0.5])],
        sequential={"communication_period": 1},
        converging=lambda workers: {"communication_period": 2},
        invalid=each("commit_rate", NO_RATE),
    ),
    "dynsgd": Case(
        center=[0.0, 0.0],
        # the update of worker 1 is one exchange old when it comes first, and so is then that of worker 0
        steps=[
            ({0: [4.0, 0.0]}, {0: [4.0, 0.0]}, [4.0, 0.0]),
            ({1: [2.0, 8.0]}, {1: [5.0, 4.0]}, [5.0, 4.0]),
            ({1: [6.0, 4.0]}, {1: [6.0, 4.0]}, [6.0, 4.0]),
            ({0: [7.0, 3.0]}, {0: [7.0, 5.0]}, [7.0, 5.0]),  # 2 others since: d / 3 = (1, 1)
        ],
        sequential={},
    ),
    "model_averaging": Case(
        center=[9.0, 9.0],
        steps=[({0: [1.0, 2.0], 1: [3.0, -2.0]}, {0: [2.0, 0.0], 1: [2.0, 0.0]}, [2.0, 0.0])],
        sequential={},
    ),
    "slowmo": Case(
        parameters={"slow_momentum": 0.5, "slow_learning_rate": 0.5},
        center=[0.0],
        # u = 0 - 4 = -4, c = 2; then u = -2 + (2 - 4) = -4, c = 4
        steps=[({0: [2.0], 1: [6.0]}, {0: [2.0], 1: [2.0]}, [2.0]), ({0: [3.0], 1: [5.0]}, {0: [4.0]}, [4.0])],
        converging=lambda workers: {"communication_period": 4},
        rate=over_momentum,
        sequential={"slow_momentum": 0, "slow_learning_rate": 1},
        invalid=each("slow_momentum", NO_MOMENTUM) + each("slow_learning_rate", [0, 2.1, -1, *NOT_NUMBERS]),
    ),
    "diloco": Case(
        parameters={"outer_momentum": 0.5, "outer_learning_rate": 0.5},
        center=[0.0],
        # d = -4, v = -4, c = 0 + (4 + 2) / 2; then d = -1, v = -2 - 1 = -3, c = 3 + (1 + 1.5) / 2
        steps=[({0: [2.0], 1: [6.0]}, {0: [3.0], 1: [3.0]}, [3.0]), ({0: [3.0], 1: [5.0]}, {0: [4.25]}, [4.25])],
        converging=lambda workers: {"communication_period": 4},
        rate=over_momentum,
        sequential={"outer_momentum": 0, "outer_learning_rate": 1},
        invalid=each("outer_momentum", NO_MOMENTUM) + each("outer_learning_rate", [0, 2.1, -1, *NOT_NUMBERS]),
    ),
    "delta_averaging": Case(
        center=[1.0],
        steps=[({0: [3.0], 1: [0.0]}, {0: [1.5], 1: [1.5]}, [1.5])],  # d = 2 and -1
        sequential={},
    ),
    "asynchronous_delta_averaging": Case(
        parameters={"commit_rate": 1},
        center=[1.0],
        steps=[({0: [3.0]}, {0: [3.0]}, [3.0]), ({1: [0.0]}, {1: [2.0]}, [2.0])],  # d = 2 and -1, whole
        sequential={},
        invalid=each("commit_rate", NO_RATE),
    ),
    "threshold_sharing": Case(
        parameters={"threshold": 0.5, "min_density": 0.4, "max_density": 0.5, "decay": 0.5, "commit_rate": 1},
        center=[0.0, 0.0, 0.0],
        steps=[
            # r = (2, -0.25, -1), m = (0.5, 0, -0.5), r - m = (1.5, -0.25, -0.5); 2 of 3 sent: t = 1
            ({0: [2.0, -0.25, -1.0]}, {0: [2.0, -0.25, -1.0]}, [0.5, 0.0, -0.5]),
            # another worker: r = (0, 2, 0), m = (0, 0.5, 0); 1 of 3 sent: t = 0.25
            ({1: [0.0, 2.0, 0.0]}, {1: [0.5, 2.0, -0.5]}, [0.5, 0.5, -0.5]),
            # r = (1.5, -0.75, -0.5), m = (1, 0, 0): x moves by 0.5, which the other has sent
            ({0: [2.0, -0.75, -1.0]}, {0: [2.0, -0.25, -1.0]}, [1.5, 0.5, -0.5]),
        ],
        sequential={},
        invalid=each("commit_rate", NO_RATE)
        + each("threshold", [0, -1, *NOT_NUMBERS])
        + each("min_density", [0, 0.2, 2, *NOT_NUMBERS])  # above max_density
        + each("max_density", [0, 2, *NOT_NUMBERS])
        + each("decay", [0.4, 1, *NOT_NUMBERS]),
    ),
    "gradient_averaging": Case(
        center=[5.0],
        steps=[({0: [1.0], 1: [4.0]}, {0: [2.5], 1: [2.5]}, [5.0])],
        sequential={},
        center_follows=False,  # no worker tells the server what its step came to
    ),
    "sandblaster_lbfgs": Case(  # tests/rules/test_sandblaster.py
        parameters={"history_size": 5, "iterations": 7, "tolerance": 1e-3, "pieces_per_worker": 3, "copies": 1},
        invalid=[
            wrong
            for name in ("history_size", "iterations", "pieces_per_worker", "copies")
            for wrong in each(name, [0, -1, 1.5, *NOT_NUMBERS])
        ]
        + each("tolerance", [0, -1, 2, *NOT_NUMBERS]),
    ),
    "averaging": Case(sequential={}, center_follows=False),
    "ensemble": Case(sequential={}, center_follows=False),
    "sequential": Case(sequential={}, center_follows=False),
}
NAMES = rules.names()
EXCHANGING = [name for name in NAMES if rules.get(name).exchanging and rules.get(name).local != "pieces"]
WITH_WORKERS = [
    (name, workers)
    for name in NAMES
    for workers in (1, 4, 64)
    if (name != "sequential" or workers == 1) and rules.get(name).local != "pieces"
]


def converging(name, workers):
    return rules.get(name, **CASES[name].converging(workers)), CASES[name].rate(workers)


def test_every_rule_has_a_case():
    assert sorted(CASES) == NAMES


@pytest.mark.parametrize("name", EXCHANGING)
def test_steps_by_hand(simulate, name):
    case = CASES[name]
    center = np.array(case.center, np.float32)
    rule = rules.get(name, **case.parameters)
    simulation = simulate(rule, 1 + max(max(before) for before, *_ in case.steps), center, shards=1)
    assert case.steps
    for before, after, center, *published in case.steps:
        vectors = {worker: np.array(values, np.float32) for worker, values in before.items()}
        if rule.local == "steps":
            for worker, values in vectors.items():
                simulation.xs[worker][:] = values
        if rule.synchronous:
            answer = simulation.meet(list(vectors.values()) if rule.local != "steps" else None)
        else:
            (worker,) = vectors
            answer = simulation.exchange(worker, vectors[worker] if rule.local != "steps" else None)
        for worker in before:
            if rule.local == "averaged_gradients":
                simulation.xs[worker][:] = answer
            else:
                simulation.receive(worker, answer)
        for worker, values in after.items():
            np.testing.assert_array_equal(simulation.xs[worker], values)
        np.testing.assert_array_equal(simulation.center, center)
        np.testing.assert_array_equal(simulation.published, *(published or [center]))


@pytest.mark.parametrize(("name", "workers"), WITH_WORKERS)
def test_quadratic(simulate, quadratic, name, workers):
    rule, rate = converging(name, workers)
    simulation = simulate(rule, workers, quadratic.start, delay=5 if workers == 64 else 0)
    simulation.run(500, quadratic.gradient, lambda k: 0.9 * rate)
    for result in simulation.results():
        np.testing.assert_allclose(result, quadratic.optimum, atol=CASES[name].tolerance[0])
    if CASES[name].center_follows:
        np.testing.assert_allclose(simulation.center, quadratic.optimum, atol=2e-3)
    if rule.exchanging and not rule.synchronous and workers > 1:
        assert max(simulation.staleness) >= workers / 2  # others did come between


@pytest.mark.parametrize("name", EXCHANGING)
def test_bfloat16_stalls_rules_that_go_on_from_whole_vectors_and_no_others(simulate, quadratic, name):
    values = {} if rules.get(name).only_period else {"communication_period": 4}
    rule = rules.get(name, **{**CASES[name].converging(4), **values})
    as_sent = dense("bfloat16")(quadratic.start.size).round
    simulation = simulate(rule, 4, quadratic.start, shards=1, as_sent=as_sent)
    simulation.run(2000, quadratic.gradient, lambda k: 0.02)
    distance = np.abs(simulation.mean - quadratic.optimum).max()
    assert distance > 0.05 if rule.whole_vectors else distance < 0.02


@pytest.mark.parametrize(("name", "workers"), WITH_WORKERS)
def test_logistic_regression(simulate, logistic, name, workers):
    rule, rate = converging(name, workers)
    simulation = simulate(rule, workers, logistic.start, shards=1)
    simulation.run(250, logistic.gradient, lambda k: rate / (1 + k / 30))
    assert logistic.excess(logistic.start) > 0.2
    for result in simulation.results():
        assert logistic.excess(result) < CASES[name].tolerance[1]
    if CASES[name].center_follows:
        assert logistic.excess(simulation.center) < 5e-3


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].sequential is not None])
def test_one_worker_is_sequential_training(simulate, quadratic, name):
    rule = rules.get(name, **CASES[name].sequential)
    simulation = simulate(rule, 1, quadratic.start).run(100, quadratic.gradient, lambda k: 0.1)
    x = quadratic.start.copy()
    for k in range(100):
        x -= np.float32(0.1) * quadratic.gradient(x, k)
    np.testing.assert_allclose(simulation.results()[0], x, atol=1e-5)
    np.testing.assert_allclose(simulation.xs[0], x, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in EXCHANGING if CASES[name].sequential is None])
def test_one_worker_is_not_sequential_training(simulate, quadratic, name):
    """So that ``sequential=None`` is a statement: these rules pull one worker back, or step otherwise."""
    simulation = simulate(rules.get(name), 1, quadratic.start).run(100, quadratic.gradient, lambda k: 0.1)
    x = quadratic.start.copy()
    for k in range(100):
        x -= np.float32(0.1) * quadratic.gradient(x, k)
    assert np.abs(simulation.results()[0] - x).max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_configuration_round_trip(name):
    for values in ({}, CASES[name].parameters):
        rule = rules.get(name, **values)
        again = rules.rule_from_config(json.loads(json.dumps(rule.to_config())))
        assert again == rule and type(again) is type(rule)
    assert {**rule.to_config(), **values} == rule.to_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.communication_period = 3


@pytest.mark.parametrize("name", NAMES)
def test_invalid_parameters_are_refused(name):
    periods = each("communication_period", [0, -1, 2.5, "10", "ever", None, True, float("nan")])
    for values in CASES[name].invalid + periods:
        with pytest.raises(ConfigError, match=f"{name}: {next(iter(values))} must be"):
            rules.get(name, **values)
            pytest.fail(f"took {values}")
