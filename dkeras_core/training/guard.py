"""What a worker checks before it trains on or hands out a vector, and how it says that one is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dkeras_core.data.feed import Window
from dkeras_core.errors import TrainingError
from dkeras_core.training.exchanger import finite
from dkeras_core.training.tally import Tally

_NEXT = "lower training.optimizer.learning_rate, or look at the features for outliers"


class Unusable(TrainingError):
    """A loss or a vector is not finite; ends the run unless the worker is to be dropped."""


class Guard:
    """Names worker, local step and layer of the first value that is NaN or infinite.

    Parameters
    ----------
    worker : int
    trainer : LocalTrainer
        Explains a loss, and knows the layers in its flat vectors.
    tally : Tally
        Counts the worker's steps.
    """

    def __init__(self, worker: int, trainer, tally: Tally):
        self._worker, self._trainer, self._tally = worker, trainer, tally

    def loss(self, loss: float, window: Window, x: np.ndarray) -> None:
        """Raise Unusable unless ``loss``, of the window that was just computed from and into ``x``, is finite."""
        if math.isfinite(loss):
            return
        step = self._tally.steps + 1
        if window.steps > 1:
            step += int(np.argmin(np.isfinite(self._trainer.losses)))
        raise Unusable(
            f"the loss of worker {self._worker} became {loss} in local step {step}: "
            f"{self._trainer.explain_nonfinite(window, x)}",
            _NEXT,
        )

    def parameters(self, x: np.ndarray) -> None:
        """Raise Unusable unless all parameters are finite."""
        if not finite(x):
            raise self.unusable(x, "its parameters")

    def state(self) -> np.ndarray:
        """Return the model's non-trainable state; raise Unusable unless it is finite."""
        flat = self._trainer.flat
        state = flat.get_state()
        if not finite(state):
            raise self.unusable(state, "the non-trainable state", flat.state_name_of)
        return state

    def unusable(self, vector: np.ndarray, what: str, name_of: Callable[[int], str] | None = None) -> Unusable:
        """Return the error that names the first bad value of ``vector`` and its layer."""
        first = int(np.flatnonzero(~np.isfinite(vector))[0])
        return Unusable(
            f"{what} of worker {self._worker} became {vector[first]} in "
            f"{(name_of or self._trainer.flat.name_of)(first)}, at local step {self._tally.steps}",
            _NEXT,
        )
