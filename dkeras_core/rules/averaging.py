"""Averaging at the end (Zinkevich, Weimer, Li, Smola, Parallelized SGD, NIPS 2010; dist-keras' AveragingTrainer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.base import Rule


@dataclass(frozen=True, kw_only=True)
class Averaging(Rule):
    """One-shot averaging, Algorithm 3 (SimuParallelSGD) of Zinkevich et al.

    Workers train apart from the same start and never exchange; the result is the mean of their last vectors::

        c = mean_i x_i

    Good for convex models; the mean of deep networks that trained apart for long is often worse than each of them.

    Parameters
    ----------
    communication_period : str
        "fit", the only value.
    """

    name: ClassVar[str] = "averaging"
    exchanging: ClassVar[bool] = False
    only_period: ClassVar[int | str | None] = "fit"

    communication_period: int | str = "fit"
