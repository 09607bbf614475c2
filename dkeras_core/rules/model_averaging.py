"""Model averaging every tau steps (SparkNet: Moritz, Nishihara, Stoica, Jordan, ICLR 2016, arXiv 1511.06051)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays, Arrival
from dkeras_core.rules.updates import CenterRule


@dataclass(frozen=True, kw_only=True)
class ModelAveraging(CenterRule):
    """Synchronous model averaging, section 2.1 of arXiv 1511.06051.

    Every tau local steps all workers meet and go on from their mean::

        c <- mean_i x_i
        x_i <- c

    With one worker this is sequential training.

    Parameters
    ----------
    communication_period : int, "by_workers", "epoch" or "fit"
        tau, local steps between rounds. The paper makes 50; runs of some hundred local steps want more rounds.
    """

    name: ClassVar[str] = "model_averaging"
    synchronous: ClassVar[bool] = True
    whole_vectors: ClassVar[bool] = True
    default_result: ClassVar[str] = "ema"

    def apply(
        self, center: np.ndarray, message: np.ndarray, answer: np.ndarray, state: Arrays, arrival: Arrival
    ) -> None:
        np.copyto(center, message)
        np.copyto(answer, center)
