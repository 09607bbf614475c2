"""What rules have in common whose workers take the center as their x: DOWNPOUR and all that average."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival, Rule


class CenterRule(Rule):
    """The answer is the new center, which becomes the worker's x: x <- c."""

    default_result: ClassVar[str] = "center"

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        np.copyto(x, answer)


class UpdateRule(CenterRule):
    """A worker sends its update since it last took the center, d = x - c_taken; the server adds it: c <- c + d."""

    def worker_state(self, x: np.ndarray) -> Arrays:
        return {"taken": x.copy(), "update": np.zeros_like(x)}

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        return np.subtract(x, state["taken"], out=state["update"])

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.add(center, message, out=center)
        np.copyto(answer, center)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        super().receive(x, answer, state)
        np.copyto(state["taken"], answer)
