"""Models on the wire and in files: the architecture as Keras JSON, the weights as raw bytes. Never pickle.

Weights are one header and the variables behind each other::

    b"DKW1" | length of the header, uint32 little-endian | header, JSON | variables, C order, little-endian

The header lists path, shape and dtype of each variable in the order of ``model.weights``.
"""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from dkeras_core.errors import ConfigError, DataError

_MAGIC = b"DKW1"


def to_json(model) -> str:
    """Return the architecture of a model as Keras JSON.

    Custom layers travel by their registered name: decorate them with
    ``keras.saving.register_keras_serializable``. :func:`from_json` imports their module, which must be there.

    Raises
    ------
    ConfigError
        For a lambda layer (it is Python bytecode, which would run unchecked on the other side) and for a custom
        object without a configuration.
    """
    refuse_lambda(model)
    try:
        return model.to_json()
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the architecture of model {model.name!r} cannot be written as JSON: {error}",
            "give each custom layer and model a get_config",
        ) from error


def refuse_lambda(model) -> None:
    """Raise ConfigError when the model holds a lambda layer, with the reason why it cannot travel."""
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Lambda):
            raise ConfigError(
                f"layer {layer.name!r} is a Lambda: it holds Python bytecode and cannot be shipped safely",
                "write it as a keras.layers.Layer and register it with keras.saving.register_keras_serializable",
            )


def from_json(text: str, source: str = "the architecture"):
    """Return the untrained model that :func:`to_json` described; ``source`` names the text in messages.

    Raises
    ------
    ConfigError
        Not JSON, not a Keras model, a lambda layer, or a custom object that is not registered here.
    """
    import keras

    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{source} is not JSON: {error}", "write it with model.to_json()") from error
    _import_custom(parsed, source)
    try:
        model = keras.models.model_from_json(text)
    except Exception as error:  # Keras raises whatever the layers raise
        hint = (
            "write it as a registered keras.layers.Layer"
            if "lambda" in str(error).lower()
            else "register custom objects with keras.saving.register_keras_serializable and import their module"
        )
        raise ConfigError(f"{source} does not describe a Keras model: {type(error).__name__}: {error}", hint) from error
    if not isinstance(model, keras.Model):
        raise ConfigError(f"{source} describes a {type(model).__name__}, not a keras.Model")
    return model


def _import_custom(parsed: Any, source: str) -> None:
    """Import the modules of registered classes: who reads an architecture has seldom imported what its author had.

    Keras itself (3.15) imports no module that an architecture names, since files of models come from strangers. Here
    the text comes from the run's own driver, and the modules are those that were shipped with it.
    """
    import keras

    for module, name in _registered(parsed):
        if keras.saving.get_registered_object(name) is not None or module == "__main__":
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # the module is the user's and may raise anything
            raise ConfigError(
                f"{source} needs {name.rpartition('>')[2]} of the module {module}, which cannot be imported: "
                f"{type(error).__name__}: {error}",
                "name its file under model.files, or install it wherever the model is rebuilt",
            ) from error


def _registered(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (module, registered name) of the custom objects in an architecture, nested ones included."""
    if isinstance(value, dict):
        module, name = value.get("module"), value.get("registered_name")
        if isinstance(module, str) and module and isinstance(name, str) and ">" in name:
            yield module, name
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _registered(part)


def weights_to_bytes(model) -> bytes:
    """Return all weights of a built model, trainable or not, without the seeds of random layers."""
    arrays = [np.asarray(variable.numpy(), order="C") for variable in model.weights]
    header = json.dumps(
        [
            {"path": variable.path, "shape": list(array.shape), "dtype": array.dtype.name}
            for variable, array in zip(model.weights, arrays, strict=True)
        ]
    ).encode()
    return b"".join([_MAGIC, struct.pack("<I", len(header)), header, *(array.tobytes() for array in arrays)])


def weights_from_bytes(model, data: bytes) -> None:
    """Assign weights written by :func:`weights_to_bytes` to a built model of the same architecture.

    Raises
    ------
    DataError
        Damaged or truncated bytes, or weights of another architecture; the first variable that differs is named.
        Nothing is assigned then.
    """
    view = memoryview(data)
    header, offset = _header(view)
    if len(header) != len(model.weights):
        raise DataError(f"the weights are {len(header)} variables, model {model.name!r} has {len(model.weights)}")
    arrays = []
    for entry, variable in zip(header, model.weights, strict=True):
        dtype = variable.numpy().dtype
        if list(variable.shape) != entry["shape"] or dtype.name != entry["dtype"]:
            raise DataError(
                f"weights of {entry['path']} are {entry['dtype']}{entry['shape']}, "
                f"the model's {variable.path} is {dtype.name}{list(variable.shape)}",
                "architecture and weights must come from the same model",
            )
        size = int(np.prod(entry["shape"])) * dtype.itemsize
        if offset + size > len(view):
            raise DataError(f"the weights end within {entry['path']}: {len(view)} bytes, more were announced")
        arrays.append(np.frombuffer(view[offset : offset + size], dtype).reshape(entry["shape"]))
        offset += size
    if offset != len(view):
        raise DataError(f"{len(view) - offset} bytes follow the last variable")
    for variable, array in zip(model.weights, arrays, strict=True):
        variable.assign(array)


def _header(view: memoryview):
    if len(view) < 8 or view[:4] != _MAGIC:
        raise DataError("these bytes are not weights of a model (they do not begin with DKW1)")
    (length,) = struct.unpack("<I", view[4:8])
    try:
        return json.loads(bytes(view[8 : 8 + length])), 8 + length
    except ValueError as error:
        raise DataError(f"the header of the weights is damaged: {error}") from error
