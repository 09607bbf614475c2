"""ADOWNPOUR: DOWNPOUR that publishes the time average of its center (a baseline of arXiv 1412.6651)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival
from dkeras_core.rules.updates import AddedUpdateRule


@dataclass(frozen=True, kw_only=True)
class ADownpour(AddedUpdateRule):
    """ADOWNPOUR, section 5 of arXiv 1412.6651.

    Workers and center are those of DOWNPOUR. With t the number of updates of the center c before this one, and z
    first the initial center, a = ``commit_rate``::

        z <- (1 - 1 / (t + 1)) z + 1 / (t + 1) c
        c <- c + a d

    z is the mean of all centers up to then, the initial one included, and it is what the result "center" publishes.

    Parameters
    ----------
    commit_rate : float in (0, 1] or "mean"
        a, the part of each update that is added: the paper's 1, or "mean" for 1 / p, with which the center moves by
        the mean of the workers' updates.
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges.
    """

    name: ClassVar[str] = "adownpour"

    def averaging(self, exchanges: int) -> float:
        """The weight of the center in its average, at the update after ``exchanges`` others."""
        return 1 / (exchanges + 1)

    def server_state(self, center: np.ndarray) -> Arrays:
        return {"average": center.copy()}

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        average = state["average"]
        np.subtract(average, center, out=average)
        np.multiply(average, np.float32(1 - self.averaging(arrival.exchanges)), out=average)
        np.add(average, center, out=average)
        super().apply(center, message, answer, state, arrival)

    def published(self, center: np.ndarray, state: Arrays) -> np.ndarray:
        return state["average"]
