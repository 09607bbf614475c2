"""Whether a model, its loss and the columns of the data fit, told before training starts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dkeras_core.errors import ConfigError, DataError
from dkeras_core.learning.flat import FlatModel
from dkeras_core.learning.losses import losses_of, weights_of
from dkeras_core.learning.model_io import refuse_lambda
from dkeras_core.learning.settings import make_loss

_ROWS = 1 << 20  # looked at together, so that a label column larger than memory stays on disk
_CLASSES = {"sparsecategoricalcrossentropy"}
_SHARES = {"binarycrossentropy", "binaryfocalcrossentropy", "categoricalcrossentropy", "categoricalfocalcrossentropy"}
_COUNTS = {"poisson"}


def check_model(model, inputs: Sequence, labels: Sequence, loss, loss_weights=None) -> None:
    """Check that the columns fit the model's inputs and outputs, and that the model can be shipped and trained.

    Parameters
    ----------
    model : keras.Model
        Built.
    inputs, labels : sequences of columns
        With ``name``, ``dtype`` and ``shape`` (of one row), in the order of the model's inputs and outputs.
    loss, loss_weights
        What :func:`make_loss` and :func:`weights_of` take.

    Raises
    ------
    ConfigError
        A lambda layer; no weights; another number of inputs, outputs, losses or their weights than columns; a column
        whose width or type does not fit. Layer or column is named.
    """
    refuse_lambda(model)
    FlatModel(model)
    weights_of(model, loss, loss_weights)
    taken = list(model.inputs or [])
    if taken and len(taken) != len(inputs):
        raise ConfigError(
            f"model {model.name!r} has {len(taken)} inputs ({_names(taken)}), "
            f"but {len(inputs)} feature columns are named ({_names(inputs)})",
            "name one column for each input, in the model's order",
        )
    for tensor, column in zip(taken, inputs, strict=False):
        _check_input(tensor, column)
    outputs = list(model.outputs or [])
    if not outputs:
        make_loss(loss)
        return
    if len(outputs) != len(labels):
        raise ConfigError(
            f"model {model.name!r} has {len(outputs)} outputs ({_names(outputs)}), "
            f"but {len(labels)} label columns are named ({_names(labels)})",
            "name one column for each output, in the model's order",
        )
    for output, column, one in zip(outputs, labels, losses_of(model, loss), strict=True):
        _check_label_column(output, column, one)


def check_repeatable(model) -> None:
    """Check that the loss at given parameters is the same each time, and a mean over rows whatever the batches.

    Raises
    ------
    ConfigError
        A layer that draws random numbers, or that takes statistics of its batch; it is named.
    """
    import keras

    for layer in model._flatten_layers():
        if isinstance(layer, keras.Model):
            continue  # its layers come by themselves
        weights = {id(variable) for variable in layer.non_trainable_weights}
        random = any(id(v) not in weights and tuple(v.shape) == (2,) for v in layer.non_trainable_variables)
        batchwise = layer.trainable and isinstance(
            layer, keras.layers.BatchNormalization | keras.layers.SpectralNormalization
        )
        if random or batchwise:
            does = "draws random numbers" if random else "takes statistics of its batch"
            raise ConfigError(
                f"layer {layer.name!r} ({type(layer).__name__}) {does}, so the loss is another one at each evaluation",
                "leave the layer out, freeze it if it normalises, or choose an algorithm of local steps",
            )


def check_labels(model, loss, labels: Sequence[np.ndarray], names: Sequence[str] | None = None) -> None:
    """Check that labels lie in the range that their loss can take, where Keras would train on nonsense or NaN.

    Classes for sparse categorical cross-entropy are whole numbers below the number of the output's units; binary and
    categorical cross-entropy take values from 0 to 1, Poisson none below 0. Other losses take any number.

    Parameters
    ----------
    model : keras.Model
    loss
        What :func:`make_loss` takes.
    labels : sequence of arrays [rows, ...]
        All labels of each output; memory-mapped ones are read piece by piece.
    names : sequence of str, optional
        Columns, for the message.

    Raises
    ------
    DataError
        Column, row (counted from 0) and value are named.
    """
    names = names or [f"label {number}" for number in range(len(labels))]
    outputs = list(model.outputs or []) or [None] * len(labels)
    for output, one, array, name in zip(outputs, losses_of(model, loss), labels, names, strict=True):
        kind = _kind(one)
        if kind in _CLASSES and output is not None and output.shape[-1] is not None:
            _check_range(array, name, 0, output.shape[-1] - 1, kind, getattr(one, "ignore_class", None))
        elif kind in _SHARES:
            _check_range(array, name, 0, 1, kind)
        elif kind in _COUNTS:
            _check_range(array, name, 0, np.inf, kind)


def _check_range(array, name, low, high, kind, ignored=None) -> None:
    for first in range(0, len(array), _ROWS):
        piece = np.asarray(array[first : first + _ROWS])
        good = (piece >= low) & (piece <= high)
        if kind in _CLASSES:
            good &= piece == np.floor(piece)
            if ignored is not None:
                good |= piece == ignored
        if good.all():
            continue
        row = int(np.argmin(good.reshape(len(piece), -1).all(1)))
        value = piece.reshape(len(piece), -1)[row][~good.reshape(len(piece), -1)[row]][0]
        wanted = f"classes are whole numbers from {low} to {high}, as many as the output has units"
        if kind not in _CLASSES:
            wanted = f"its labels lie between {low} and {high}" if high == 1 else f"its labels are at least {low}"
        raise DataError(
            f"column {name!r}, row {first + row}: {value} is out of range for {kind}: {wanted}",
            "clean or re-number that column, or choose another loss",
        )


def _check_input(tensor, column) -> None:
    wanted, shape = tuple(tensor.shape[1:]), tuple(column.shape)
    if len(wanted) != len(shape) or any(w not in (None, s) for w, s in zip(wanted, shape, strict=True)):
        raise ConfigError(
            f"column {column.name!r} has rows of shape {list(shape)}, input {tensor.name!r} of the model "
            f"takes {list(wanted)}",
            "features and model must come from the same pipeline",
        )
    kind = np.dtype(column.dtype).kind
    if kind not in "biuf":
        raise ConfigError(f"column {column.name!r} holds {column.dtype}, a model takes numbers", "encode it first")
    if kind == "f" and "int" in str(tensor.dtype):
        raise ConfigError(
            f"column {column.name!r} holds {column.dtype}, input {tensor.name!r} takes {tensor.dtype}: "
            "fractions would be cut off",
            "store that column as integers, or declare the input as float32",
        )


def _check_label_column(output, column, loss) -> None:
    units, shape = tuple(output.shape[1:]), tuple(column.shape)
    kind = _kind(loss)
    if kind in _CLASSES:
        if shape not in ((), (1,), units[:-1]):
            raise ConfigError(
                f"label {column.name!r} has rows of shape {list(shape)}, {kind} takes one class number",
                "use categorical_crossentropy for one-hot labels",
            )
        return
    known = bool(kind) and None not in units
    if known and shape == () and units and int(np.prod(units)) > 1:
        raise ConfigError(
            f"label {column.name!r} is one number, output {output.name!r} has {units[-1]} units, which {kind} compares "
            "one by one",
            "use sparse_categorical_crossentropy for class numbers, or end the model in one unit",
        )
    if known and shape != () and int(np.prod(shape)) != int(np.prod(units)):
        raise ConfigError(
            f"label {column.name!r} has rows of shape {list(shape)}, output {output.name!r} gives {list(units)}",
            "labels and outputs must have the same shape",
        )


def _kind(loss) -> str:
    """Return the loss' name as Keras' classes have it, in lower case; empty for a function of the user's."""
    import keras

    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        name = type(loss).__name__
    else:
        name = getattr(loss, "__name__", "").replace("_", "") if "keras" in getattr(loss, "__module__", "") else ""
    return name.lower() if name.lower() in {key.lower() for key in vars(keras.losses)} else ""


def _names(things) -> str:
    return ", ".join(str(thing.name) for thing in things) or "none"
