"""A synchronous rule whose answers can be computed by hand, vectors for it, and calls that are made at once."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules import Rule

N = 1000


@dataclass(frozen=True, kw_only=True)
class Averaging(Rule):
    """Every round the center becomes the mean; the state counts rounds and workers, shard by shard."""

    name: ClassVar[str] = "averaging_for_tests"
    synchronous: ClassVar[bool] = True

    def server_state(self, center):
        return {"rounds": np.zeros_like(center), "met": np.zeros_like(center)}

    def apply(self, center, message, answer, state, arrival):
        assert (arrival.worker, arrival.staleness) == (0, 0)
        state["rounds"] += 1
        state["met"][:] = arrival.workers
        center[:] = message
        answer[:] = message

    def receive(self, x, answer, state):
        x[:] = answer

    def published(self, center, state):
        return state["met"]


def vector(seed):
    return np.random.default_rng(seed).normal(size=N).astype(np.float32)


def full(value):
    return np.full(N, value, np.float32)


def together(*calls):
    """Run calls in threads of their own; their results, or what they raised."""
    results = [None] * len(calls)

    def run(index, call):
        try:
            results[index] = call()
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    return results
