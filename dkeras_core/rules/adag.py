"""Accumulated gradient normalisation (Hermans, Spanakis, Moeckel, ACML 2017, arXiv 1710.02368)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.updates import AddedUpdateRule


@dataclass(frozen=True, kw_only=True)
class ADAG(AddedUpdateRule):
    """Accumulated gradient normalisation: the accumulated update divided by the local steps that made it.

    With d the update of the worker since it last took the center, after tau steps::

        c <- c + min(1 / tau, a) d
        x <- c

    Divides by the steps really made, which at the end of a run are fewer than tau. The center moves like DOWNPOUR's
    with 1/tau of the learning rate; with one worker it is as much slower than sequential training, unless tau is 1.
    With more workers than tau it would still overshoot, so a = ``commit_rate`` bounds what is added.

    Parameters
    ----------
    commit_rate : float in (0, 1] or "mean"
        At most this part of an update is added. 1 is the paper's, which always adds 1 / tau; "mean" is 1 / p: with
        more workers than tau the center moves by the mean of their updates.
    communication_period : int, "by_workers", "auto", "epoch" or "fit"
        tau, local steps between exchanges (lambda in the paper).
    """

    name: ClassVar[str] = "adag"
    default_result: ClassVar[str] = "ema"

    def share(self, steps: int) -> float:
        return min(1 / steps, self.commit_rate)
