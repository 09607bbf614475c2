"""Predictions in Spark's Python workers: Arrow columns in, Arrow columns out, the model loaded once a process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from dkeras_core.data.arrow import to_rows
from dkeras_core.data.columns import column_of
from dkeras_core.ml.outputs import Output, flat_rows
from dkeras_core.ml.packed import PackedModel

_KEPT = 4  # models a worker keeps: the stages of a pipeline, not the history of a grid search
_BYTES = 64 << 20  # of input that is dense at once: bounds wide sparse vectors

_models: OrderedDict[str, object] = OrderedDict()


@dataclass(frozen=True)
class Scoring:
    """What is to be computed from the columns of the inputs.

    Parameters
    ----------
    digest : str
        Of the model.
    names : tuple of tuple of str
        Columns of each input.
    inputs : tuple of (shape, dtype)
        What the model takes.
    outputs : tuple of Output
    batch_size : int
        Rows that the model scores at once, at most.
    """

    digest: str
    names: tuple[tuple[str, ...], ...]
    inputs: tuple[tuple[tuple[int | None, ...], str], ...]
    outputs: tuple[Output, ...]
    batch_size: int

    def __call__(self, model, columns: Sequence[pa.Array]) -> pa.StructArray:
        """Return a struct with ``prediction<i>`` and, for probabilities, ``probability<i>`` of each output i.

        Raises
        ------
        DataError
            A value that the model cannot take, or rows of another width; column and row of the batch are named.
        """
        batch = pa.RecordBatch.from_arrays(list(columns), names=[name for group in self.names for name in group])
        rows = batch.num_rows
        parts = [self._predict(model, batch.slice(start, count)) for start, count in self._slices(batch)]
        fields = {}
        for position, output in enumerate(self.outputs):
            values = np.concatenate([part[position] for part in parts]) if parts else None
            fields.update(_answers(output, position, values, rows))
        return pa.StructArray.from_arrays(list(fields.values()), names=list(fields))

    def _slices(self, batch):
        step = self.batch_size
        for shape, _ in self.inputs:
            width = int(np.prod([size or 1 for size in shape], dtype=np.int64))
            step = max(min(step, _BYTES // (4 * width)), 1)
        return [(start, step) for start in range(0, batch.num_rows, step)]

    def _predict(self, model, batch: pa.RecordBatch) -> list[np.ndarray]:
        from keras import tree

        from dkeras_core.learning.batches import structured
        from dkeras_core.learning.prediction import predict

        blocks = [
            to_rows(batch, input_column(batch, list(group), shape, dtype, sparse=False), 0)
            for group, (shape, dtype) in zip(self.names, self.inputs, strict=True)
        ]
        x, _, _ = structured(model, blocks[0] if len(blocks) == 1 else blocks, None, None)
        answer = predict(model, x, self.batch_size)
        return [np.asarray(values) for values in tree.flatten(answer)]


def input_column(sample, names: list[str], shape: tuple[int | None, ...], dtype: str, *, sparse: bool = True):
    """The column of one input, as the model takes it, with what the model leaves open read off a sample."""
    column = column_of(sample, names[0] if len(names) == 1 else names, shape=shape)
    if dtype.startswith(("int", "uint")):
        return replace(column, dtype=dtype, sparse=False)  # numbers of words: the model looks them up
    column = column if column.dtype in ("uint8", "float32") else replace(column, dtype="float32")
    return column if sparse else replace(column, sparse=False)


def loaded(digest: str, pack) -> object:
    """Return the model, built when this process sees it for the first time; ``pack()`` gives the PackedModel."""
    if digest in _models:
        _models.move_to_end(digest)
    else:
        from dkeras_core.learning.settings import configure_threads

        configure_threads(_cores())
        _models[digest] = pack().unpack()
        while len(_models) > _KEPT:
            _models.popitem(last=False)
    return _models[digest]


def scorer(scoring: Scoring, packed):
    """Return the function for ``pyspark.sql.functions.arrow_udf``; ``packed`` is a broadcast of (JSON, weights)."""

    def score(*columns: pa.Array) -> pa.Array:
        model = loaded(scoring.digest, lambda: PackedModel(*packed.value))
        return scoring(model, columns)

    # Spark evaluates the annotations; as text they would be looked up in the module of the worker
    score.__annotations__ = {"columns": pa.Array, "return": pa.Array}
    return score


def _cores() -> int:
    """Cores of one Spark task."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.cpus() if context else 1


def _answers(output: Output, position: int, values: np.ndarray | None, rows: int) -> dict[str, pa.Array]:
    """The columns of one output, from what the model gave for it; from None when there are no rows."""
    if values is None:
        values = np.empty((0, output.classes if output.kind in ("classes", "labels") else 1), np.float32)
    if output.kind == "values":
        flat = flat_rows(values)
        return {f"prediction{position}": pa.array(flat[:, 0]) if output.single else _vectors(flat)}
    probabilities = output.probabilities(values)
    if output.kind == "labels":
        prediction = _vectors((probabilities >= 0.5).astype(np.float64))
    elif output.kind == "binary":
        prediction = pa.array((probabilities[:, 1] >= 0.5).astype(np.float64))
    else:
        prediction = pa.array(probabilities.argmax(axis=1).astype(np.float64))
    return {f"prediction{position}": prediction, f"probability{position}": _vectors(probabilities)}


def _vectors(values: np.ndarray) -> pa.StructArray:
    """Dense Spark ML vectors of float64[n, width], without a copy."""
    rows, width = values.shape
    offsets = pa.array(np.arange(0, rows * width + 1, width or 1, dtype=np.int32)[: rows + 1])
    return pa.StructArray.from_arrays(
        [
            pa.array(np.ones(rows, np.int8)),
            pa.nulls(rows, pa.int32()),
            pa.nulls(rows, pa.list_(pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1))),
        ],
        names=["type", "size", "indices", "values"],
    )
