"""An ensemble of models that train apart (dist-keras' EnsembleTrainer; Breiman, Bagging predictors, 1996)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dkeras_core.rules.averaging import Averaging


@dataclass(frozen=True, kw_only=True)
class Ensemble(Averaging):
    """p models, each trained by one worker on its part of the rows, without any exchange.

    The result is all p vectors; the prediction is the mean of their predictions f::

        y = mean_i f(x_i)

    All start from the same weights; they differ by their rows and their random numbers.

    Parameters
    ----------
    communication_period : str
        "fit", the only value.
    """

    name: ClassVar[str] = "ensemble"
    default_result: ClassVar[str] = "ensemble"
