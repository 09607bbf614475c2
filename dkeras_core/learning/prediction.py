"""Fast prediction in large batches."""

from __future__ import annotations

import numpy as np
from keras import tree


def predict(model, x, batch_size: int = 4096):
    """Return the model's outputs for all rows, as float arrays in the structure of its outputs.

    Keras compiles the model once and keeps the compiled call with it, so repeated calls (one for each Arrow batch)
    cost no compilation. Unlike ``model.predict`` there is no iterator, callback or progress bar around each call.

    Parameters
    ----------
    model : keras.Model
    x : array [n, ...] or structure of arrays
        n may be 0 when the model's outputs have a fixed shape.
    batch_size : int
        Rows handed to the model at once; bounds the memory of activations.
    """
    rows = len(tree.flatten(x)[0])
    starts = range(0, rows, batch_size)
    if rows == 0:
        return tree.map_structure(lambda t: np.empty((0, *t.shape[1:]), t.dtype), _structure(model))
    parts = [
        model.predict_on_batch(tree.map_structure(lambda a, at=start: a[at : at + batch_size], x)) for start in starts
    ]
    return parts[0] if len(parts) == 1 else tree.map_structure(lambda *pieces: np.concatenate(pieces), *parts)


def _structure(model):
    return model.outputs[0] if len(model.outputs) == 1 else model.outputs
