"""The two points of Nesterov's method: the one that Keras keeps, and the one of the papers."""

from __future__ import annotations

from dataclasses import dataclass

import keras

from dkeras_core.errors import ConfigError


@dataclass(frozen=True)
class Lookahead:
    """Momentum of a Nesterov optimizer, to go between y, the point it keeps, and x = y - momentum * velocity.

    EAMSGD (arXiv 1412.6651, Algorithm 2) makes the steps v <- delta v - eta g(x + delta v), x <- x + v and exchanges
    x; Keras' SGD keeps y = x + delta v in the model's variables, where the gradient is taken. Both make the same steps.

    Parameters
    ----------
    momentum : float
        delta.
    velocities : list of keras.Variable
        v, in the order of the model's trainable variables.
    """

    momentum: float
    velocities: list

    @classmethod
    def of(cls, optimizer) -> Lookahead:
        """Raise ConfigError for an optimizer that is not SGD with Nesterov momentum; it must be built."""
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        if not (isinstance(inner, keras.optimizers.SGD) and inner.nesterov and inner.momentum > 0):
            raise ConfigError(
                f"the look-ahead needs Nesterov momentum, which {type(inner).__name__} is not set to",
                'use the optimizer {"name": "sgd", "momentum": 0.99, "nesterov": true}',
            )
        return cls(float(inner.momentum), list(inner.momentums))
