"""Which runs make the table: algorithm x workers x communication period x seeds, and what the defaults came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dkeras_core import rules
from dkeras_core.rules.registry import RULES
from simulated.runs import Run

EPOCHS = {"higgs": 10, "mnist": 5}
SEEDS = (1, 2, 3)
COLUMNS = ((4, 1), (8, 1), (16, 1), (64, 1), (64, 2))
"""Workers, and the factor on the epochs; of MNIST, which takes longer, 64 workers only with twice the epochs."""
RECOMMENDED = ("asynchronous_easgd", "diloco", "model_averaging")
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
        chosen = [*sequential("higgs", (1,)), *table("higgs", RECOMMENDED, (10,), (1,))]
        return [run for run in chosen if run.workers <= 16]
    chosen = []
    for data in EPOCHS:
        chosen += [*sequential(data, SEEDS), *table(data, RECOMMENDED[:2], (4, 10), SEEDS)]
    others = [name for name in rules.names() if RULES[name].local != "pieces"]  # a search over all rows has no tau
    others = [name for name in others if name not in (*RECOMMENDED, "sequential", "ensemble")]
    for seed in SEEDS:
        for data in EPOCHS if seed == 1 else ("higgs",):
            chosen += [*table(data, RECOMMENDED[2:], (4, 10), (seed,)), *table(data, others, (10,), (seed,))]
            chosen += table(data, RECOMMENDED, (2, 50), (seed,))
    return [*chosen, *scales()]


def sequential(data: str, seeds: tuple[int, ...]) -> Iterator[Run]:
    """What distributed training is compared with: the best of several learning rates of two optimizers."""
    for seed in seeds:
        for optimizer, rate in SEQUENTIAL:
            yield Run(data, "sequential", epochs=EPOCHS[data], optimizer=optimizer, rate=rate, seed=seed)


def table(data: str, algorithms, periods: tuple[int, ...], seeds: tuple[int, ...]) -> Iterator[Run]:
    """Default settings; of an algorithm that has but one communication period, that one."""
    for seed in seeds:
        for algorithm in algorithms:
            for period in periods:
                only = only_period(algorithm)
                tau = only if isinstance(only, int) else period
                for workers, factor in COLUMNS:
                    if data == "mnist" and (workers, factor) == (64, 1):
                        continue
                    epochs = factor * EPOCHS[data]
                    yield Run(data, algorithm, workers, tau, epochs, seed=seed, **NESTEROV.get(algorithm, {}))


def only_period(algorithm: str) -> int | str | None:
    """The communication period of an algorithm that has no choice."""
    return RULES[algorithm].only_period


def scales() -> Iterator[Run]:
    """What the factor on the learning rate does, on the Higgs events."""
    for algorithm in RECOMMENDED:
        for workers in (4, 16, 64):
            for optimizer, rate in (("adam", 1e-3), ("sgd", 0.1)):
                for scale in SCALES:
                    yield Run("higgs", algorithm, workers, 10, 10, optimizer, rate, scale=scale)
