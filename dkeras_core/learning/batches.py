"""Windows of batches: their shapes against the model, their parts, and the weights of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from keras import tree

from dkeras_core.errors import ConfigError, DataError


def mapped(function, structure):
    """Apply ``function`` to every array of a structure in which arrays may be None."""
    return tree.map_structure(lambda a: None if a is None else function(a), structure)


def checked(model, xs, ys, ws) -> tuple[int, int]:
    """Return (k, b), the same for every array of a window that fits the model's inputs.

    Raises
    ------
    DataError
        Arrays that disagree in k or b, do not fit the model, or hold no row.
    """
    arrays = [a for a in tree.flatten((xs, ys, ws)) if a is not None]
    leading = {tuple(a.shape[:2]) for a in arrays}
    if len(leading) != 1 or len(next(iter(leading))) != 2 or 0 in next(iter(leading)):
        raise DataError(
            f"a window holds arrays [k batches, b rows, ...], the same k and b in all; got {sorted(leading)}"
        )
    inputs = getattr(model, "inputs", None) or []
    given = tree.flatten(xs)
    if inputs and len(inputs) != len(given):
        raise DataError(f"the model takes {len(inputs)} inputs, the window holds {len(given)}")
    for tensor, array in zip(inputs, given, strict=False):
        wanted, row = tuple(tensor.shape[1:]), array.shape[2:]
        fits = len(wanted) == len(row) and all(w in (None, r) for w, r in zip(wanted, row, strict=True))
        if not fits:
            raise DataError(
                f"a row of the window has shape {list(row)}, input {tensor.name!r} of the model takes {list(wanted)}",
                "features and model must come from the same pipeline",
            )
    return next(iter(leading))


def structured(model, xs, ys, ws):
    """Return the window with its arrays in the structure of the model's inputs and outputs, as Keras wants them.

    The feed hands out tuples in the order of the columns, and one weight a row for all outputs; a functional model may
    have lists or dictionaries.
    """
    inputs, outputs = getattr(model, "input", None), getattr(model, "output", None)  # functional models have both
    if tree.is_nested(outputs) and ws is not None and not tree.is_nested(ws):
        ws = tree.map_structure(lambda _: ws, outputs)
    return _packed(inputs, xs), _packed(outputs, ys), None if ws is None else _packed(outputs, ws)


def _packed(structure, arrays):
    if structure is None or isinstance(arrays, dict):
        return arrays
    flat = tree.flatten(arrays) if isinstance(arrays, list | tuple) else [arrays]
    if len(flat) != len(tree.flatten(structure)):
        return arrays
    return tree.pack_sequence_as(structure, flat)


def parts(steps: int, period: int, data) -> Iterator[tuple[int, tuple]]:
    """Yield (number of steps, part of the window), in order, none longer than ``period``."""
    if steps <= period:
        yield steps, data
        return
    for first in range(0, steps, period):
        yield min(period, steps - first), mapped(lambda a, at=first: a[at : at + period], data)


def padded(data, period: int):
    """Return the batches of a short window followed by batches that are never read, ``period`` in all."""

    def pad(array):
        longer = np.zeros((period, *array.shape[1:]), array.dtype)
        longer[: len(array)] = array
        return longer

    return mapped(pad, data)


def class_weighted(ys, ws, class_weight: Mapping[int, float]) -> np.ndarray:
    """Return float32[k, b]: the weight of each row's class, times its sample weight."""
    if not isinstance(ys, np.ndarray):
        raise ConfigError("class weights need a model with one output", "use sample weights instead")
    one_hot = ys.ndim == 3 and ys.shape[2] > 1
    classes = (ys.argmax(2) if one_hot else ys.reshape(ys.shape[:2])).astype(np.int64)
    table = np.ones(max(int(classes.max()), *class_weight) + 1, np.float32)
    for label, weight in class_weight.items():
        table[label] = weight
    return table[classes] if ws is None else table[classes] * ws
