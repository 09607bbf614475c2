"""What the workers hand over: their last vectors, as a mean or each for itself, and their non-trainable states."""

from __future__ import annotations

import threading

import numpy as np

from dkeras_core.exchange.averages import ShardedMean
from dkeras_core.exchange.frames import VECTOR


class Finals:
    """Last vectors of shape (n,) and non-trainable states of shape (m,) of p workers; safe for all threads.

    The mean of the vectors is kept shard by shard as they arrive, so that memory does not grow with p; ``keep`` keeps
    each of them as well. States are small and kept for each worker.
    """

    def __init__(self, spans: list[slice], state: np.ndarray, keep: bool):
        self._spans, self._initial_state = spans, state
        self._lock = threading.Lock()
        self._mean = ShardedMean(spans[-1].stop, len(spans))
        self._shared: dict[int, np.ndarray] = {}  # the last state that each worker sent, finished or not
        self._states: dict[int, np.ndarray] = {}  # of workers that have finished
        self._vectors: dict[int, np.ndarray] | None = {} if keep else None

    def begin(self) -> np.ndarray | None:
        """Where to keep a last vector that begins to come, if it is to be kept."""
        return None if self._vectors is None else np.empty(self._spans[-1].stop, VECTOR)

    def add(self, part: int, values: np.ndarray, kept: np.ndarray | None) -> None:
        """Take one shard, finite, of a last vector."""
        span = self._spans[part]
        with self._lock:
            self._mean.add(part, span, values)
        if kept is not None:
            kept[span] = values

    def complete(self, worker: int, kept: np.ndarray | None, state: np.ndarray | None) -> None:
        """A worker has sent all: a vector or state that it handed over before is forgotten, but for the mean."""
        with self._lock:
            if kept is not None:
                self._vectors[worker] = kept
            if state is not None:
                self._states[worker] = self._shared[worker] = state

    def share_state(self, worker: int, state: np.ndarray) -> None:
        """Keep the state of a worker that still trains."""
        with self._lock:
            self._shared[worker] = state

    def shared_state(self) -> np.ndarray | None:
        """The mean of the last states that workers have sent; before the first one, the initial state."""
        if not self._initial_state.size:
            return None
        with self._lock:
            return _mean(self._shared) if self._shared else self._initial_state.copy()

    def mean(self) -> np.ndarray:
        """The mean of the last vectors. Raises ZeroDivisionError when no worker has finished."""
        with self._lock:
            return self._mean.result(self._spans)

    def mean_state(self) -> np.ndarray | None:
        """The mean of the states of workers that have finished, or None."""
        with self._lock:
            return _mean(self._states) if self._states else None

    def vectors(self) -> list[np.ndarray] | None:
        """The last vectors that were kept, in the order of the workers' numbers."""
        return None if self._vectors is None else _in_order(self._vectors)

    def states(self) -> list[np.ndarray] | None:
        """The states that belong to ``vectors``, or None."""
        return None if self._vectors is None or not self._states else _in_order(self._states)


def _in_order(values: dict[int, np.ndarray]) -> list[np.ndarray]:
    return [value for _, value in sorted(values.items())]


def _mean(values: dict[int, np.ndarray]) -> np.ndarray:
    return np.mean(_in_order(values), axis=0, dtype=VECTOR)
