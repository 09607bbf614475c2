"""One run as a plain record: what is asked for, what came out, and the file that keeps both."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dkeras_core import rules
from dkeras_core.rules.registry import RULES
from dkeras_core.training.scaling import scaling
from simulated import data

HIDDEN = {"blobs": (16,)}  # of the others: the 600-600 network


@dataclass(frozen=True)
class Run:
    """What one run is asked for. ``scale`` "auto" is what dkeras_core.training.scaling chooses.

    ``period`` is tau, or "epoch"; ``parameters`` are further hyper-parameters of the rule. Algorithm "sequential" is
    one worker.
    """

    data: str
    algorithm: str
    workers: int = 1
    period: int | str = 10
    epochs: int = 5
    optimizer: str = "adam"
    rate: float = 1e-3
    scale: float | str = "auto"
    batch: int = 32
    seed: int = 1
    parameters: dict[str, Any] = field(default_factory=dict)

    def setting(self) -> dict[str, Any]:
        """The local optimizer as the pipeline file would name it."""
        return {"name": self.optimizer, "learning_rate": self.rate}

    def resolved(self) -> dict[str, Any]:
        """All that decides the outcome, as plain values; equal runs have equal ones."""
        chosen = scaling(self.setting(), self.workers, self.rule(), self.scale)
        values = dataclasses.asdict(self)
        rule = self.rule()
        values["parameters"] = {k: v for k, v in rule.to_config().items() if k not in ("name", "communication_period")}
        return {**values, **chosen._asdict()}

    def key(self) -> str:
        return key_of(self.resolved())

    def rule(self) -> rules.Rule:
        period = {} if RULES[self.algorithm].only_period else {"communication_period": self.period}
        return rules.get(self.algorithm, **period, **self.parameters).for_workers(self.workers)


def key_of(resolved: dict[str, Any]) -> str:
    return json.dumps(resolved, sort_keys=True)


def execute(run: Run) -> dict[str, Any]:
    """Train and score; the record holds the run, the score of each result, and how it went."""
    from simulated.workers import Diverged, Simulation

    begun = time.monotonic()
    dataset, network, asked = _dataset(run.data), _network(run.data), run.resolved()
    rule = run.rule()
    setting = rule.optimizer(run.setting())
    window = _window(rule, run, len(dataset.train[0]))
    local = _local(run.data, json.dumps(setting, sort_keys=True), rule.lookahead, window)
    order = np.random.default_rng([run.seed, 4]).permutation(len(dataset.train[0]))
    simulation = Simulation(
        rule,
        local,
        network.initial(run.seed),
        np.array_split(order, run.workers),
        period=window,
        epochs=run.epochs,
        batch=run.batch,
        rate=setting["learning_rate"],
        scale=asked["scale"],
        warmup=asked["warmup"],
        warm_start=asked["warm_start"],
        seed=run.seed,
    )
    diverged = None
    try:
        simulation.train()
    except Diverged as error:
        diverged = str(error)
    vectors = {"mean": simulation.mean, "center": simulation.published, "ema": simulation.ema}
    rows, labels = dataset.test
    scores = {}
    for name, vector in vectors.items():
        probabilities = np.asarray(network.predict(vector, rows))
        fine = diverged is None and np.isfinite(probabilities).all()
        scores[name] = round(dataset.score(probabilities, labels), 4) if fine else None
    return {
        "run": asked,
        "scores": scores,
        "default_result": rule.default_result,
        "diverged": diverged,
        "exchanges": simulation.exchanges,
        "steps": max(worker.steps for worker in simulation.workers),
        "staleness": simulation.staleness,
        "loss": simulation.workers[0].losses[-1],
        "seconds": round(time.monotonic() - begun, 1),
    }


class Results:
    """Records as JSON lines in a folder, one file a data set; what is there is not run again."""

    def __init__(self, folder: Path):
        self._folder = folder

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                yield json.loads(line)

    def add(self, record: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{record['run']['data']}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def missing(self, wanted: Iterable[Run]) -> list[Run]:
        """The runs that have no record yet, each once."""
        known = {key_of(record["run"]) for record in self}
        return list({key: run for run in wanted if (key := run.key()) not in known}.values())


def _window(rule: rules.Rule, run: Run, rows: int) -> int:
    """Steps of a window: tau, those of an epoch, or what the run says when the algorithm does not exchange."""
    if rule.communication_period == "epoch":
        return -(-rows // (run.workers * run.batch))
    return rule.communication_period if isinstance(rule.communication_period, int) else run.period


@lru_cache(maxsize=2)
def _dataset(name: str) -> data.Dataset:
    return data.load(name)


@lru_cache(maxsize=2)
def _network(name: str):
    from simulated.network import Network

    dataset = _dataset(name)
    return Network(dataset.train[0].shape[1], HIDDEN.get(name, (600, 600)), dataset.classes)


@lru_cache(maxsize=4)
def _local(name: str, setting: str, lookahead: bool, period: int):
    from simulated.network import SGD, Adam, Local

    arguments = json.loads(setting)
    kind, _ = arguments.pop("name"), arguments.pop("learning_rate")
    optimizer = Adam(**arguments) if kind == "adam" else SGD(**arguments, lookahead=lookahead)
    return Local(_network(name), optimizer, *_dataset(name).train, period)
