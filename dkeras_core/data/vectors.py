"""Spark ML vectors as they arrive in Arrow: a struct of type (0 sparse, 1 dense), size, indices and values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pyarrow.types as pt

from dkeras_core.data.places import Places, refuse_null
from dkeras_core.data.sparse import SparseRows
from dkeras_core.errors import DataError

_FIELDS = ("type", "size", "indices", "values")
_SPARSE = 0


def is_vector(kind) -> bool:
    """Whether an Arrow type is Spark's VectorUDT."""
    return pt.is_struct(kind) and tuple(kind.field(i).name for i in range(kind.num_fields)) == _FIELDS


def size_of_first(array) -> int:
    """The length of the first vector of an array that holds one."""
    if array.field("type")[0].as_py() == _SPARSE:
        return array.field("size")[0].as_py()
    return len(array.field("values")[0])


def stored_values(array) -> int:
    """Values that the vectors of an array store."""
    return pc.sum(pc.list_value_length(array.field("values"))).as_py() or 0


@dataclass(frozen=True)
class Entries:
    """What the vectors of a batch store: ``values[i]`` stands in the row ``rows[i]`` at ``elements[i]``.

    A batch without sparse vectors has neither: ``elements`` is None, and all values stand there in C order.
    """

    count: int
    width: int
    values: np.ndarray
    rows: np.ndarray | None = None
    elements: np.ndarray | None = None

    def places(self, name: str, first_row: int) -> Places:
        positions = None if self.elements is None else self.rows * self.width + self.elements
        return Places(name, first_row, self.width, positions)

    def dense(self, values: np.ndarray) -> np.ndarray:
        """Return [count, width] of the values, which may have been cast."""
        if self.elements is None:
            return values.reshape(self.count, self.width)
        dense = np.zeros((self.count, self.width), values.dtype)
        dense[self.rows, self.elements] = values
        return dense

    def sparse(self, values: np.ndarray) -> SparseRows:
        """Return the values, which may have been cast, that are not zero."""
        kept = np.flatnonzero(values)
        if self.elements is None:
            rows, elements = np.divmod(kept, self.width)
        else:
            rows, elements = self.rows[kept], self.elements[kept]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=self.count))])
        return SparseRows(offsets, elements.astype(np.int32), values[kept], self.width)


def entries(array, name: str, width: int, first_row: int) -> Entries:
    """Take the vectors of an Arrow array apart; it holds no null.

    Raises
    ------
    DataError
        A vector of another length than ``width``, or whose parts disagree, with its row.
    """
    one = Places(name, first_row, 1)
    kinds, lists = array.field("type").to_numpy(zero_copy_only=False), array.field("values")
    refuse_null(lists, one)
    lengths = pc.list_value_length(lists).to_numpy()
    sparse = kinds == _SPARSE
    sizes = pc.fill_null(array.field("size"), -1).to_numpy()
    one.refuse_ragged(np.where(sparse, sizes, lengths), width, "values")
    values = lists.flatten().to_numpy(zero_copy_only=False)
    if not sparse.any():
        return Entries(len(array), width, values)
    indices = array.field("indices")
    index_lengths = pc.fill_null(pc.list_value_length(indices), 0).to_numpy()
    _refuse(index_lengths != np.where(sparse, lengths, 0), one, "as many indices as values are needed")
    rows = np.repeat(np.arange(len(array)), lengths)
    given = indices.flatten().to_numpy(zero_copy_only=False)
    if sparse.all():
        elements = given
    else:
        elements = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        elements[sparse[rows]] = given
    outside = (elements < 0) | (elements >= width)
    if outside.any():
        _refuse(np.bincount(rows[outside], minlength=len(array)) > 0, one, f"an index is outside of 0 to {width - 1}")
    return Entries(len(array), width, values, rows, elements)


def _refuse(bad: np.ndarray, one: Places, what: str) -> None:
    if bad.any():
        raise DataError(f"{one.of(int(np.argmax(bad)))}: a damaged sparse vector, {what}", "look at how it was made")
