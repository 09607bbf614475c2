"""DiLoCo: model averaging with outer Nesterov momentum (Douillard et al. 2023, arXiv 2311.08105)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival
from dkeras_core.rules.updates import CenterRule


@dataclass(frozen=True, kw_only=True)
class DiLoCo(CenterRule):
    """DiLoCo, Algorithm 1 of arXiv 2311.08105 with Nesterov's method as the outer optimizer.

    Every tau local steps (H in the paper) all workers meet. Their mean update is the outer gradient, with which the
    server makes one step; v is the outer momentum, first zero::

        d = mean_i (c - x_i)
        v <- mu v + d
        c <- c - eta (d + mu v)
        x_i <- c

    With mu 0 and eta 1 this is model averaging. With momentum the bare center swings, so the result is the moving
    average of its last tenth.

    Parameters
    ----------
    outer_momentum : float in [0, 0.999]
        mu. With Adam as the local optimizer 0.8 can be unstable and 0.5 good; with SGD and 16 workers or more 0.8 is
        good. The paper's 0.9 goes with eta 0.7.
    outer_learning_rate : float in (0, 2]
        eta.
    communication_period : int, "by_workers", "epoch" or "fit"
        tau, local steps between rounds. The paper makes 500; runs of some hundred local steps need 4 to 10.
    """

    name: ClassVar[str] = "diloco"
    synchronous: ClassVar[bool] = True
    whole_vectors: ClassVar[bool] = True
    default_result: ClassVar[str] = "ema"

    outer_momentum: float = 0.5
    outer_learning_rate: float = 1.0

    def validate(self) -> None:
        self._real("outer_momentum", at_least=0, at_most=0.999)
        self._real("outer_learning_rate", above=0, at_most=2)

    def server_state(self, center: np.ndarray) -> Arrays:
        return {"momentum": np.zeros_like(center)}

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        momentum, mu, eta = state["momentum"], np.float32(self.outer_momentum), np.float32(self.outer_learning_rate)
        np.subtract(center, message, out=answer)
        np.multiply(momentum, mu, out=momentum)
        np.add(momentum, answer, out=momentum)
        np.multiply(answer, eta, out=answer)
        np.subtract(center, answer, out=center)
        np.multiply(momentum, eta * mu, out=answer)
        np.subtract(center, answer, out=center)
        np.copyto(answer, center)
