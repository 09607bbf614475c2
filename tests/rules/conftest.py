"""Workers and a server in one thread, and two problems whose optimum is known."""

from __future__ import annotations

import heapq
import itertools

import numpy as np
import pytest

from dkeras_core.rules import Arrival

EPOCH = 20  # local steps


class Simulation:
    """p workers and a server that follow a rule, with its ``Arrival`` as the real server would count it.

    Asynchronous rules: random speeds, exchanges served one by one, shards at different times. With ``delay``, a
    worker goes on with its local steps while its exchange is under way, and gets the answer up to that many steps
    late. Synchronous rules: rounds, with the mean of the messages in the order of the workers. ``as_sent`` rounds
    what travels, in place.
    """

    def __init__(self, rule, workers, x0, seed=0, delay=0, shards=2, as_sent=lambda values: None):
        self.rule = rule.for_workers(workers)
        self.random = np.random.default_rng(seed)
        self.center = x0.copy()
        self.server_state = self.rule.server_state(self.center)
        cuts = np.array_split(np.arange(x0.size), shards)
        spans = [slice(cut[0], cut[-1] + 1) for cut in cuts if cut.size]
        state = self.server_state.items()
        self.parts = [(span, self.center[span], {name: vector[span] for name, vector in state}) for span in spans]
        self.counts = [0] * len(spans)
        self.xs = [x0.copy() for _ in range(workers)]
        self.states = [self.rule.worker_state(x) for x in self.xs]
        self.seen = [[0] * len(spans) for _ in self.xs]
        self.delay, self.as_sent = delay, as_sent
        self.staleness = [0]

    def message(self, worker, vector=None, steps=None) -> np.ndarray:
        """The worker's message; ``vector`` is its x, or the gradient of a rule that sends gradients."""
        vector = self.xs[worker] if vector is None else vector
        message = self.rule.message(vector, self.states[worker], steps or self.rule.communication_period).copy()
        self.as_sent(message)
        return message

    def serve(self, worker, message, workers=1) -> np.ndarray:
        answer = np.full_like(message, np.nan)
        for part, (span, center, state) in enumerate(self.parts):
            count = self.counts[part]
            stale = 0 if self.rule.synchronous else count - self.seen[worker][part]
            arrival = Arrival(worker, count, stale, workers, self.as_sent)
            self.rule.apply(center, message[span], answer[span], state, arrival)
            self.counts[part] = self.seen[worker][part] = count + 1
            self.staleness.append(stale)
        self.as_sent(answer)
        return answer

    def exchange(self, worker, vector=None, steps=None) -> np.ndarray:
        return self.serve(worker, self.message(worker, vector, steps))

    def meet(self, vectors=None, steps=None) -> np.ndarray:
        """One synchronous round; ``vectors`` are gradients, of a rule that sends them."""
        vectors = vectors or self.xs
        messages = [self.message(worker, vector, steps) for worker, vector in enumerate(vectors)]
        total = messages[0].copy()
        for message in messages[1:]:
            total += message
        return self.serve(0, total / np.float32(len(messages)), len(messages))

    def receive(self, worker, answer, sent=None):
        """Work an answer into the worker's x, which has moved on since it was ``sent``."""
        x = self.xs[worker]
        moved = 0 if sent is None else x - sent
        x -= moved
        self.rule.receive(x, answer, self.states[worker])
        x += moved

    def run(self, steps, gradient, rate=lambda k: 1.0):
        """``steps`` local steps x <- x - rate(k) gradient(x, k) for each worker."""
        if not self.rule.exchanging:
            for x in self.xs:
                for k in range(steps):
                    x -= np.float32(rate(k)) * gradient(x, k)
        elif self.rule.synchronous:
            self._rounds(steps, gradient, rate)
        else:
            self._events(steps, gradient, rate)
        return self

    def _period(self, steps) -> int:
        return {"epoch": EPOCH, "fit": steps}.get(self.rule.communication_period, self.rule.communication_period)

    def _rounds(self, steps, gradient, rate):
        tau = self._period(steps)
        for start in range(0, steps, tau):
            window = range(start, min(start + tau, steps))
            if self.rule.local == "averaged_gradients":
                answer = self.meet([gradient(x, start) for x in self.xs])
                for x in self.xs:
                    x -= np.float32(rate(start)) * answer
                continue
            for x in self.xs:
                for k in window:
                    x -= np.float32(rate(k)) * gradient(x, k)
            answer = self.meet(steps=len(window))
            for worker in range(len(self.xs)):
                self.receive(worker, answer)

    def _events(self, steps, gradient, rate):
        tau = self._period(steps)
        pending = {}
        events = [(self.random.exponential(), worker, 0) for worker in range(len(self.xs))]
        heapq.heapify(events)
        while events:
            now, worker, k = heapq.heappop(events)
            x, vector = self.xs[worker], None
            if self.rule.local == "gradients":
                vector = gradient(x, k)
            else:
                x -= np.float32(rate(k)) * gradient(x, k)
            if worker in pending and k >= pending[worker][0]:
                self.receive(worker, *pending.pop(worker)[1:])
            if (k + 1) % tau == 0 and worker not in pending:
                late = self.random.integers(0, self.delay + 1) if self.delay else 0
                answer = self.exchange(worker, vector, tau)
                if late:
                    pending[worker] = (k + late, answer, x.copy())
                else:
                    self.receive(worker, answer)
            if k + 1 < steps:
                heapq.heappush(events, (now + self.random.exponential(), worker, k + 1))
        for worker, (_, answer, sent) in pending.items():
            self.receive(worker, answer, sent)

    @property
    def mean(self) -> np.ndarray:
        return np.mean(self.xs, axis=0)

    @property
    def published(self) -> np.ndarray:
        return self.rule.published(self.center, self.server_state)

    def results(self) -> list[np.ndarray]:
        """What the run gives by default: one vector, or all of an ensemble's; of a moving average its last value."""
        center = [self.published]
        return {"mean": [self.mean], "center": center, "ema": center, "ensemble": self.xs}[self.rule.default_result]


