"""Validation rows are a fair sample of all rows, bounded, in the form that the model takes."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.spool import Column
from dkeras_core.errors import DataError
from dkeras_core.training.validation import Validation

INPUTS, LABELS = (Column("features", shape=(2,)),), (Column("label"),)


def batches(*sizes):
    first = 0
    for size in sizes:
        values = np.arange(first, first + size, dtype=np.float32)
        features = pa.FixedSizeListArray.from_arrays(np.repeat(values, 2), 2)
        yield pa.RecordBatch.from_pydict({"features": features, "label": values, "weight": values + 1})
        first += size


def test_few_rows_are_all_kept_together():
    held = Validation.from_batches(batches(30, 0, 20), INPUTS, LABELS, "weight")
    assert held.rows == 50 and held.x.shape == (50, 2)
    assert sorted(held.y) == list(range(50))
    assert np.array_equal(held.x[:, 1], held.y) and np.array_equal(held.weights, held.y + 1)


def test_many_rows_are_sampled_evenly():
    held = Validation.from_batches(batches(*[500] * 40), INPUTS, LABELS, limit=1000)
    assert held.rows == 1000 == len(set(held.y))
    assert np.array_equal(held.x[:, 0], held.y)
    by_fifth = np.histogram(held.y, bins=5, range=(0, 20_000))[0]
    assert by_fifth.min() > 150 and by_fifth.max() < 250
    again = Validation.from_batches(batches(*[500] * 40), INPUTS, LABELS, limit=1000)
    assert np.array_equal(held.y, again.y)


def test_wide_rows_are_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr("dkeras_core.training.validation.BYTES", 480)
    assert Validation.from_batches(batches(100, 100), INPUTS, LABELS).rows == 40


def test_wide_sparse_batches_are_never_dense_as_a_whole():
    rows, width = 1000, 100_000  # 400 MB when dense
    ends = np.arange(rows + 1, dtype=np.int32)
    indices = pa.ListArray.from_arrays(ends, np.arange(rows, dtype=np.int32))
    values = pa.ListArray.from_arrays(ends, np.ones(rows))
    parts = [pa.array(np.zeros(rows, np.int8)), pa.array(np.full(rows, width, np.int32)), indices, values]
    x = pa.StructArray.from_arrays(parts, names=["type", "size", "indices", "values"])
    batch = pa.RecordBatch.from_pydict({"x": x, "label": np.arange(rows, dtype=np.float32)})
    tracemalloc.start()
    try:
        held = Validation.from_batches([batch], [Column("x", shape=(width,), sparse=True)], LABELS, limit=20)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()
    assert np.array_equal(held.x.argmax(1), held.y) and held.rows == 20


def test_several_inputs_and_outputs_are_tuples():
    held = Validation.from_batches(batches(5), (*INPUTS, Column("weight")), (*LABELS, *LABELS))
    assert [array.shape for array in held.x] == [(5, 2), (5,)] and len(held.y) == 2


def test_no_rows_and_bad_rows_are_refused():
    with pytest.raises(DataError, match="no validation rows"):
        Validation.from_batches([], INPUTS, LABELS)
    with pytest.raises(DataError, match="no validation rows"):
        Validation.from_batches(batches(0), INPUTS, LABELS)
    with pytest.raises(DataError, match="differ in length"):
        Validation(np.zeros((3, 2)), np.zeros(4))
    with pytest.raises(DataError, match="'lable' is missing"):
        Validation.from_batches(batches(5), INPUTS, (Column("lable"),))
