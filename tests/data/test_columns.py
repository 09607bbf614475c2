"""Columns read off a first batch: dtype, shape, sparse or not, and what does not fit a model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.columns import Column, column_of, columns_of
from dkeras_core.errors import ConfigError, DataError

IMAGE = pa.struct(
    [
        pa.field(name, kind)
        for name, kind in (
            ("origin", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("nChannels", pa.int32()),
            ("mode", pa.int32()),
            ("data", pa.binary()),
        )
    ]
)
PICTURE = {"origin": "", "height": 2, "width": 3, "nChannels": 1, "mode": 0, "data": b"abcdef"}


def table(**columns):
    return pa.table(columns)


@pytest.mark.parametrize(
    ("array", "dtype", "shape"),
    [
        (pa.array([1.5, 2]), "float32", ()),
        (pa.array([1, 2], pa.int32()), "int32", ()),
        (pa.array([1, 2]), "int64", ()),
        (pa.array([1, 2], pa.uint64()), "int64", ()),
        (pa.array([True, False]), "uint8", ()),
        (pa.array([[1.0, 2], [3, 4]]), "float32", (2,)),
        (pa.array([[1, 2, 3]], pa.list_(pa.int16(), 3)), "int16", (3,)),
        (
            pa.array([[[[1], [2]], [[3], [4]], [[5], [6]]]], pa.list_(pa.list_(pa.list_(pa.uint8())))),
            "uint8",
            (3, 2, 1),
        ),
        (pa.array([b"abcd"]), "uint8", (4,)),
        (pa.array([PICTURE], IMAGE), "uint8", (2, 3, 1)),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_what_the_rows_say(array, dtype, shape):
    assert column_of(table(x=array), "x") == Column("x", dtype, shape)
    assert column_of(pa.record_batch({"x": array}), "x") == Column("x", dtype, shape)


def test_vectors_are_dense_or_sparse_by_what_they_store(vectors):
    assert column_of(table(x=vectors([np.arange(3.0)])), "x") == Column("x", "float32", (3,))
    few, many = (5000, [7, 70], [1.0, 2.0]), (5000, range(2500), np.ones(2500))
    assert column_of(table(x=vectors([few, few])), "x") == Column("x", "float32", (5000,), sparse=True)
    assert column_of(table(x=vectors([few, many])), "x") == Column("x", "float32", (5000,))
    assert column_of(table(x=vectors([(30, [7], [1.0])])), "x") == Column("x", "float32", (30,))


def test_several_columns_form_one():
    rows = table(a=pa.array([1.0]), b=pa.array([2]), c=pa.array([True]), y=pa.array([3]))
    assert columns_of(rows, [["a", "b", "c"], "y"]) == (
        Column("a+b+c", "float32", (3,), sources=("a", "b", "c")),
        Column("y", "int64"),
    )
    assert Column("features", sources=("a", "b")).shape == (2,)
    assert Column("features", sources=("a", "b")).reads == ("a", "b")
    assert Column("y").reads == ("y",)


def test_the_shape_of_the_model():
    rows = table(x=pa.array([[1.0, 2, 3, 4, 5, 6]]), deep=pa.array([[[1, 2, 3], [4, 5, 6]]]), y=pa.array([1.0]))
    assert column_of(rows, "x", shape=(6,)).shape == (6,)
    assert column_of(rows, "x", shape=(2, 3)).shape == (2, 3)
    assert column_of(rows, "x", shape=(None, 3)).shape == (2, 3)
    assert column_of(rows, "x", shape=(None,)).shape == (6,)
    assert column_of(rows, "deep", shape=(None, None)).shape == (2, 3)
    assert column_of(rows, "y", shape=(1,)).shape == (1,)
    assert column_of(rows, ["y", "y"], shape=(2,)).shape == (2,)
    assert column_of(rows, "deep", dtype="float32") == Column("deep", "float32", (2, 3))


X = pa.array([[1.0, 2.0]])


@pytest.mark.parametrize(
    ("array", "settings", "message"),
    [
        (X, {"shape": (3,)}, r"'x' holds 2 values of shape \(2,\), the model takes \(3\)"),
        (X, {"shape": (None, 3)}, r"the model takes \(any, 3\)"),
        (X, {"shape": (2, 2)}, r"the model takes \(2, 2\)"),
        (pa.array([["a", "b"]]), {}, "'x' holds string, numbers are needed"),
        (pa.array(["a"]), {}, "'x' holds string, numbers are needed"),
        (pa.array([[]], pa.list_(pa.float32())), {}, "row 0: an empty list"),
        (pa.array([None], pa.list_(pa.float32())), {}, "row 0: null"),
        (pa.array([None], pa.float32()), {}, "row 0: null"),
        (pa.array([[1.0, None]]), {}, "row 0: value 1 is null"),
        (pa.array([np.nan]), {}, "row 0: nan is not a finite number"),
        (pa.array([[[1.0], [2, 3]]]), {}, r"'x', row 0: 2 values, every row needs 1"),
        (pa.array([300]), {"dtype": "uint8"}, "row 0: 300 does not fit uint8"),
        (pa.array([], pa.float32()), {}, "no rows to read the shape of column 'x' off"),
    ],
    ids=range(13),
)
def test_what_does_not_fit_is_said(array, settings, message):
    with pytest.raises(DataError, match=message) as caught:
        column_of(table(x=array), "x", **settings)
    assert caught.value.next_step


def test_columns_that_are_not_there():
    rows = table(a=pa.array([1.0]), b=pa.array(["s"]))
    with pytest.raises(DataError, match="'x' is missing; the rows have a, b"):
        column_of(rows, "x")
    with pytest.raises(DataError, match="'x' is missing; the rows have a, b"):
        column_of(rows, ["a", "x"])
    with pytest.raises(DataError, match="'b' holds string"):
        column_of(rows, ["a", "b"])
    with pytest.raises(DataError, match="the model takes \\(3\\)"):
        column_of(rows, ["a", "a"], shape=(3,))
    with pytest.raises(ConfigError, match="1 columns are named, 2 are needed: a"):
        columns_of(rows, ["a"], shapes=[(), ()])


@pytest.mark.parametrize(
    "settings",
    [{"shape": (3,), "sources": ("a",)}, {"sparse": True}, {"sparse": True, "sources": ("a",)}],
    ids=str,
)
def test_columns_that_cannot_be(settings):
    with pytest.raises(ConfigError, match="'x'"):
        Column("x", **settings)
