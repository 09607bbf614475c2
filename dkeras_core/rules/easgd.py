"""Elastic averaging SGD, asynchronous (Zhang, Choromanska, LeCun, NIPS 2015, arXiv 1412.6651)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival, Rule


@dataclass(frozen=True, kw_only=True)
class AsynchronousEASGD(Rule):
    """Asynchronous EASGD, Algorithm 1 of arXiv 1412.6651.

    After every tau local steps a worker exchanges with the center c::

        e = alpha (x - c)
        x <- x - e
        c <- c + e

    The server computes e and adds it to c in one atomic step; the worker subtracts the same e, so the sum of all
    workers and the center is conserved by every exchange. Between exchanges the worker takes local steps with any
    optimizer of its own.

    Parameters
    ----------
    moving_rate : float in (0, 1] or "paper"
        alpha. "paper" is the beta = 0.9 of the paper divided over the workers, 0.9 / p. The default 0.5 does not
        depend on p; it is safe because the exchange is atomic, and couples many workers better.
    communication_period : int
        tau, local steps between exchanges; the paper's 10.
    """

    name: ClassVar[str] = "asynchronous_easgd"

    moving_rate: float | str = 0.5

    def validate(self) -> None:
        if self.moving_rate != "paper":
            self._real("moving_rate", above=0, at_most=1, or_else=', or "paper" for 0.9 / workers')

    def for_workers(self, workers: int) -> Self:
        return replace(self, moving_rate=0.9 / workers) if self.moving_rate == "paper" else self

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.subtract(message, center, out=answer)
        np.multiply(answer, np.float32(self.moving_rate), out=answer)
        np.add(center, answer, out=center)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        np.subtract(x, answer, out=x)
