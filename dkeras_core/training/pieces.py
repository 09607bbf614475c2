"""Which rows go to which worker: one share each, or small pieces of which several workers hold copies."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from dkeras_core.data.columns import Column
from dkeras_core.rules import rule_from_config
from dkeras_core.training.task import TrainingTask

PIECE = Column("piece of the rows", "int32")
"""The column that launchers add where workers compute pieces."""


class Layout(NamedTuple):
    """Row r, in any order, belongs to piece r modulo ``pieces``; piece k lies with workers k, k + 1, ... modulo p.

    ``copies`` is the number of these workers, and ``told`` whether they are told which row is of which piece.
    """

    workers: int
    pieces: int
    copies: int
    told: bool

    @classmethod
    def of(cls, task: TrainingTask) -> Self:
        """The layout that the task's rule asks for."""
        rule = rule_from_config(task.rule).for_workers(task.workers)
        if rule.local != "pieces":
            return cls(task.workers, task.workers, 1, False)
        return cls(task.workers, task.workers * rule.pieces_per_worker, rule.copies, True)

    def with_worker(self, worker: int, pieces: np.ndarray) -> np.ndarray:
        """Places at which ``pieces``, int[rows], names one that ``worker`` holds."""
        return np.flatnonzero((worker - pieces) % self.workers < self.copies)
