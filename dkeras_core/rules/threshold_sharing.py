"""Threshold-compressed sharing of updates (Strom, Interspeech 2015) with Deeplearning4j's adaptive threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dkeras_core.errors import ConfigError
from dkeras_core.rules.base import Arrays
from dkeras_core.rules.updates import AddedUpdateRule


@dataclass(frozen=True, kw_only=True)
class ThresholdSharing(AddedUpdateRule):
    """Gradient sharing by threshold ("Scalable distributed DNN training using commodity GPU cloud computing").

    Workers send -t, 0 or t for each parameter and keep the rest as residual r; the center c adds up what is sent,
    times a = ``commit_rate``::

        r = x - c_taken
        m = t where r > t, -t where r < -t, else 0
        c <- c + a m
        x <- c + (r - m)

    c_taken is the center that the worker has seen last, so that r holds all of its updates that were not sent before:
    nothing is lost or counted twice, sent messages and residual sum up to all updates of the worker. x moves by what
    the others have sent; a worker's own residual stays in its x. (In Strom's replicas x is c, and updates below the
    threshold wait outside of the model. Then the gradient does not see them, they pile up, and x overshoots; here
    one worker is sequential training at any t.) What the residuals hold at the end is in the workers' x, not in c.

    The threshold adapts as in Deeplearning4j, a little after each exchange: t shrinks by ``decay`` when a smaller
    share of the values than ``min_density`` was sent, and grows by 1 / ``decay`` when a larger than ``max_density``.
    The first t of a worker is ``threshold``.

    On the wire a message takes 2 bits a value or less.

    Parameters
    ----------
    commit_rate : float in (0, 1] or "mean"
        The part of each message that is added: Strom's 1, or "mean" for 1 / p, with which the center moves by the mean
        of the workers' messages.
    threshold : float in (0, 1000]
        t at the start, in units of the parameters.
    min_density, max_density : float in (0, 1]
        Share of the values that should be sent in an exchange. Deeplearning4j's are 0.0001 and 0.01; the defaults are
        higher, for runs of hundreds of exchanges instead of many thousands.
    decay : float in [0.5, 0.9999]
        Factor on t. Deeplearning4j's halves it in 20 exchanges.
    communication_period : int, "auto", "epoch" or "fit"
        tau, local steps between exchanges; in the literature 1.
    """

    name: ClassVar[str] = "threshold_sharing"
    wire: ClassVar[str] = "ternary"
    default_result: ClassVar[str] = "mean"

    communication_period: int | str = 1
    threshold: float = 1e-3
    min_density: float = 0.01
    max_density: float = 0.1
    decay: float = 0.5 ** (1 / 20)

    def validate(self) -> None:
        super().validate()
        self._real("threshold", above=0, at_most=1000)
        self._real("min_density", above=0, at_most=1)
        self._real("max_density", above=0, at_most=1)
        self._real("decay", at_least=0.5, at_most=0.9999)
        if self.min_density > self.max_density:
            raise ConfigError(
                f"algorithm {self.name}: min_density must be at most max_density {self.max_density:g}, "
                f"not {self.min_density:g}",
                "lower algorithm.min_density or raise algorithm.max_density",
            )

    def worker_state(self, x: np.ndarray) -> Arrays:
        return {
            "taken": x.copy(),
            "residual": np.zeros_like(x),
            "message": np.zeros_like(x),
            "over": np.zeros(x.shape, bool),
            "threshold": np.full(1, self.threshold, x.dtype),
        }

    def message(self, x: np.ndarray, state: Arrays, steps: int) -> np.ndarray:
        residual, message, over, threshold = state["residual"], state["message"], state["over"], state["threshold"]
        np.subtract(x, state["taken"], out=residual)
        np.greater(residual, threshold, out=over)
        sent = np.count_nonzero(over)
        np.multiply(over, threshold, out=message)
        np.less(residual, -threshold, out=over)
        sent += np.count_nonzero(over)
        np.subtract(message, threshold, out=message, where=over)
        np.subtract(residual, message, out=residual)
        self._adapt(threshold, sent / x.size)
        return np.multiply(message, np.float32(self.share(steps)), out=message)

    def receive(self, x: np.ndarray, answer: np.ndarray, state: Arrays) -> None:
        np.add(answer, state["residual"], out=x)
        np.copyto(state["taken"], answer)

    def _adapt(self, threshold: np.ndarray, density: float) -> None:
        if density < self.min_density:
            threshold *= np.float32(self.decay)
        elif density > self.max_density:
            threshold /= np.float32(self.decay)
