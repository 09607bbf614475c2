"""Synchronous gradient averaging: data-parallel SGD (Chen et al., arXiv 1604.00981; the all-reduce of Horovod)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival, Rule


@dataclass(frozen=True, kw_only=True)
class GradientAveraging(Rule):
    """Synchronous SGD, Algorithms 3 and 4 of arXiv 1604.00981 without backup workers.

    At every step each worker sends the gradient g_i of its batch; all go on with the mean, with which each makes the
    same step of its own optimizer, so that their x stay equal until the first worker has finished::

        g = mean_i g_i
        x_i <- x_i - step(g)

    One step on a batch p times as large. The center stays at the start: the result is the mean of the workers. Where
    their numbers of batches differ, those with more make their last steps without the others, and the mean takes each x
    as its worker left it.

    Parameters
    ----------
    communication_period : int
        1, the only value: workers meet at every step.
    """

    name: ClassVar[str] = "gradient_averaging"
    synchronous: ClassVar[bool] = True
    local: ClassVar[str] = "averaged_gradients"
    only_period: ClassVar[int | str | None] = 1

    communication_period: int | str = 1

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.copyto(answer, message)
