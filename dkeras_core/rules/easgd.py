"""Elastic averaging SGD (Zhang, Choromanska, LeCun, NIPS 2015, arXiv 1412.6651), synchronous and asynchronous."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from dkeras_core.errors import ConfigError
from dkeras_core.rules.base import BY_WORKERS, Arrays, Arrival, Rule

PAPER_BETA = 0.9


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
    moving_rate : float in (0, 1], "by_workers" or "paper"
        alpha. "by_workers", the default, is 0.5 up to 16 workers and 0.7 above; both are safe because the exchange is
        atomic, and couple many workers better than "paper", the beta = 0.9 of the paper divided over the workers.
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges; the paper's 10.
    """

    name: ClassVar[str] = "asynchronous_easgd"
    moving_rates: ClassVar[dict[str, Callable[[int], float]]] = {
        BY_WORKERS: lambda workers: 0.5 if workers <= 16 else 0.7,
        "paper": lambda workers: PAPER_BETA / workers,
    }

    moving_rate: float | str = BY_WORKERS

    def validate(self) -> None:
        if not (isinstance(self.moving_rate, str) and self.moving_rate in self.moving_rates):
            words = " or ".join(f'"{word}"' for word in self.moving_rates)
            self._real("moving_rate", above=0, at_most=1, or_else=f", or {words}")

    def for_workers(self, workers: int) -> Self:
        rule = super().for_workers(workers)
        if not isinstance(rule.moving_rate, str):
            return rule
        return replace(rule, moving_rate=self.moving_rates[rule.moving_rate](workers))

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.subtract(message, center, out=answer)
        np.multiply(answer, np.float32(self.moving_rate), out=answer)
        arrival.as_sent(answer)
        np.add(center, answer, out=center)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        np.subtract(x, answer, out=x)


@dataclass(frozen=True, kw_only=True)
class EASGD(AsynchronousEASGD):
    """Synchronous EASGD, equations (5) and (6) of arXiv 1412.6651, every tau local steps.

    All p workers meet; with beta = p alpha and every right-hand side of the same moment::

        x_i <- x_i - alpha (x_i - c)
        c <- (1 - beta) c + beta mean_i x_i

    The server gets the mean of those that met and answers with the old center; each worker makes its own elastic
    step. Workers that have finished no longer pull: beta is alpha times the number that met, so that each round
    conserves the sum of workers and center. With one worker this is asynchronous EASGD.

    Parameters
    ----------
    moving_rate : float in (0, 1] or "paper"
        alpha; p alpha must not exceed 1, beyond which the center overshoots the workers' mean. The default "paper"
        is 0.9 / p.
    communication_period : int, "by_workers", "epoch" or "fit"
        tau, local steps between rounds; the paper's 10.
    """

    name: ClassVar[str] = "easgd"
    synchronous: ClassVar[bool] = True
    whole_vectors: ClassVar[bool] = True
    moving_rates: ClassVar[dict[str, Callable[[int], float]]] = {"paper": lambda workers: PAPER_BETA / workers}

    moving_rate: float | str = "paper"

    def for_workers(self, workers: int) -> Self:
        rule = super().for_workers(workers)
        if rule.moving_rate * workers > 1 + 1e-9:
            raise ConfigError(
                f"algorithm {self.name}: moving_rate {rule.moving_rate:g} x {workers} workers is "
                f"{rule.moving_rate * workers:g}; above 1 the center overshoots the mean of the workers",
                f'set algorithm.moving_rate to at most {1 / workers:g}, or to "paper" for 0.9 / workers',
            )
        return rule

    def worker_state(self, x: np.ndarray) -> Arrays:
        return {"difference": np.zeros_like(x)}

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.copyto(answer, center)
        np.subtract(message, center, out=center)
        np.multiply(center, np.float32(self.moving_rate * arrival.workers), out=center)
        np.add(center, answer, out=center)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        difference = np.subtract(x, answer, out=state["difference"])
        np.multiply(difference, np.float32(self.moving_rate), out=difference)
        np.subtract(x, difference, out=x)
