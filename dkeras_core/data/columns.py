"""What a row is made of: the columns that are spooled, given by hand or read off a first batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from dkeras_core.data import vectors
from dkeras_core.data.arrow import is_binary, is_image, is_list, to_rows
from dkeras_core.errors import ConfigError, DataError

SPARSE_WIDTH = 1000  # narrower vectors are kept dense: they are small, and gathered much faster


@dataclass(frozen=True)
class Column:
    """One spooled column: an array ``dtype[rows, *shape]``, row after row in C order.

    Parameters
    ----------
    name : str
    dtype : str
        NumPy's name of the type that is kept and handed to the model; values that do not fit it are refused.
    shape : tuple of int
        Shape of one row; () for a number.
    sparse : bool
        Rows of shape (width,) that are mostly zero, given as Spark ML vectors: they are kept sparse (8 bytes a value
        that is not zero) and become dense in the batch.
    sources : tuple of str
        Names of the columns of numbers that are put side by side to form this one, of shape (number of sources,);
        empty for a column that stands in the rows under its own name.
    """

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()
    sparse: bool = False
    sources: tuple[str, ...] = ()

    def __post_init__(self):
        if self.sources and not self.shape:
            object.__setattr__(self, "shape", (len(self.sources),))
        if self.sources and self.shape != (len(self.sources),):
            raise ConfigError(f"column {self.name!r} is made of {len(self.sources)} others, its shape is {self.shape}")
        if self.sparse and (len(self.shape) != 1 or self.sources):
            raise ConfigError(f"sparse column {self.name!r} needs a shape (width,) and no sources, got {self.shape}")

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns of the rows that it is read from."""
        return self.sources or (self.name,)

    @property
    def width(self) -> int:
        """Values in a row."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def row_bytes(self) -> int:
        """Bytes of a dense row."""
        return self.width * np.dtype(self.dtype).itemsize


def column_of(
    sample: pa.RecordBatch | pa.Table,
    name: str | Sequence[str],
    *,
    shape: Sequence[int | None] | None = None,
    dtype: str | None = None,
) -> Column:
    """Derive a column from a first batch of the rows.

    Parameters
    ----------
    sample : pyarrow.RecordBatch or Table
        Some rows, at least one; what their type does not say (the length of lists) is read off the first.
    name : str or sequence of str
        One column; or the scalar columns that form one vector together, which becomes a column "a+b+c".
    shape : sequence of int or None, optional
        What the model takes, without the batch axis; None in it stands for any length. Default: what the rows hold.
    dtype : str, optional
        Default: float32 for fractions and for columns put together, else what the rows hold (images stay uint8).

    Raises
    ------
    DataError
        The column is missing, holds no numbers, is empty, or does not fit ``shape``; the sample's row is named.
    """
    if not isinstance(name, str):
        column = Column("+".join(name), dtype or "float32", sources=tuple(name))
        found = column.shape
        for source in name:
            to_rows(_first(sample, source), Column(source, column.dtype), 0)
    else:
        first = _first(sample, name)
        array = first.column(0)
        found = _shape(array, name)
        column = Column(name, dtype or _dtype(array.type, name), found)
    if shape is not None:
        column = _fitted(column, found, tuple(shape))
    if isinstance(name, str):
        if column.shape and vectors.is_vector(array.type):
            column = _sparse_if_smaller(column, sample)
        to_rows(first, column, 0)
    return column


def columns_of(
    sample: pa.RecordBatch | pa.Table,
    names: Sequence[str | Sequence[str]],
    *,
    shapes: Sequence[Sequence[int | None]] | None = None,
    dtypes: Sequence[str | None] | None = None,
) -> tuple[Column, ...]:
    """Derive a column for each input (or output) of a model; see :func:`column_of`, whose errors it raises.

    Parameters
    ----------
    names : sequence
        One entry an input: a column's name, or the names of the scalar columns that form one vector.
    shapes, dtypes : sequences of the same length, optional
    """
    for given in (shapes, dtypes):
        if given is not None and len(given) != len(names):
            raise ConfigError(f"{len(names)} columns are named, {len(given)} are needed: {', '.join(map(str, names))}")
    return tuple(
        column_of(sample, name, shape=shapes[i] if shapes else None, dtype=dtypes[i] if dtypes else None)
        for i, name in enumerate(names)
    )


def _first(sample, name: str) -> pa.RecordBatch:
    """The first row of one column."""
    if name not in sample.schema.names:
        raise DataError(
            f"column {name!r} is missing; the rows have {', '.join(sample.schema.names)}", "name one of these columns"
        )
    if sample.num_rows == 0:
        raise DataError(f"there are no rows to read the shape of column {name!r} off", "give at least one row")
    row = sample.select([name]).slice(0, 1)
    return row if isinstance(row, pa.RecordBatch) else row.combine_chunks().to_batches()[0]


def _shape(array, name: str) -> tuple[int, ...]:
    """The shape of the row in ``array``, which holds one."""
    kind = array.type
    if array.null_count:
        raise DataError(f"column {name!r}, row 0: null", "fill missing values before training (features.impute)")
    if vectors.is_vector(kind):
        return (vectors.size_of_first(array),)
    if is_image(kind):
        return tuple(array.field(part)[0].as_py() for part in ("height", "width", "nChannels"))
    if is_binary(kind):
        return (len(array[0].as_py()),)
    if is_list(kind):
        inner = array.flatten()
        if len(inner) == 0:
            raise DataError(f"column {name!r}, row 0: an empty list", "leave out such rows, or name another column")
        return (len(inner), *_shape(inner.slice(0, 1), name)) if is_list(inner.type) else (len(inner),)
    return ()


def _dtype(kind, name: str) -> str:
    while is_list(kind):
        kind = kind.value_type
    if is_image(kind) or is_binary(kind) or pt.is_boolean(kind):
        return "uint8"
    if pt.is_floating(kind) or vectors.is_vector(kind):
        return "float32"
    if pt.is_integer(kind):
        return str(kind).removeprefix("u") if pt.is_uint64(kind) else str(kind)
    raise DataError(f"column {name!r} holds {kind}, numbers are needed", "cast it to numbers, or name another column")


def _fitted(column: Column, found: tuple[int, ...], wanted: tuple[int | None, ...]) -> Column:
    """The column in the model's shape, when a row of shape ``found`` can be seen as one."""
    if len(wanted) == len(found):
        shape = tuple(f if w is None else w for f, w in zip(found, wanted, strict=True))
    else:
        shape = wanted
    size = int(np.prod(found, dtype=np.int64))
    if None in shape and shape.count(None) == 1:
        rest = int(np.prod([w for w in shape if w is not None], dtype=np.int64))
        shape = tuple(size // max(rest, 1) if w is None else w for w in shape)
    if None in shape or int(np.prod(shape, dtype=np.int64)) != size:
        takes = "(" + ", ".join("any" if w is None else str(w) for w in wanted) + ")"
        raise DataError(
            f"a row of column {column.name!r} holds {size} values of shape {found}, the model takes {takes}",
            "name the column that the model was made for, or build the model for this width",
        )
    return Column(column.name, column.dtype, shape, sources=column.sources if len(shape) == 1 else ())


def _sparse_if_smaller(column: Column, sample) -> Column:
    """Kept sparse where that takes at most half the space of dense rows."""
    chunk = sample.column(column.name)
    stored = sum(vectors.stored_values(part) for part in getattr(chunk, "chunks", [chunk]))
    smaller = 2 * 8 * (stored + sample.num_rows) <= sample.num_rows * column.row_bytes
    if len(column.shape) == 1 and column.width >= SPARSE_WIDTH and smaller:
        return Column(column.name, column.dtype, column.shape, sparse=True)
    return column
