"""The worker of a search over all rows: computes loss and gradient of the pieces that the driver gives it."""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np

from dkeras_core.data.pieces import PieceFeed
from dkeras_core.data.spool import Spool
from dkeras_core.errors import TrainingError
from dkeras_core.exchange.search import Task
from dkeras_core.rules.sandblaster import PieceResult
from dkeras_core.training.exchanger import finite
from dkeras_core.training.pieces import PIECE
from dkeras_core.training.worker import WorkerRun


class SearchRun(WorkerRun):
    """A worker's run for rules with ``local`` "pieces" (Sandblaster L-BFGS)."""

    def _columns(self):
        return (*super()._columns(), PIECE)

    def _train(self, spool: Spool, x: np.ndarray) -> None:
        feed = PieceFeed(spool, piece=PIECE.name, **self._feed_settings())
        gradient, self._part = np.empty_like(x), np.empty_like(x)
        result: PieceResult | None = None
        self._client.hold(feed.sizes)
        while True:
            with self._tally.measuring("exchange"):
                task = self._client.work(result, gradient)
            if task is None:
                break
            result = self._compute(feed, task, gradient)
            self._tally.exchanges += 1
        self._report("finishing", at_once=True)  # the answer says whether the driver ended the search
        np.copyto(x, self._client.center()[0])

    def _check_rows(self) -> None:
        """The coordinator checks the rows of every evaluation."""

    def _compute(self, feed: PieceFeed, task: Task, gradient: np.ndarray) -> PieceResult:
        """Loss and gradient of a piece: means over its rows, so that the model's penalties count once."""
        rows, total = 0, 0.0
        with closing(feed.windows(task.piece)) as windows:
            while (window := self._next(windows)) is not None:
                for portion in self._portions.of(window):
                    out = self._part if rows else gradient
                    with self._computing(portion.steps):
                        loss = self._trainer.gradient(portion, out, task.point)
                    if not (math.isfinite(loss) and finite(out)):
                        return self._not_finite(feed, task, portion, loss)
                    self._tally.trained(portion.rows, portion.steps, loss)
                    rows += portion.rows
                    total += portion.rows * loss
                    if out is self._part:  # the running mean
                        np.subtract(out, gradient, out=out)
                        np.multiply(out, np.float32(portion.rows / rows), out=out)
                        np.add(gradient, out, out=gradient)
                    self._report("training")
        return PieceResult(task.piece, task.version, rows, total / rows)

    def _not_finite(self, feed: PieceFeed, task: Task, window, loss: float) -> PieceResult:
        """A step that went too far is for the search to shorten; at the initial parameters nothing helps."""
        if task.version > 1:
            return PieceResult(task.piece, task.version, feed.sizes[task.piece], None)
        raise TrainingError(
            f"the loss of worker {self._worker} is {loss} at the initial parameters: "
            f"{self._trainer.explain_nonfinite(window, task.point)}",
            "look at the features for outliers, or scale them",
        )
