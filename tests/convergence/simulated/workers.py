"""p workers and a parameter server in one thread, in the order in which their clocks would have them meet.

Every worker has a speed of its own and steps of varying length. Between two exchanges workers do not touch, so it is
enough to serve the exchanges in the order of their times: each takes all shards of the center at once, as the server's
locks have it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dkeras_core.exchange.averages import TailAverage
from dkeras_core.rules import Arrival, Rule
from simulated.network import Local


@dataclass
class Worker:
    """One worker: its rows, its x, and what it has yet to do."""

    number: int
    x: np.ndarray
    state: dict
    optimizer: tuple
    windows: Iterator[Window]
    speed: float
    seen: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)


class Diverged(Exception):
    """A loss or a vector is not finite, as the server would have refused it."""


Window = list[np.ndarray]


def windows(rows: np.ndarray, epochs: int, batch: int, first: int, period: int, random: np.random.Generator):
    """Yield what lies between two exchanges: ``first`` steps, then ``period`` steps at a time, counted through epochs.

    A window is a list of int32 arrays [k, b], the numbers of the rows of k batches; the partial batch at the end of
    an epoch is an array of its own. The last window of the run may be short.
    """
    window, due = [], first or period
    for _ in range(epochs):
        order = random.permutation(rows).astype(np.int32)
        whole = len(order) - len(order) % batch
        pieces = [order[:whole].reshape(-1, batch)] if whole else []
        if whole < len(order):
            pieces.append(order[whole:].reshape(1, -1))
        for piece in pieces:
            while len(piece):
                window.append(piece[:due])
                due -= len(window[-1])
                piece = piece[len(window[-1]) :]
                if not due:
                    yield window
                    window, due = [], period
    if window:
        yield window


def warmed(rate: float, warmup_steps: int, first: int, count: int) -> np.ndarray:
    """Learning rates of the steps ``first`` to ``first + count - 1``: on a straight line from 0 to ``rate``."""
    share = np.minimum(1.0, (first + np.arange(1, count + 1)) / max(1, warmup_steps))
    return (rate * share).astype(np.float32)


class Simulation:
    """One run. After ``train``, ``mean``, ``center`` and ``ema`` are its three results.

    Parameters
    ----------
    rule : Rule
        Made for p workers.
    local : Local
        Compiled local training.
    x0 : float32 array of shape (n,)
        The initial center.
    parts : list of int arrays
        The rows of each worker.
    period : int
        Steps of a window.
    rate, scale, warmup : float
        Learning rate, the factor on it, and the share of a worker's steps over which the factor is reached.
    warm_start : int
        Local steps that worker 0 makes before the others take its x.
    """

    def __init__(
        self,
        rule: Rule,
        local: Local,
        x0: np.ndarray,
        parts: list[np.ndarray],
        *,
        period: int,
        epochs: int,
        batch: int = 32,
        rate: float,
        scale: float = 1.0,
        warmup: float = 0.0,
        warm_start: int = 0,
        seed: int = 0,
    ):
        self.rule, self.local = rule, local
        self.center = x0.copy()
        self.server_state = rule.server_state(self.center)
        self.exchanges = 0
        self.staleness = 0
        stride = 1 if rule.synchronous or not rule.exchanging else max(16, len(parts))  # as exchange.center has it
        self._tail = TailAverage(self.center, 1, stride)
        self._period = period
        self._answer = np.empty_like(x0)
        self._rate = rate * scale
        self._warm_start = warm_start
        self._clocks = np.random.default_rng([seed, 2])
        steps = epochs * -(-len(parts[0]) // batch)
        self._warmup_steps = round(warmup * steps)
        self.workers = []
        for number, rows in enumerate(parts):
            x = x0.copy()
            randomness = np.random.default_rng([seed, 3, number])
            order = windows(rows, epochs, batch, 0 if number else warm_start, period, randomness)
            speed = self._clocks.uniform(0.8, 1.25)
            self.workers.append(Worker(number, x, rule.worker_state(x), local.state(x), order, speed))

    def train(self) -> None:
        """Run to the end. Raises Diverged."""
        if self._warm_start:
            self._go_ahead()
        self._in_rounds() if self.rule.synchronous and self.rule.exchanging else self._by_the_clock()
        if not np.isfinite(self.mean).all():
            raise Diverged("the workers' mean is not finite")

    @property
    def mean(self) -> np.ndarray:
        return np.mean([worker.x for worker in self.workers], axis=0)

    @property
    def published(self) -> np.ndarray:
        return self.rule.published(self.center, self.server_state)

    @property
    def ema(self) -> np.ndarray:
        return self._tail.values

    def _go_ahead(self) -> None:
        """Worker 0 makes the first steps alone; its x becomes the center and everyone's x."""
        first = self.workers[0]
        self._steps(first, next(first.windows))
        np.copyto(self.center, first.x)
        for worker in self.workers:
            np.copyto(worker.x, first.x)
            worker.state = self.rule.worker_state(worker.x)
        self.server_state = self.rule.server_state(self.center)

    def _by_the_clock(self) -> None:
        events = []
        for worker in self.workers:
            self._begin(worker, 0.0, events)
        while events:
            now, _, worker, window = heapq.heappop(events)
            message = self._compute(worker, window)
            if message is None:
                if len(self.workers) == 1:  # sequential training with an average of its weights, the best it can have
                    self._tail.update(0, slice(None), worker.x, -(-worker.steps // self._period))
            else:
                self._apply(message, Arrival(worker.number, self.exchanges, self.exchanges - worker.seen))
                worker.seen = self.exchanges
                self._receive(worker)
            self._begin(worker, now, events)

    def _begin(self, worker: Worker, now: float, events: list) -> None:
        window = next(worker.windows, None)
        if window is not None:
            took = self._clocks.gamma(sum(map(len, window))) / worker.speed
            heapq.heappush(events, (now + took, worker.number, worker, window))

    def _in_rounds(self) -> None:
        """Rounds of the workers that still have rows; the mean of their messages, summed in the workers' order."""
        total = np.empty_like(self.center)
        while True:
            met = [(worker, window) for worker in self.workers if (window := next(worker.windows, None)) is not None]
            if not met:
                return
            total[:] = 0
            for worker, window in met:
                total += self._compute(worker, window)
            total /= np.float32(len(met))
            self._apply(total, Arrival(0, self.exchanges, 0, len(met)))
            for worker, _ in met:
                self._receive(worker)

    def _compute(self, worker: Worker, window: Window) -> np.ndarray | None:
        """What the worker does between two exchanges; its message, or None from a rule that does not exchange."""
        if self.rule.local in ("gradients", "averaged_gradients"):
            gradient, loss = self.local.gradient(worker.x, window[0][0])
            self._check(worker, loss)
            return self.rule.message(gradient, worker.state, 1)
        self._steps(worker, window)
        return self.rule.message(worker.x, worker.state, sum(map(len, window))) if self.rule.exchanging else None

    def _steps(self, worker: Worker, window: Window) -> None:
        for batches in window:
            rates = self._rates(worker, len(batches))
            worker.optimizer, loss = self.local.window(worker.x, worker.optimizer, batches, rates)
            worker.steps += len(batches)
            self._check(worker, loss)

    def _check(self, worker: Worker, loss: float) -> None:
        worker.losses.append(loss)
        if not np.isfinite(loss):
            raise Diverged(f"loss {loss} of worker {worker.number} after {worker.steps} steps")

    def _rates(self, worker: Worker, count: int) -> np.ndarray:
        return warmed(self._rate, self._warmup_steps, worker.steps, count)

    def _apply(self, message: np.ndarray, arrival: Arrival) -> None:
        if not np.isfinite(np.einsum("i->", message)):
            raise Diverged(f"worker {arrival.worker} pushed a value that is not finite")
        self.staleness = max(self.staleness, arrival.staleness)
        self.rule.apply(self.center, message, self._answer, self.server_state, arrival)
        self.exchanges += 1
        self._tail.update(0, slice(None), self.center, self.exchanges)

    def _receive(self, worker: Worker) -> None:
        if self.rule.local == "averaged_gradients":
            (rate,) = self._rates(worker, 1)
            worker.optimizer = self.local.step(worker.x, worker.optimizer, self._answer, rate)
            worker.steps += 1
            return
        self.rule.receive(worker.x, self._answer, worker.state)
        if self.rule.local == "gradients":
            worker.steps += 1
