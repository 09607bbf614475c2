"""Arrow columns as rows: nested lists, images, columns side by side, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.arrow import to_rows
from dkeras_core.data.columns import Column
from dkeras_core.data.spool import Spool
from dkeras_core.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 2), np.uint8)
IMAGE = [("origin", pa.string()), ("height", pa.int32()), ("width", pa.int32()), ("nChannels", pa.int32())]
IMAGE = pa.struct([*IMAGE, ("mode", pa.int32()), ("data", pa.binary())])


def nested(kind, *lists):
    for make in lists:
        kind = make(kind)
    return kind


def images(pixels=PIXELS, **changed):
    rows = []
    for picture in pixels:
        height, width, channels = picture.shape
        row = {"origin": "", "height": height, "width": width, "nChannels": channels, "mode": 0}
        rows.append({**row, "data": picture.tobytes()})
    rows[-1].update(changed)
    return pa.array(rows, IMAGE)


@pytest.mark.parametrize(
    "kind",
    [
        nested(pa.uint8(), pa.list_, pa.list_, pa.list_),
        nested(pa.uint8(), pa.large_list, pa.list_, pa.large_list),
        nested(pa.uint8(), *(lambda kind, n=n: pa.list_(kind, n) for n in (2, 3, 4))),
        nested(pa.int64(), pa.list_, lambda kind: pa.list_(kind, 3), pa.list_),
    ],
    ids=["lists", "large", "fixed", "int64"],
)
@pytest.mark.parametrize(("start", "rows"), [(0, 6), (2, 3), (6, 0)])
def test_nested_lists(kind, start, rows):
    batch = pa.record_batch({"x": pa.array(PIXELS.tolist(), kind)}).slice(start, rows)
    found = to_rows(batch, Column("x", "uint8", (4, 3, 2)), 0)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PIXELS[start : start + rows])


def test_lists_may_be_flatter_than_the_shape():
    for given in (PIXELS.reshape(6, 24), PIXELS.reshape(6, 4, 6)):
        rows = to_rows(pa.record_batch({"x": pa.array(given.tolist())}), Column("x", "uint8", (4, 3, 2)), 0)
        np.testing.assert_array_equal(rows, PIXELS)


@pytest.mark.parametrize("pixels", [PIXELS, PIXELS[..., :1]], ids=["channels", "grey"])
@pytest.mark.parametrize(("start", "rows"), [(0, 6), (2, 3), (6, 0)])
def test_images_of_spark(tmp_path, pixels, start, rows):
    shape = pixels.shape[1:]
    with Spool.create(tmp_path, [Column("x", "uint8", shape)]) as spool:
        spool.append(pa.record_batch({"x": images(pixels)}).slice(start, rows))
        array = spool.seal().arrays["x"]
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, pixels[start : start + rows])
    if shape[-1] == 1:
        batch = pa.record_batch({"x": images(pixels)})
        np.testing.assert_array_equal(to_rows(batch, Column("x", "float32", shape[:2]), 0), pixels[..., 0])


def test_numbers_for_an_input_of_width_one():
    rows = to_rows(pa.record_batch({"x": pa.array([1, 2])}), Column("x", "int32", (1,)), 0)
    assert rows.tolist() == [[1], [2]]


def test_columns_side_by_side(tmp_path):
    table = {"a": pa.array([1.5, 2, 3]), "b": pa.array([4, 5, 6]), "c": pa.array([True, False, True])}
    with Spool.create(tmp_path, [Column("x", sources=("c", "a", "b"))]) as spool:
        spool.append(pa.record_batch(table).slice(1))
        assert spool.seal().arrays["x"].tolist() == [[0, 2, 5], [1, 3, 6]]


DEEP = pa.list_(pa.list_(pa.float32()))
X = Column("x", shape=(2, 2))
IMAGES = Column("x", "uint8", (4, 3, 2))
SIDE = Column("x", sources=("a", "b"))


@pytest.mark.parametrize(
    ("column", "given", "message"),
    [
        (X, {"x": pa.array([[[1, 2], [3, 4]], [[1, 2]]], DEEP)}, "'x', row 11: 1 lists, every row needs 2"),
        (X, {"x": pa.array([[[1, 2], [3, 4]], [[1, 2], [3]]], DEEP)}, "'x', row 11: 1 values, every row needs 2"),
        (X, {"x": pa.array([[[1, 2], [3, 4]], [[1, 2], None]], DEEP)}, "'x', row 11: value 1 is null"),
        (X, {"x": pa.array([[[1, 2], [3, 4]], [[1, 2], [3, None]]], DEEP)}, "'x', row 11: value 3 is null"),
        (X, {"x": pa.array([[[1, 2], [3, np.inf]]], DEEP)}, "'x', row 10, value 3: inf is not a finite number"),
        (X, {"x": pa.array([[[[1]]]])}, r"'x' holds lists nested deeper than the shape \(2, 2\)"),
        (X, {"x": images()}, r"'x', row 10: an image of 4 x 3 pixels with 2 channels, every row needs 2 x 2 with 1"),
        (IMAGES, {"x": images(height=5)}, "row 15: an image of 5 x 3 pixels with 2 channels, every row needs 4 x 3"),
        (IMAGES, {"x": images(data=b"abc")}, "'x', row 15: 3 bytes, every row needs 24"),
        (Column("x", "uint8", (24,)), {"x": images()}, r"its shape \(24,\) is none"),
        (Column("x", "uint8", (1, 4, 3, 2)), {"x": images()}, r"its shape \(1, 4, 3, 2\) is none"),
        (SIDE, {"a": pa.array([1.0])}, "'b' is missing; the rows have a"),
        (SIDE, {"a": pa.array([1.0, 2]), "b": pa.array([1.0, np.nan])}, "'b', row 11: nan is not a finite number"),
        (SIDE, {"a": pa.array([1.0, 2]), "b": pa.array([1.0, None])}, "'b', row 11: null"),
        (SIDE, {"a": pa.array([1.0, 2]), "b": pa.array([[1.0], [2]])}, "'b' holds list"),
    ],
    ids=range(15),
)
def test_bad_rows_are_named(column, given, message):
    with pytest.raises(DataError, match=message) as caught:
        to_rows(pa.record_batch(given), column, 10)
    assert caught.value.next_step
