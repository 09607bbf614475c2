"""What a model's outputs mean: probabilities of classes, or values; read off the loss and the last activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dkeras_core.errors import ConfigError
from dkeras_core.learning.losses import output_names

_BINARY = ("binarycrossentropy", "binaryfocalcrossentropy")
_ONE_HOT = ("categoricalcrossentropy", "categoricalfocalcrossentropy", "categoricalgeneralizedcrossentropy")
_INDICES = ("sparsecategoricalcrossentropy",)


@dataclass(frozen=True)
class Output:
    """One output of a model.

    Parameters
    ----------
    name : str
        Name of the output; "" when it is the only one.
    kind : str
        "binary" (one unit, probability of class 1), "classes" (probability of each class, one of them is true),
        "labels" (probability of each class, any of them may be true), or "values".
    shape : tuple
        Shape of a row, None where it is not fixed.
    logits : bool
        Whether the output is yet to go through sigmoid or softmax, as a loss with ``from_logits`` says.
    loss : str
        Name of the loss in small letters without underscores; "" when it is not known.
    indices : bool
        Whether a label is the number of a class.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    logits: bool = False
    loss: str = ""
    indices: bool = False

    @property
    def classes(self) -> int | None:
        """Number of classes, for the kinds that have some."""
        return {"values": None, "binary": 2}.get(self.kind, self.shape[-1] if self.shape else None)

    @property
    def single(self) -> bool:
        """Whether a row of it is one number."""
        return all(size == 1 for size in self.shape)

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return float64[n, classes] of what the model gave."""
        values = flat_rows(values)
        if self.kind == "classes":
            return _softmax(values) if self.logits else values
        if self.logits:
            values = 1.0 / (1.0 + np.exp(-values))
        return np.concatenate([1.0 - values, values], axis=1) if self.kind == "binary" else values


def flat_rows(values: np.ndarray) -> np.ndarray:
    """Return float64[n, width]."""
    return values.reshape(len(values), int(np.prod(values.shape[1:], dtype=np.int64))).astype(np.float64)


def outputs_of(model, loss: Any = None) -> tuple[Output, ...]:
    """Return what each output of a built model means, with the loss it is trained with where that is known.

    Crossentropies mean probabilities, and so do sigmoid and softmax at the end, unless a loss for values says otherwise
    (with ``mean_squared_error``, a sigmoid's output is a value).
    """
    found = [(tuple(tensor.shape[1:]), _activation(tensor)) for tensor in _tensors(model)]
    names = output_names(model) or [f"output_{i}" for i in range(len(found))]
    losses = _losses(loss, names)
    only = len(found) == 1
    return tuple(
        _output("" if only else name, shape, activation, held)
        for name, (shape, activation), held in zip(names, found, losses, strict=True)
    )


def inputs_of(model) -> list[tuple[tuple[int | None, ...], str]]:
    """Return shape of a row and dtype of each input of a built model."""
    if getattr(model, "inputs", None):
        return [(tuple(tensor.shape[1:]), str(tensor.dtype)) for tensor in model.inputs]
    return [(_built_for(model)[1:], "float32")]


def _tensors(model) -> list:
    """The symbolic outputs; those of a subclassed model, whose layers cannot be seen, by tracing it."""
    if getattr(model, "outputs", None):
        return list(model.outputs)
    import keras

    return keras.tree.flatten(model.compute_output_spec(keras.KerasTensor(_built_for(model))))


def _built_for(model) -> tuple[int | None, ...]:
    """The shape that a subclassed model was built for, the batch left open."""
    shape = (model.get_build_config() or {}).get("input_shape")
    if not shape:
        raise ConfigError(
            f"the shape of the inputs of model {model.name!r} is not known", "make it a functional or sequential model"
        )
    return (None, *shape[1:])


def _output(name: str, shape: tuple, activation: str, loss: Any) -> Output:
    title, logits = _title(loss)
    width = shape[-1] if shape else 1
    flat = len(shape) <= 1
    if title in _BINARY or (not title and activation == "sigmoid"):
        kind = "binary" if width == 1 else "labels"
    elif title in (*_ONE_HOT, *_INDICES) or (not title and activation == "softmax"):
        kind = "classes"
    else:
        kind = "values"
    kind = kind if flat else "values"
    ignores = isinstance(loss, Mapping) and loss.get("config", {}).get("ignore_class") is not None
    return Output(name, kind, shape, logits and kind != "values", title, title in _INDICES and not ignores)


def _losses(loss: Any, names: list[str]) -> list[Any]:
    """The loss of each output; None where it is not known."""
    if isinstance(loss, Mapping) and "class_name" not in loss:
        return [loss.get(name) for name in names]
    if isinstance(loss, list | tuple):
        return [*loss, *[None] * (len(names) - len(loss))][: len(names)]
    return [loss] * len(names)


def _title(loss: Any) -> tuple[str, bool]:
    """Name of a loss in small letters without underscores, and whether it takes logits."""
    if isinstance(loss, Mapping):
        return str(loss["class_name"]).lower(), bool(loss.get("config", {}).get("from_logits"))
    short = {"bce": "binarycrossentropy"}
    name = str(loss or "").replace("_", "").lower()
    return short.get(name, name), False


def _activation(tensor) -> str:
    """Name of what made a tensor: the activation of its layer, or the layer itself; "" where that is not known."""
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return ""
    operation = history.operation
    if getattr(operation, "outputs", None) and hasattr(operation, "layers"):  # a model within the model
        return _activation(operation.outputs[history.tensor_index])
    if type(operation).__name__ == "Average":  # the mean of an ensemble's members
        return _activation(operation.input[0])
    activation = getattr(operation, "activation", None)
    return getattr(activation, "__name__", type(operation).__name__).lower()


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
