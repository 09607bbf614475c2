"""Orders of rows that fit into memory or do not: permuted as a whole, or block by block through a buffer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dkeras_core.data.sparse import SparseRows

BLOCKS = 64  # in a full buffer: so many stretches of the file are mixed with each other


def gather(rows: np.ndarray | SparseRows, order: np.ndarray, out: np.ndarray) -> None:
    """Write the rows ``order``, dense, into ``out[len(order), ...]``."""
    if isinstance(rows, SparseRows):
        rows.dense(order, out)
    else:
        # mode="clip" writes straight into the buffer; "raise" would go through a copy of it
        np.take(rows, order, axis=0, out=out, mode="clip")


def shuffled(
    columns: Sequence[np.ndarray | SparseRows],
    random: np.random.Generator,
    capacity: int,
    full: int,
    first: int,
    release: Callable[[], None],
) -> Iterator[tuple[Sequence[np.ndarray | SparseRows], np.ndarray]]:
    """Yield (columns, order): the rows ``order`` of these columns come next.

    Every order but the last is made for windows of ``full`` rows, the very first window of ``first``, without a rest.

    Parameters
    ----------
    columns : arrays or SparseRows of the same number of rows
    capacity : int
        Rows that a buffer may hold; data that are not more are permuted where they are.
    full, first : int
        Rows of a full window, and of the first one.
    release : callable
        Called after each stretch that was read.
    """
    rows = len(columns[0])
    if rows <= capacity:
        yield columns, random.permutation(rows)
        return
    block = max((capacity - full) // BLOCKS, 1)
    buffers = [
        (SparseBuffer if isinstance(column, SparseRows) else DenseBuffer)(column, capacity) for column in columns
    ]
    starts = random.permutation(np.arange(0, rows, block))
    filled = 0
    for position, start in enumerate(starts):
        stop = min(start + block, rows)
        for buffer, column in zip(buffers, columns, strict=True):
            buffer.put(filled, column, start, stop)
        release()
        filled += stop - start
        last = position == len(starts) - 1
        if last or filled + block > capacity:
            order = random.permutation(filled)
            taken = filled if last else first + (filled - first) // full * full
            yield [buffer.rows(filled) for buffer in buffers], order[:taken]
            first = full
            for buffer in buffers:
                buffer.keep(order[taken:])
            filled -= taken


class DenseBuffer:
    """Room for ``capacity`` rows of an array."""

    def __init__(self, column: np.ndarray, capacity: int):
        self._array = np.empty((capacity, *column.shape[1:]), column.dtype)

    def put(self, at: int, column: np.ndarray, start: int, stop: int) -> None:
        """Copy rows ``start`` to ``stop`` to the place ``at``, the end of the rows so far."""
        self._array[at : at + stop - start] = column[start:stop]

    def rows(self, filled: int) -> np.ndarray:
        return self._array[:filled]

    def keep(self, rest: np.ndarray) -> None:
        """Go on with these rows alone."""
        self._array[: len(rest)] = self._array[rest]  # the right side is gathered into a copy first


class SparseBuffer:
    """The same for sparse rows; it grows where the rows of one buffer store more than the mean."""

    def __init__(self, column: SparseRows, capacity: int):
        self._width = column.width
        self._offsets = np.zeros(capacity + 1, np.int64)
        stored = int(column.offsets[-1]) * capacity // len(column)
        self._indices = np.empty(stored + stored // 8, np.int32)
        self._values = np.empty(stored + stored // 8, column.dtype)

    def put(self, at: int, column: SparseRows, start: int, stop: int) -> None:
        added = column.between(start, stop).compact()
        first = int(self._offsets[at])
        last = first + len(added.values)
        if last > len(self._values):
            self._indices, self._values = (
                np.concatenate([kept[:first], np.empty(last - first + last // 8, kept.dtype)])
                for kept in (self._indices, self._values)
            )
        self._offsets[at + 1 : at + 1 + len(added)] = added.offsets[1:] + first
        self._indices[first:last] = added.indices
        self._values[first:last] = added.values

    def rows(self, filled: int) -> SparseRows:
        return SparseRows(self._offsets[: filled + 1], self._indices, self._values, self._width)

    def keep(self, rest: np.ndarray) -> None:
        kept = SparseRows(self._offsets, self._indices, self._values, self._width).take(rest)
        stored = len(kept.values)
        self._offsets[: len(rest) + 1] = kept.offsets
        self._indices[:stored], self._values[:stored] = kept.indices, kept.values
