"""Sandblaster L-BFGS (Dean et al., Large Scale Distributed Deep Networks, NIPS 2012, section 4.2, Algorithm 2)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from dkeras_core.errors import TrainingError
from dkeras_core.rules.base import Rule
from dkeras_core.rules.lbfgs import LBFGS
from dkeras_core.rules.pieces import Pieces


@dataclass(frozen=True, kw_only=True)
class SandblasterLBFGS(Rule):
    """L-BFGS on the loss of all training rows, whose gradient the workers compute piece by piece.

    The driver is the coordinator. For every point x that the search asks for it sums over the pieces k::

        loss(x) = sum_k rows_k loss_k(x) / rows          gradient(x) = sum_k rows_k gradient_k(x) / rows

    and hands out pieces much smaller than a worker's share, so that fast workers do more of them; a piece that is late
    goes to a second worker too, and the first result counts. Each piece of rows therefore lies with ``copies`` workers.
    Vectors are float32 at the workers and float64 in the sums and in the search, so that the result is the same for
    any number of workers but for rounding.

    Where it differs from the paper: the center lies with the driver, not in shards on other machines, so the driver
    needs about 16 (history_size + 5) bytes a parameter; and a worker sends each piece's gradient, not a sum of some.

    The loss must be a sum over rows that is the same at every evaluation: no dropout, no batch normalisation.

    Parameters
    ----------
    history_size : int
        Pairs of steps and gradient differences kept by L-BFGS, at least 1.
    iterations : int
        Iterations at most; each evaluates loss and gradient of all rows once, seldom more often.
    tolerance : float
        The search ends when no component of the gradient is larger; float32 gradients allow about 1e-6.
    pieces_per_worker : int
        Pieces that a worker's share of the rows is cut into.
    copies : int
        Workers that hold each piece, at most p: 1 for no backup copies; n times the rows are sent and spooled.
    communication_period : str
        "fit", the only value: the search says when workers communicate.
    """

    name: ClassVar[str] = "sandblaster_lbfgs"
    local: ClassVar[str] = "pieces"
    exchanging: ClassVar[bool] = False  # its workers send gradients of pieces, not messages
    default_result: ClassVar[str] = "center"
    only_period: ClassVar[int | str | None] = "fit"

    history_size: int = 10
    iterations: int = 50
    tolerance: float = 1e-5
    pieces_per_worker: int = 8
    copies: int = 2
    communication_period: int | str = "fit"

    def validate(self) -> None:
        for field in ("history_size", "iterations", "pieces_per_worker", "copies"):
            self._integer(field, at_least=1)
        self._real("tolerance", above=0, at_most=1)

    def for_workers(self, workers: int) -> Self:
        return dataclasses.replace(self, copies=min(self.copies, workers))

    def optimizer(self, setting: dict[str, Any]) -> dict[str, Any]:
        return {"name": "sgd", "learning_rate": 1.0}  # makes no step, and keeps no vectors


class PieceResult(NamedTuple):
    """What a worker says of a piece that it has finished; its mean gradient travels beside.

    ``loss`` is the mean over ``rows``, None when loss or gradient are not finite.
    """

    piece: int
    version: int
    rows: int
    loss: float | None


class Iteration(NamedTuple):
    """An iteration of the search that is complete; evaluations are counted from the beginning."""

    iteration: int
    loss: float
    gradient_norm: float
    evaluations: int
    seconds: float


class Coordinator:
    """Takes the pieces' losses and gradients, and asks for those of the next point; called under one lock.

    Parameters
    ----------
    rule : SandblasterLBFGS
        Made for the number of workers.
    x : float32 array of shape (n,)
        Where to begin.
    workers : int
        p.
    rows : int
        The training rows: the pieces must add up to them.
    now : float
        Seconds on the clock that the other calls use too.

    Attributes
    ----------
    pieces : Pieces
        Who computes what.
    point : float32 array of shape (n,)
        Where loss and gradient are wanted, in evaluation ``pieces.version``; a new array each time.
    iterations : list of Iteration
        The initial point, as iteration 0, and those that are complete.
    ended : str or None
        Why the search has ended.
    """

    def __init__(self, rule: SandblasterLBFGS, x: np.ndarray, workers: int, rows: int, now: float):
        self._search = LBFGS(x, history=rule.history_size, iterations=rule.iterations, tolerance=rule.tolerance)
        self._total, self._begun = rows, now
        self._sum = np.zeros(x.size)
        self._loss, self._rows = 0.0, 0
        self.pieces = Pieces(workers)
        self.point = self._search.ask().astype(np.float32)
        self.iterations: list[Iteration] = []
        self.ended: str | None = None

    def finish(self, worker: int, result: PieceResult, gradient: np.ndarray, now: float) -> np.ndarray | None:
        """Take a piece's result; returns the new best x, float32[n], when that has completed an iteration.

        Raises TrainingError when the rows of an evaluation are not the training rows.
        """
        if self.ended or not self.pieces.finish(worker, result.piece, result.version, now):
            return None
        if result.loss is None:
            self._loss = math.inf
        else:
            self._loss += result.rows * result.loss
            np.add(self._sum, result.rows * gradient.astype(np.float64), out=self._sum)
        self._rows += result.rows
        return self.evaluated(now)

    def evaluated(self, now: float) -> np.ndarray | None:
        """Go on with the search when the evaluation is complete, or hopeless; else return None at once."""
        if not self.pieces.complete and self._loss != math.inf:
            return None
        if self.pieces.complete and self._rows != self._total:
            raise TrainingError(
                f"rows do not add up: {self._total} rows in the training split, {self._rows} in evaluation "
                f"{self.pieces.version} of the loss, in {len(self.pieces.sizes)} pieces",
                "the input may have changed while it was read; run again",
            )
        self._sum /= self._total
        iterate = self._search.tell(self._loss / self._total, self._sum.copy())
        self._sum[:], self._loss, self._rows = 0.0, 0.0, 0
        if iterate:
            figures = iterate.iteration, iterate.loss, iterate.gradient_norm, iterate.evaluations
            self.iterations.append(Iteration(*figures, now - self._begun))
            self.ended = iterate.ended
        if not self.ended:
            self.point = self._search.ask().astype(np.float32)
            self.pieces.begin()
        return iterate.x.astype(np.float32) if iterate else None
