"""The losses of a model's outputs and their weights, in one order whatever form they were given in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dkeras_core.config_file import meant
from dkeras_core.errors import ConfigError
from dkeras_core.learning.settings import make_loss


def output_names(model) -> list[str]:
    """The names under which a model's outputs have their losses, in the order of ``model.outputs``; [] for no names."""
    structure = getattr(model, "output", None)
    if isinstance(structure, Mapping):
        return sorted(structure)  # the order in which Keras flattens a mapping
    return list(getattr(model, "output_names", None) or [])


def losses_of(model, loss) -> list:
    """Return the loss of each output, in the model's order; ConfigError when there is not one for each."""
    loss = make_loss(loss)
    names = output_names(model)
    count = _count(model)
    if isinstance(loss, dict):
        if strange := [name for name in loss if name not in names]:
            raise ConfigError(f"there is a loss for output {strange[0]!r}, {_known(names)}")
        return [loss.get(name) for name in names]
    if isinstance(loss, list):
        if len(loss) != count:
            raise ConfigError(f"{len(loss)} losses are given for {count} outputs", "give one loss for each output")
        return loss
    return [loss] * count


def weights_of(model, loss, loss_weights) -> list[float] | None:
    """Return the factor on the loss of each output, in the model's order; None when none are given.

    Parameters
    ----------
    loss
        What :func:`make_loss` takes.
    loss_weights : float, list of float, mapping of str to float, or None
        One number for a model with one output; else one for each output in the model's order, or by name one for each
        output that has a loss.

    Raises
    ------
    ConfigError
        Another number of weights than outputs, a name that no output has or that is missing, or a weight that is no
        finite number.
    """
    if loss_weights is None:
        return None
    names, count, losses = output_names(model), _count(model), losses_of(model, loss)
    if isinstance(loss_weights, Mapping):
        if strange := [name for name in loss_weights if name not in names]:
            raise ConfigError(
                f"loss_weights has a weight for output {strange[0]!r}{meant(str(strange[0]), names)}; {_known(names)}"
            )
        missing = [n for n, held in zip(names, losses, strict=True) if held is not None and n not in loss_weights]
        if missing:
            raise ConfigError(
                f"loss_weights has no weight for output {missing[0]!r}", f"give one for each: {', '.join(names)}"
            )
        found = [loss_weights.get(name, 1.0) for name in names]
    else:
        found = list(loss_weights) if isinstance(loss_weights, list | tuple) else [loss_weights]
        if len(found) != count:
            raise ConfigError(
                f"{len(found)} loss_weights are given for {count} outputs", "give one weight for each output"
            )
    return [_finite(value) for value in found]


def compiled_losses(model, loss, loss_weights) -> dict[str, Any]:
    """Return ``loss`` and ``loss_weights`` as ``model.compile`` takes them.

    With weights the losses become a list too: Keras takes a mapping of weights for a list of losses, or one loss for
    several outputs with weights, in other orders, or not at all.
    """
    weights = weights_of(model, loss, loss_weights)
    if weights is None:
        return {"loss": make_loss(loss)}
    losses = losses_of(model, loss)
    if len(losses) == 1:
        return {"loss": losses[0], "loss_weights": weights[0]}
    return {"loss": losses, "loss_weights": weights}


def _count(model) -> int:
    return len(output_names(model)) or len(getattr(model, "outputs", None) or [None])


def _known(names: list[str]) -> str:
    return f"the outputs are {', '.join(names)}" if names else "the outputs of this model have no names"


def _finite(value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"a weight of a loss is a finite number, not {value!r}")
    return float(value)
