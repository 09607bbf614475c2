"""Where a model to evaluate comes from, and how it gets its features and answers scores."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dkeras_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

#: float32[n, d] -> float32[n], probabilities of the positive class
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class ModelSource:
    """A model as it travels to the Python workers.

    Parameters
    ----------
    load : callable
        ``load(payload) -> predict``, called once in every Python worker; can be pickled, and is small.
    payload : bytes
        What may be large (weights); it travels as a Spark broadcast, once to each executor.
    columns : tuple of str
        The columns of the test split that the model needs.
    transform : callable, optional
        ``transform(batch: pyarrow.RecordBatch) -> float32[n, d]`` from those columns. Left out, the single column
        named is an array column and is taken as it is. A champion with feature numbers of its own brings them here.
    """

    load: Callable[[bytes], Predict]
    payload: bytes = b""
    columns: tuple[str, ...] = ("features",)
    transform: Callable[[pa.RecordBatch], np.ndarray] | None = None

    @classmethod
    def keras(cls, architecture: str, weights: bytes, **seam) -> ModelSource:
        """Return the source of a Keras model from its JSON and the bytes of ``learning.model_io``."""
        return cls(_LoadKeras(architecture), weights, **seam)

    @classmethod
    def function(cls, factory: Callable[[], Predict], **seam) -> ModelSource:
        """Return the source of a model that ``factory()`` makes in the worker."""
        return cls(_LoadFunction(factory), **seam)

    def features(self, batch: pa.RecordBatch) -> np.ndarray:
        """Return float32[n, d] for the rows of `batch`."""
        if self.transform is not None:
            return np.ascontiguousarray(self.transform(batch), np.float32)
        (column,) = self.columns
        return matrix(batch.column(column), column)


@dataclass(frozen=True)
class _LoadFunction:
    factory: Callable[[], Predict]

    def __call__(self, payload: bytes) -> Predict:
        return self.factory()


@dataclass(frozen=True)
class _LoadKeras:
    architecture: str

    def __call__(self, payload: bytes) -> Predict:
        from dkeras_core.learning import model_io
        from dkeras_core.learning.prediction import predict
        from dkeras_core.learning.settings import configure_threads

        # One Python worker a core. A reused worker may have its threads set already: that slows nothing down much.
        with contextlib.suppress(ConfigError):
            configure_threads(1)
        model = model_io.from_json(self.architecture)
        model_io.weights_from_bytes(model, payload)
        return functools.partial(predict, model)


def matrix(column: pa.Array, name: str) -> np.ndarray:
    """Return an Arrow list column of n arrays of d numbers as float32[n, d]; DataError unless all have d."""
    if column.null_count:
        raise DataError(f"column {name!r} has {column.null_count} rows without a value")
    flat = column.flatten()
    widths = np.asarray(column.value_lengths())
    if flat.null_count or (len(widths) and (widths != widths[0]).any()):
        raise DataError(f"column {name!r} holds missing numbers or arrays of {widths.min()} to {widths.max()} numbers")
    return np.asarray(flat, np.float32).reshape(len(column), -1)


def scores(predict: Predict, features: np.ndarray) -> np.ndarray:
    """Return predict's probabilities float32[n]; a last axis of length 1 is dropped, any other shape is refused."""
    answer = np.asarray(predict(features), np.float32)
    if answer.shape not in ((len(features),), (len(features), 1)):
        raise DataError(
            f"the model answers shape {answer.shape} for {len(features)} rows; one probability a row is expected",
            "binary evaluation needs a model that ends in one sigmoid unit",
        )
    return answer.reshape(-1)
