"""What the params take, and how it is kept: as plain values that JSON can hold, so that every stage can be saved."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from dkeras_core.errors import ConfigError


def plain(value: Any) -> Any:
    """NumPy's numbers as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def of_type(hint: Any) -> Callable[[Any], Any]:
    """Return a converter for a type such as ``int``, ``float | None`` or ``int | str``; whole numbers pass as floats.

    It raises TypeError, as Spark's converters do.
    """
    kinds = get_args(hint) or (hint,)

    def convert(value: Any) -> Any:
        value = plain(value)
        if type(value) in kinds:
            return value
        if float in kinds and type(value) is int:
            return float(value)
        if int in kinds and isinstance(value, float) and value.is_integer():
            return int(value)
        names = " or ".join(getattr(kind, "__name__", str(kind)) for kind in kinds)
        raise TypeError(f"a value of type {names} is needed, not {value!r}")

    return convert


def number(hint: Any, *, at_least: float, at_most: float = math.inf) -> Callable[[Any], Any]:
    """Return a converter for numbers in a range; it raises ConfigError for one outside."""
    convert = of_type(hint)

    def bounded(value: Any) -> Any:
        value = convert(value)
        if not at_least <= value <= at_most:
            limits = f"of at least {at_least:g}" if at_most == math.inf else f"from {at_least:g} to {at_most:g}"
            raise ConfigError(f"a number {limits} is needed, not {value!r}")
        return value

    return bounded


def one_of(*words: str) -> Callable[[Any], str]:
    """Return a converter that takes these words only."""

    def convert(value: Any) -> str:
        if value not in words:
            raise ConfigError(f"one of {', '.join(words)} is needed, not {value!r}")
        return value

    return convert


def names(value: Any) -> list[str]:
    """One name or several, as a list."""
    value = [value] if isinstance(value, str) else list(value)
    if not value or not all(isinstance(name, str) for name in value):
        raise TypeError(f"names are needed, not {value!r}")
    if len(set(value)) != len(value):
        raise ConfigError(f"every name may stand once only, got {', '.join(value)}")
    return value


def optimizer(value: Any) -> dict[str, Any]:
    """A name, a mapping with ``name`` and arguments, or a ``keras.Optimizer``: as such a mapping.

    An optimizer that is not Keras' own stays in Keras' serialised form, which names where it is registered.
    """
    if isinstance(value, str):
        return {"name": value}
    if not isinstance(value, Mapping):
        import keras

        if not isinstance(value, keras.optimizers.Optimizer):
            raise TypeError(f"an optimizer is a name, a mapping or a keras.Optimizer, not {value!r}")
        value = keras.optimizers.serialize(value)
    value = _jsonable(value, "optimizer")
    if "class_name" in value and not value.get("registered_name"):
        arguments = {key: held for key, held in value.get("config", {}).items() if key != "name"}
        return {"name": value["class_name"].lower(), **arguments}
    return value


def loss(value: Any) -> Any:
    """A loss by name, by Keras' serialised form, or as an object; a list or mapping of them for several outputs."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and "class_name" in value:
        return value["config"] if value["class_name"] == "function" else _jsonable(value, "loss")
    if isinstance(value, Mapping):
        return {str(key): loss(part) for key, part in value.items()}
    if isinstance(value, Sequence):
        return [loss(part) for part in value]
    import keras

    if not (isinstance(value, keras.losses.Loss) or callable(value)):
        raise TypeError(f"a loss is a name, a keras.losses.Loss or one for each output, not {value!r}")
    return loss(keras.losses.serialize(value))


def loss_weights(value: Any) -> float | list[float] | dict[str, float]:
    """One number, a list of them, or a mapping by output."""
    try:
        if isinstance(value, Mapping):
            return {str(name): float(weight) for name, weight in value.items()}
        return float(value) if np.ndim(value) == 0 else [float(weight) for weight in value]
    except (TypeError, ValueError):
        raise TypeError(f"weights of losses are numbers, one for each output, not {value!r}") from None


def class_weight(value: Any) -> dict[int, float]:
    """Weights of classes; JSON makes text of the classes, which becomes numbers again."""
    try:
        weights = {int(key): float(weight) for key, weight in dict(value).items()}
    except (TypeError, ValueError):
        raise TypeError(f"a mapping of class to weight is needed, not {value!r}") from None
    for key, weight in weights.items():
        if key < 0 or not 0 <= weight < math.inf:
            raise ConfigError(f"class weights are numbers of at least 0 for classes 0, 1, ..., not {key}: {weight}")
    return weights


def early_stopping(value: Any) -> dict[str, Any]:
    """An ``EarlyStopping`` or its fields as a mapping."""
    from dkeras_core.training.settings import EarlyStopping

    if isinstance(value, EarlyStopping):
        return dataclasses.asdict(value)
    known = [field.name for field in dataclasses.fields(EarlyStopping)]
    if not isinstance(value, Mapping) or not set(value) <= set(known):
        raise TypeError(f"a mapping with some of {', '.join(known)} is needed, not {value!r}")
    return dataclasses.asdict(EarlyStopping(**value))


def _jsonable(value: Any, what: str) -> Any:
    try:
        return json.loads(json.dumps(value, default=plain))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the {what} cannot be written as JSON: {error}", "build it from plain numbers and registered objects"
        ) from error
