"""Accumulated gradient normalisation (Hermans, Spanakis, Moeckel, ACML 2017, arXiv 1710.02368)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.rules.base import Arrays
from dkeras_core.rules.updates import UpdateRule


@dataclass(frozen=True, kw_only=True)
class ADAG(UpdateRule):
    """Accumulated gradient normalisation: the accumulated update divided by the local steps that made it.

    With d the update of the worker since it last took the center, after tau steps::

        c <- c + d / tau
        x <- c

    Divides by the steps really made, which at the end of an epoch are fewer than tau. The center moves like
    DOWNPOUR's with 1/tau of the learning rate, stable with many workers; with one worker it is as much slower than
    sequential training, unless tau is 1.

    Parameters
    ----------
    communication_period : int, "auto", "epoch" or "fit"
        tau, local steps between exchanges (lambda in the paper).
    """

    name: ClassVar[str] = "adag"
    default_result: ClassVar[str] = "ema"

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        update = super().message(x, state, steps)
        return np.multiply(update, np.float32(1 / steps), out=update)
