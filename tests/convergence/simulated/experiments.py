"""Which runs make the tables: algorithm x workers x communication period x seeds, and what the defaults came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from dkeras_core import rules
from dkeras_core.rules.registry import RULES
from simulated.runs import Run

EPOCHS = {"higgs": 10, "mnist": 5}
SEEDS = (1, 2, 3)
COLUMNS = ((4, 1), (8, 1), (16, 1), (64, 1), (64, 2))
"""Workers, and the factor on the epochs; of MNIST, which takes longer, 64 workers only with twice the epochs."""
RECOMMENDED = ("asynchronous_easgd", "diloco", "model_averaging")
PERIODS = (2, 4, 10, 50)
SCALES = (1.0, 2.0, 4.0, 8.0)
SEQUENTIAL = (("adam", 1e-3), ("adam", 5e-4), ("sgd", 0.2), ("sgd", 0.1))
NESTEROV = {"eamsgd": {"optimizer": "sgd", "rate": 0.01}}
"""Adam at its usual rate is the default of all others."""


def describe(run: Run | dict[str, Any]) -> str:
    """One line, by whose words runs can be picked."""
    values = run.resolved() if isinstance(run, Run) else run
    return (
        f"{values['data']} {values['algorithm']} p={values['workers']} tau={values['period']} "
        f"epochs={values['epochs']} {values['optimizer']} {values['rate']:g} x{values['scale']:g} seed={values['seed']}"
    )


def everything(quick: bool = False) -> list[Run]:
    """All runs of the page, the most wanted ones first."""
    if quick:
        chosen = [*sequential("higgs", (1,)), *defaults("higgs", RECOMMENDED, (1,))]
        return [run for run in chosen if run.workers <= 16]
    chosen = []
    for data in EPOCHS:
        chosen += [*sequential(data, SEEDS), *defaults(data, RECOMMENDED, SEEDS)]
    for data in EPOCHS:
        chosen += defaults(data, others(), SEEDS[:1])
    chosen += [*periods("higgs", SEEDS), *defaults("higgs", others(), SEEDS[1:]), *scales()]
    return [*chosen, *defaults("mnist", others(), SEEDS[1:]), *periods("mnist", SEEDS)]


def others() -> list[str]:
    """The algorithms beside the recommended ones that p workers can be compared with."""
    names = [name for name in rules.names() if RULES[name].local != "pieces"]  # a search over all rows has no tau
    return [name for name in names if name not in (*RECOMMENDED, "sequential", "ensemble")]


def sequential(data: str, seeds: Iterable[int]) -> Iterator[Run]:
    """What distributed training is compared with: the best of several learning rates of two optimizers."""
    for seed in seeds:
        for optimizer, rate in SEQUENTIAL:
            yield Run(data, "sequential", epochs=EPOCHS[data], optimizer=optimizer, rate=rate, seed=seed)


def columns(data: str) -> tuple[tuple[int, int], ...]:
    """The columns of a data set's tables."""
    return tuple(column for column in COLUMNS if data != "mnist" or column != (64, 1))


def default_period(algorithm: str, workers: int) -> int | str:
    """The communication period when the user says nothing; "fit" of an algorithm that does not exchange."""
    return RULES[algorithm]().for_workers(workers).communication_period


def default(data: str, algorithm: str, workers: int, factor: int, seed: int) -> Run:
    """The run of an algorithm with nothing said but its name, and ``factor`` times the epochs."""
    return _run(data, algorithm, workers, factor, seed, default_period(algorithm, workers))


def defaults(data: str, algorithms: Iterable[str], seeds: Iterable[int]) -> Iterator[Run]:
    """All columns of these algorithms with their default settings."""
    for seed in seeds:
        for algorithm in algorithms:
            for workers, factor in columns(data):
                yield default(data, algorithm, workers, factor, seed)


def periods(data: str, seeds: Iterable[int]) -> Iterator[Run]:
    """The recommended algorithms with communication periods of all sizes."""
    for seed in seeds:
        for algorithm in RECOMMENDED:
            for period in PERIODS:
                for workers, factor in columns(data):
                    yield _run(data, algorithm, workers, factor, seed, period)


def _run(data: str, algorithm: str, workers: int, factor: int, seed: int, period: int | str) -> Run:
    tau = 10 if period == "fit" else period  # steps of a window, where nobody exchanges
    return Run(data, algorithm, workers, tau, factor * EPOCHS[data], seed=seed, **NESTEROV.get(algorithm, {}))


def scales() -> Iterator[Run]:
    """What the factor on the learning rate does, on the Higgs events."""
    for algorithm in RECOMMENDED:
        for workers in (4, 16, 64):
            for optimizer, rate in (("adam", 1e-3), ("sgd", 0.1)):
                for scale in SCALES:
                    yield Run("higgs", algorithm, workers, 10, 10, optimizer, rate, scale=scale)
