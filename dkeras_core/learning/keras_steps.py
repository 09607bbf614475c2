"""Local steps by ``train_on_batch``: the path that every model and every backend has."""

from __future__ import annotations

import numpy as np
from keras import tree

from dkeras_core.errors import ConfigError
from dkeras_core.learning.batches import mapped
from dkeras_core.learning.flat import FlatModel
from dkeras_core.learning.lookahead import Lookahead


class KerasSteps:
    """One ``train_on_batch`` a step.

    Parameters
    ----------
    flat : FlatModel
    lookahead : Lookahead, optional
    gradients : fused window, optional
        Takes gradients and applies them, uncompiled; None for a model whose steps only its own train_step knows.
    """

    def __init__(self, flat: FlatModel, lookahead: Lookahead | None = None, gradients=None):
        self._flat = flat
        self._lookahead = lookahead
        self._gradients = gradients

    def run(self, xs, ys, ws, x: np.ndarray | None) -> np.ndarray:
        model = self._flat.model
        if x is not None:
            self._flat.set(x + self._momentum())
        losses = np.empty(len(tree.flatten(xs)[0]), np.float32)
        for step in range(len(losses)):
            features, labels, weights = mapped(lambda a, at=step: a[at], (xs, ys, ws))
            logs = model.train_on_batch(features, labels, sample_weight=weights, return_dict=True)
            if "loss" not in logs:
                raise ConfigError(f"train_step of {type(model).__name__} returns no 'loss'", "return {'loss': ...}")
            losses[step] = logs["loss"]
        if x is not None and np.isfinite(losses).all():
            np.subtract(self._flat.get(), self._momentum(), out=x)
        return losses

    def gradient(self, xs, ys, ws, x, out) -> float:
        return self._own().gradient(xs, ys, ws, x, out)

    def step(self, gradient, x) -> None:
        self._own().step(gradient, x)

    def _own(self):
        if self._gradients is None:
            raise ConfigError(
                f"{type(self._flat.model).__name__} has a train_step of its own, which hides its gradient",
                "choose an algorithm of local steps, such as asynchronous_easgd",
            )
        return self._gradients

    def _momentum(self):
        """What the flat vector that Keras keeps is ahead of the papers' x."""
        if self._lookahead is None:
            return np.float32(0)
        flat = [v.numpy().reshape(-1) for v in self._lookahead.velocities]
        return (self._lookahead.momentum * np.concatenate(flat)).astype(np.float32)
