"""SlowMo: model averaging with slow momentum (Wang, Tantia, Ballas, Rabbat, ICLR 2020, arXiv 1910.00643)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival
from dkeras_core.rules.updates import CenterRule


@dataclass(frozen=True, kw_only=True)
class SlowMo(CenterRule):
    """SlowMo, Algorithm 1 of arXiv 1910.00643, around any local optimizer that keeps its state.

    Every tau local steps all workers meet; with u the slow momentum, first zero::

        u <- beta u + (c - mean_i x_i)
        c <- c - alpha u
        x_i <- c

    The paper divides the difference by the local learning rate gamma and multiplies u by it again; for a constant
    gamma that is the same, and gamma is the local optimizer's own affair here. With beta 0 and alpha 1 this is model
    averaging. With momentum the bare center swings, so the result is the moving average of its last tenth.

    Parameters
    ----------
    slow_momentum : float in [0, 0.999]
        beta. With Adam as the local optimizer 0.8 is unstable and 0.5 good; with SGD and 16 workers or more 0.8 is
        good. The paper tunes it for each task.
    slow_learning_rate : float in (0, 2]
        alpha; the paper's 1.
    communication_period : int, "by_workers", "epoch" or "fit"
        tau, local steps between rounds.
    """

    name: ClassVar[str] = "slowmo"
    synchronous: ClassVar[bool] = True
    whole_vectors: ClassVar[bool] = True
    default_result: ClassVar[str] = "ema"

    slow_momentum: float = 0.5
    slow_learning_rate: float = 1.0

    def validate(self) -> None:
        self._real("slow_momentum", at_least=0, at_most=0.999)
        self._real("slow_learning_rate", above=0, at_most=2)

    def server_state(self, center: np.ndarray) -> Arrays:
        return {"momentum": np.zeros_like(center)}

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        momentum = state["momentum"]
        np.subtract(center, message, out=answer)
        np.multiply(momentum, np.float32(self.slow_momentum), out=momentum)
        np.add(momentum, answer, out=momentum)
        np.multiply(momentum, np.float32(self.slow_learning_rate), out=answer)
        np.subtract(center, answer, out=center)
        np.copyto(answer, center)