class Quadratic:
    """f(x) = 1/2 (x - b)' A (x - b) with condition number 10; a step of 0.9 is stable."""

    def __init__(self):
        self.curvature = np.geomspace(0.1, 1, 12).astype(np.float32)
        self.optimum = np.random.default_rng(1).normal(size=12).astype(np.float32)
        self.start = np.zeros(12, np.float32)

    def gradient(self, x, k):
        return self.curvature * (x - self.optimum)


class Logistic:
    """A regularised logistic regression with noisy gradients, whose optimum Newton's method gives."""

    def __init__(self):
        self.random = np.random.default_rng(2)
        self.rows = self.random.normal(size=(512, 5))
        chance = 1 / (1 + np.exp(-self.rows @ [1, -2, 0.5, 0, 1]))
        self.labels = (self.random.random(512) < chance).astype(float)
        self.start = np.zeros(5, np.float32)
        draws = [self.random.integers(0, 512, 32) for _ in range(512)]
        signs = (2 * self.labels - 1)[:, None]  # the gradient of log(1 + exp(-s row w)) is -s row / (1 + exp(s row w))
        self._batches = itertools.cycle([(signs * self.rows)[draw].astype(np.float32) for draw in draws])
        self.optimum = np.zeros(5)
        for _ in range(20):
            scores = 1 / (1 + np.exp(-self.rows @ self.optimum))
            hessian = (self.rows * (scores * (1 - scores))[:, None]).T @ self.rows / 512 + 0.01 * np.eye(5)
            self.optimum -= np.linalg.solve(hessian, self._full_gradient(self.optimum))

    def loss(self, w):
        margins = self.rows @ w
        return np.mean(np.logaddexp(0, margins) - self.labels * margins) + 0.005 * w @ w

    def excess(self, w):
        return self.loss(w) - self.loss(self.optimum)

    def _full_gradient(self, w):
        return self.rows.T @ (1 / (1 + np.exp(-self.rows @ w)) - self.labels) / 512 + 0.01 * w

    def gradient(self, w, k):
        rows = next(self._batches)
        return np.float32(0.01) * w - (1 / (1 + np.exp(rows @ w))) @ rows / np.float32(32)


@pytest.fixture
def simulate():
    """The class ``Simulation``: ``simulate(rule, workers, x0, seed=, delay=, shards=, as_sent=)``."""
    return Simulation


@pytest.fixture
def quadratic():
    return Quadratic()


@pytest.fixture
def logistic():
    return Logistic()
