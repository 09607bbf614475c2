"""Arrow columns as NumPy blocks of fixed width, checked on the way, without a copy where types agree."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from dkeras_core.errors import DataError


def to_rows(batch: pa.RecordBatch, column, first_row: int) -> np.ndarray:
    """Return ``column.dtype[rows, *column.shape]`` in C order; a view into Arrow's memory when no cast is needed.

    Takes numbers and booleans for scalar columns; lists of numbers (fixed or variable) and binary values, in C order,
    for columns with a shape.

    Parameters
    ----------
    batch : pyarrow.RecordBatch
    column : Column
        Name, dtype and shape that is wanted.
    first_row : int
        Number of the batch's first row, for messages.

    Raises
    ------
    DataError
        Column missing; null, ragged, non-finite or unrepresentable value, with column and row.
    """
    if column.name not in batch.schema.names:
        raise DataError(f"column {column.name!r} is missing; the rows have {', '.join(batch.schema.names)}")
    array = batch.column(column.name)
    width = int(np.prod(column.shape, dtype=np.int64))
    _refuse_null(array, column.name, first_row, 1)
    if column.shape and _is_binary(array.type):
        values = _binary(array, column, first_row, width)
    else:
        values = _flattened(array, column, first_row, width)
    return _cast(values, column, first_row, width).reshape(len(array), *column.shape)


def _is_binary(kind) -> bool:
    return pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind)


def _is_list(kind) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _flattened(array, column, first_row, width) -> np.ndarray:
    if column.shape and not _is_list(array.type):
        raise DataError(f"column {column.name!r} holds {array.type}, a list of {width} numbers is needed")
    if column.shape:
        _refuse_ragged(_lengths(array), width, column.name, first_row, "values")
        array = array.flatten()
        _refuse_null(array, column.name, first_row, width)
    kind = array.type
    if not (pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind)):
        raise DataError(f"column {column.name!r} holds {kind}, numbers are needed")
    return array.to_numpy(zero_copy_only=False)


def _lengths(array) -> np.ndarray:
    if pt.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size)
    return np.diff(np.asarray(array.offsets))


def _refuse_ragged(lengths, wanted, name, first_row, unit) -> None:
    ragged = np.flatnonzero(lengths != wanted)
    if len(ragged):
        row, length = first_row + int(ragged[0]), int(lengths[ragged[0]])
        raise DataError(f"column {name!r}, row {row}: {length} {unit}, every row needs {wanted}")


def _binary(array, column, first_row, width) -> np.ndarray:
    size = width * np.dtype(column.dtype).itemsize
    if pt.is_fixed_size_binary(array.type):
        lengths, start = np.full(len(array), array.type.byte_width), array.offset * array.type.byte_width
        data = array.buffers()[1]
    else:
        kind = np.int64 if pt.is_large_binary(array.type) else np.int32
        offsets = np.frombuffer(array.buffers()[1], kind)[array.offset : array.offset + len(array) + 1]
        lengths, start = np.diff(offsets), int(offsets[0]) if len(offsets) else 0
        data = array.buffers()[2]
    _refuse_ragged(lengths, size, column.name, first_row, "bytes")
    if len(array) == 0:
        return np.empty(0, column.dtype)
    return np.frombuffer(data, column.dtype, count=width * len(array), offset=start)


def _cast(values: np.ndarray, column, first_row: int, width: int) -> np.ndarray:
    dtype = np.dtype(column.dtype)
    if values.dtype.kind == "f":
        _refuse_at(~np.isfinite(values), values, column.name, first_row, width, "is not a finite number")
    if values.dtype == dtype:
        return np.ascontiguousarray(values)
    if np.can_cast(values.dtype, dtype, "safe"):
        return values.astype(dtype)
    with np.errstate(all="ignore"):
        cast = values.astype(dtype)
    if dtype.kind == "f":  # rounding is meant, overflow is not
        _refuse_at(~np.isfinite(cast), values, column.name, first_row, width, f"does not fit {dtype}")
    else:
        _refuse_at(cast != values, values, column.name, first_row, width, f"does not fit {dtype}")
    return cast


def _refuse_null(array, name: str, first_row: int, width: int) -> None:
    if array.null_count:
        position = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        where = f"row {first_row + position // width}"
        raise DataError(
            f"column {name!r}, {where}: " + (f"value {position % width} is null" if width > 1 else "null"),
            "fill missing values before training (features.impute)",
        )


def _refuse_at(bad: np.ndarray, values, name, first_row, width, what) -> None:
    if bad.any():
        position = int(np.flatnonzero(bad)[0])
        row, element = divmod(position, width)
        place = f", value {element}" if width > 1 else ""
        raise DataError(f"column {name!r}, row {first_row + row}{place}: {values[position]} {what}")
