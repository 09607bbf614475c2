"""What a worker computes between two exchanges and does at one: the kinds of rules, with or without overlap."""

from __future__ import annotations

import queue
import threading

import numpy as np

from dkeras_core.exchange import Client
from dkeras_core.rules import Rule


def make_exchanger(rule: Rule, client: Client, trainer, *, overlap: bool) -> Exchanger:
    """Return the exchanger for ``rule``, which is already made for the number of workers."""
    if rule.local != "steps":
        return GradientExchanger(rule, client, trainer)
    return (OverlappedExchanger if overlap else Exchanger)(rule, client, trainer)


class Exchanger:
    """Local steps of the worker's own optimizer on x; an exchange waits for its answer.

    After ``start``, ``local`` and ``begin`` alternate, with ``settle`` before each ``begin``. x is float32[n], the
    same array in all calls; nothing of that size is allocated after ``start``.

    Parameters
    ----------
    rule : Rule
        Made for the number of workers.
    client : Client
        Its session; used by one thread at a time, see ``busy``.
    trainer : LocalTrainer
    """

    busy = False
    """Whether the client is in use by another thread."""

    def __init__(self, rule: Rule, client: Client, trainer):
        self._rule, self._client, self._trainer = rule, client, trainer

    def start(self, x: np.ndarray) -> None:
        """Take ``x`` as the center that this worker begins with."""
        self._state = self._rule.worker_state(x)

    def local(self, window, x: np.ndarray) -> float:
        """Compute on a window; return the mean of its losses."""
        return self._trainer.window(window, x)

    def settle(self, x: np.ndarray) -> None:
        """Wait for the exchange under way, if there is one, and work its answer into ``x``."""

    def begin(self, x: np.ndarray, steps: int) -> None:
        """Exchange ``x``, ``steps`` local steps after the last time."""
        self._rule.receive(x, self._client.exchange(self._message(x, steps)), self._state)

    def close(self) -> None:
        """End what ``begin`` started; for the case of an error."""

    def _message(self, x: np.ndarray, steps: int) -> np.ndarray:
        message = self._rule.message(x, self._state, steps)
        if not finite(message):
            raise NotFinite(message)
        return message


class OverlappedExchanger(Exchanger):
    """The exchange travels in a thread of its own while the next window is computed.

    What is sent is a copy of x. When the answer is there the rule works it into that copy, and the difference that
    this makes is added to x, which has moved on meanwhile: the elastic difference comes one period late
    (facts on convergence: up to 0.26 points on the mean of the workers).
    """

    def __init__(self, rule: Rule, client: Client, trainer):
        super().__init__(rule, client, trainer)
        self._requests: queue.SimpleQueue = queue.SimpleQueue()
        self._answers: queue.SimpleQueue = queue.SimpleQueue()
        self._under_way = False
        self._thread = threading.Thread(target=self._carry, name="exchange-overlap", daemon=True)
        self._thread.start()

    def start(self, x: np.ndarray) -> None:
        super().start(x)
        self._sent, self._shadow = np.empty_like(x), np.empty_like(x)

    @property
    def busy(self) -> bool:
        return self._under_way and self._answers.empty()

    def settle(self, x: np.ndarray) -> None:
        if not self._under_way:
            return
        answer = self._answers.get()  # ends: every request of the client has a deadline
        self._under_way = False
        if isinstance(answer, BaseException):
            raise answer
        self._rule.receive(self._shadow, answer, self._state)
        np.subtract(self._shadow, self._sent, out=self._shadow)
        np.add(x, self._shadow, out=x)

    def begin(self, x: np.ndarray, steps: int) -> None:
        np.copyto(self._sent, x)
        np.copyto(self._shadow, x)
        message = self._message(self._sent, steps)
        self._under_way = True
        self._requests.put(message)

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join()

    def _carry(self) -> None:
        while (message := self._requests.get()) is not None:
            try:
                self._answers.put(self._client.exchange(message))
            except BaseException as error:  # handed over: settle raises it in the worker's thread
                self._answers.put(error)


class GradientExchanger(Exchanger):
    """The gradient of a window at x is the message.

    Of a rule with ``local`` "gradients" the server makes the step and the answer goes into x; with
    "averaged_gradients" the answer is a gradient, with which the worker's own optimizer makes the step.
    """

    def start(self, x: np.ndarray) -> None:
        super().start(x)
        self._gradient = np.empty_like(x)

    def local(self, window, x: np.ndarray) -> float:
        return self._trainer.gradient(window, self._gradient, x)

    def begin(self, x: np.ndarray, steps: int) -> None:
        answer = self._client.exchange(self._message(self._gradient, steps))
        if self._rule.local == "averaged_gradients":
            self._trainer.step(answer, x)
        else:
            self._rule.receive(x, answer, self._state)


class NotFinite(Exception):
    """A vector that should travel holds NaN or infinite values; the worker says where they come from."""

    def __init__(self, vector: np.ndarray):
        super().__init__("a vector is not finite")
        self.vector = vector


def finite(vector: np.ndarray) -> bool:
    """Whether all values are finite; allocates nothing when they are."""
    # NaN and infinity survive a sum, and einsum has the fastest one that allocates nothing and starts no threads.
    return bool(np.isfinite(np.einsum("i->", vector))) or bool(np.isfinite(vector).all())
