"""What rules have in common whose workers take the center as their x: DOWNPOUR and all that average."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival, Rule


class CenterRule(Rule):
    """A worker sends its x; the answer is the new center c, which becomes its x.

    The worker keeps the x that it sent, so that local steps made while the exchange was under way are not lost::

        x <- c + (x - x_sent)

    Without overlap x is x_sent, and the difference is exactly zero.
    """

    default_result: ClassVar[str] = "center"

    def worker_state(self, x: np.ndarray) -> Arrays:
        return {"base": x.copy()}

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        np.copyto(state["base"], x)
        return state["base"]

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        np.subtract(x, state["base"], out=x)
        np.add(x, answer, out=x)


class UpdateRule(CenterRule):
    """A worker sends its update since it last took the center, x - c_taken; the server adds it to the center.

    ``state["base"]`` is c_taken between exchanges, and x_sent while one is under way.
    """

    def worker_state(self, x: np.ndarray) -> Arrays:
        return {"base": x.copy(), "update": np.zeros_like(x)}

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        np.subtract(x, state["base"], out=state["update"])
        super().message(x, state, steps)
        return state["update"]

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.add(center, message, out=center)
        np.copyto(answer, center)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        super().receive(x, answer, state)
        np.copyto(state["base"], answer)
