"""Wide rows that are mostly zero, as compressed sparse rows (CSR): small on disk, dense in the batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SparseRows:
    """Row i holds ``values[offsets[i] : offsets[i + 1]]`` at the columns ``indices[offsets[i] : offsets[i + 1]]``.

    Parameters
    ----------
    offsets : int64[rows + 1]
        Rising; the first need not be 0.
    indices : int32[stored]
    values : array[stored]
    width : int
        Length of a dense row.
    """

    offsets: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    width: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.width

    @property
    def dtype(self) -> np.dtype:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in this form; a dense row takes ``width * dtype.itemsize``."""
        stored = int(self.offsets[-1] - self.offsets[0])
        return self.offsets.nbytes + stored * (self.indices.itemsize + self.values.itemsize)

    def between(self, start: int, stop: int) -> SparseRows:
        """Rows ``start`` to ``stop`` as a view."""
        return SparseRows(self.offsets[start : stop + 1], self.indices, self.values, self.width)

    def compact(self) -> SparseRows:
        """The same rows with offsets from 0 and exactly their values."""
        first, last = int(self.offsets[0]), int(self.offsets[-1])
        return SparseRows(self.offsets - first, self.indices[first:last], self.values[first:last], self.width)

    def take(self, order: np.ndarray) -> SparseRows:
        """A copy of the rows ``order``."""
        lengths, positions = self._positions(order)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        return SparseRows(offsets, self.indices[positions], self.values[positions], self.width)

    def dense(self, order: np.ndarray, out: np.ndarray) -> None:
        """Write the rows ``order`` into ``out[len(order), width]``."""
        lengths, positions = self._positions(order)
        out[...] = 0
        out[np.repeat(np.arange(len(order)), lengths), self.indices[positions]] = self.values[positions]

    def _positions(self, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of the rows ``order``, and where their values stand."""
        starts = self.offsets[order]
        lengths = self.offsets[order + 1] - starts
        before = np.cumsum(lengths) - lengths
        return lengths, np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
