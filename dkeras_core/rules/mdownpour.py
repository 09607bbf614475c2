"""MDOWNPOUR: DOWNPOUR with Nesterov's momentum at the server (a baseline of arXiv 1412.6651)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival
from dkeras_core.rules.updates import CenterRule


@dataclass(frozen=True, kw_only=True)
class MDownpour(CenterRule):
    """MDOWNPOUR, section 5 of arXiv 1412.6651 (Algorithms 4 and 5 of its supplement).

    Workers hold no optimizer: each sends the gradient g of one batch at the center that it took last, and the server
    makes a step of Nesterov's method; v is first zero::

        v <- delta v - eta g
        c <- c + delta v - eta g
        x <- c

    c is the point y = x + delta v at which Nesterov's method takes its gradients, as in Keras' SGD with
    nesterov=True; with one worker the two are the same. Each of p workers' gradients makes a step of its own, so eta
    has to fall with p.

    Parameters
    ----------
    learning_rate : float in (0, 10]
        eta, of the server. The local optimizer is not used.
    momentum : float in [0, 0.999]
        delta; the paper's 0.99 wants an eta ten times smaller than the default 0.9.
    communication_period : int
        1, the only value: workers send every gradient.
    """

    name: ClassVar[str] = "mdownpour"
    local: ClassVar[str] = "gradients"
    only_period: ClassVar[int | str | None] = 1

    communication_period: int | str = 1
    learning_rate: float = 0.01
    momentum: float = 0.9

    def validate(self) -> None:
        self._real("learning_rate", above=0, at_most=10)
        self._real("momentum", at_least=0, at_most=0.999)

    def server_state(self, center: np.ndarray) -> Arrays:
        return {"velocity": np.zeros_like(center)}

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        velocity, delta = state["velocity"], np.float32(self.momentum)
        np.multiply(message, np.float32(self.learning_rate), out=answer)
        np.multiply(velocity, delta, out=velocity)
        np.subtract(velocity, answer, out=velocity)
        np.subtract(center, answer, out=center)
        np.multiply(velocity, delta, out=answer)
        np.add(center, answer, out=center)
        np.copyto(answer, center)
