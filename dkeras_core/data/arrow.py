"""Arrow columns as NumPy blocks of fixed width, checked on the way, without a copy where types agree."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from dkeras_core.data import vectors
from dkeras_core.data.places import Places, refuse_null
from dkeras_core.data.sparse import SparseRows
from dkeras_core.errors import DataError

if TYPE_CHECKING:
    from dkeras_core.data.columns import Column

_IMAGE = {"height", "width", "nChannels", "data"}


def to_rows(batch: pa.RecordBatch, column: Column, first_row: int) -> np.ndarray | SparseRows:
    """Return ``column.dtype[rows, *column.shape]`` in C order; a view into Arrow's memory when no cast is needed.

    ============================  ====================================================================================
    column                        what the rows may hold
    ============================  ====================================================================================
    a number (shape () or (1,))   integers, floating-point numbers, booleans
    with a shape                  lists of numbers, variable or fixed, flat in C order or nested as deep as the shape;
                                  Spark ML vectors, dense and sparse mixed; bytes in C order; Spark's image struct
    with a shape, sparse          Spark ML vectors
    with sources                  in each source a number
    ============================  ====================================================================================

    Parameters
    ----------
    batch : pyarrow.RecordBatch
    column : Column
        What is wanted; a sparse column is returned as SparseRows.
    first_row : int
        Number of the batch's first row, for messages.

    Raises
    ------
    DataError
        Column missing; null, ragged, non-finite or unrepresentable value, with column and row.
    """
    if column.sources:
        return _side_by_side(batch, column, first_row)
    if column.name not in batch.schema.names:
        raise DataError(
            f"column {column.name!r} is missing; the rows have {', '.join(batch.schema.names)}",
            "name one of these columns",
        )
    array = batch.column(column.name)
    places = Places(column.name, first_row, column.width)
    refuse_null(array, Places(column.name, first_row, 1))
    if vectors.is_vector(array.type) and column.shape:
        return _vectors(array, column, first_row)
    if column.sparse:
        raise DataError(
            f"column {column.name!r} holds {array.type}, a sparse column needs Spark ML vectors",
            "give it as vectors, or as a dense column",
        )
    if column.shape and is_image(array.type):
        values = _image(array, column, places)
    elif column.shape and is_binary(array.type):
        values = _bytes(array, np.dtype(column.dtype), places)
    else:
        values = _numbers(array, column, places)
    return cast(values, column.dtype, places).reshape(len(array), *column.shape)


def is_binary(kind) -> bool:
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind)


def is_list(kind) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def is_image(kind) -> bool:
    """Whether it is the struct in which Spark's image source gives pictures."""
    return pt.is_struct(kind) and {kind.field(i).name for i in range(kind.num_fields)} >= _IMAGE


def cast(values: np.ndarray, dtype: str, places: Places) -> np.ndarray:
    """Return the values as ``dtype``; rounding is meant, anything else that is lost is refused with its place."""
    dtype = np.dtype(dtype)
    with np.errstate(all="ignore"):
        rows = np.ascontiguousarray(values) if values.dtype == dtype else values.astype(dtype)
    if dtype.kind == "f":
        good = np.isfinite(rows)
    elif np.can_cast(values.dtype, dtype, "safe"):
        return rows
    else:
        good = rows == values
    if not good.all():
        position = int(np.argmin(good))
        value = values[position]
        if values.dtype.kind == "f" and not np.isfinite(value):
            raise DataError(
                f"{places.of(position)}: {value} is not a finite number", "replace or drop such rows before training"
            )
        raise DataError(
            f"{places.of(position)}: {value} does not fit {dtype}", "choose a wider type, or mend the value"
        )
    return rows


def _side_by_side(batch, column: Column, first_row: int) -> np.ndarray:
    rows = np.empty((batch.num_rows, column.width), column.dtype)
    for position, source in enumerate(column.sources):
        rows[:, position] = to_rows(batch, replace(column, name=source, shape=(), sources=()), first_row)
    return rows


def _vectors(array, column: Column, first_row: int) -> np.ndarray | SparseRows:
    entries = vectors.entries(array, column.name, column.width, first_row)
    values = cast(entries.values, column.dtype, entries.places(column.name, first_row))
    if column.sparse:
        return entries.sparse(values)
    return entries.dense(values).reshape(len(array), *column.shape)


def _numbers(array, column: Column, places: Places) -> np.ndarray:
    if column.shape and is_list(array.type):
        array = _leaves(array, column, places)
    elif column.width != 1:
        raise DataError(
            f"column {column.name!r} holds {array.type}, a list of {column.width} numbers is needed",
            "name the column that the model was made for",
        )
    kind = array.type
    if not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)):
        raise DataError(
            f"column {column.name!r} holds {kind}, numbers are needed", "cast it to numbers, or name another column"
        )
    return array.to_numpy(zero_copy_only=False)


def _leaves(array, column: Column, places: Places):
    """The numbers in the lists: flat, or nested where each level has the length that the shape says."""
    depth = 1
    kind = array.type.value_type
    while is_list(kind):
        depth, kind = depth + 1, kind.value_type
    if depth > len(column.shape):
        raise DataError(
            f"column {column.name!r} holds lists nested deeper than the shape {column.shape}",
            "give the column the shape of its rows",
        )
    above = 1  # lists of this level in one row
    for length in column.shape[: depth - 1]:
        places.refuse_ragged(_lengths(array), length, "lists", above)
        array, above = array.flatten(), above * length
        refuse_null(array, Places(column.name, places.first_row, above))
    places.refuse_ragged(_lengths(array), column.width // max(above, 1), "values", above)
    array = array.flatten()
    refuse_null(array, places)
    return array


def _lengths(array) -> np.ndarray:
    if pt.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size)
    return np.diff(np.asarray(array.offsets))


def _bytes(array, dtype: np.dtype, places: Places) -> np.ndarray:
    size = places.width * dtype.itemsize
    if pt.is_fixed_size_binary(array.type):
        lengths, start = np.full(len(array), array.type.byte_width), array.offset * array.type.byte_width
        data = array.buffers()[1]
    else:
        kind = np.int64 if pt.is_large_binary(array.type) else np.int32
        offsets = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array) + 1]
        lengths, start = np.diff(offsets), int(offsets[0]) if len(offsets) else 0
        data = array.buffers()[2]
    places.refuse_ragged(lengths, size, "bytes")
    if len(array) == 0:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, count=places.width * len(array), offset=start)


def _image(array, column: Column, places: Places) -> np.ndarray:
    """The pixels of Spark's image struct, uint8 in its own order (rows, then columns, then blue, green, red)."""
    wanted = (*column.shape, 1)[:3] if len(column.shape) < 4 else column.shape
    if len(wanted) != 3:
        raise DataError(
            f"column {column.name!r} holds images, its shape {column.shape} is none",
            "give it the shape (height, width, channels)",
        )
    sizes = np.stack([array.field(part).to_numpy() for part in ("height", "width", "nChannels")], axis=1)
    other = np.flatnonzero((sizes != wanted).any(axis=1))
    if len(other):
        height, width, channels = sizes[other[0]]
        raise DataError(
            f"column {column.name!r}, row {places.first_row + int(other[0])}: an image of {height} x {width} pixels "
            f"with {channels} channels, every row needs {wanted[0]} x {wanted[1]} with {wanted[2]}",
            "bring the images to one size before training",
        )
    return _bytes(array.field("data"), np.dtype(np.uint8), places)
