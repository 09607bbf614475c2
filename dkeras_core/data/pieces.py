"""Windows over one piece of the rows after the other, where a column says to which piece a row belongs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Spool


class PieceFeed(Feed):
    """A feed whose ``windows(piece)`` go through the rows of one piece, in the order in which they were spooled.

    It keeps 8 bytes a row for that order. Rows that were spooled piece by piece are read in one stretch. Nothing is
    read ahead: a piece is small, and starting a thread for each would cost more.

    Parameters
    ----------
    piece : str
        The column that numbers the pieces; the others are those of :class:`Feed`.

    Attributes
    ----------
    sizes : dict of int to int
        Rows of each piece.
    """

    def __init__(self, spool: Spool, *, piece: str, **feed):
        super().__init__(spool, prefetch=0, **feed)
        numbers = spool.arrays[piece]
        self._order = np.argsort(numbers, kind="stable")
        found, counts = np.unique(numbers, return_counts=True)
        ends = np.cumsum(counts)
        self._stretches = {
            int(number): slice(int(end - count), int(end))
            for number, count, end in zip(found, counts, ends, strict=True)
        }
        self.sizes = {number: stretch.stop - stretch.start for number, stretch in self._stretches.items()}
        self._set = super()._buffers()
        spool.release()

    def _buffers(self) -> list[np.ndarray]:
        return self._set

    def _rows_in(self, epoch: int) -> int:
        return self.sizes[epoch]

    def _shuffled(self, epoch: int, first: int) -> Iterator[tuple]:
        yield self._columns, self._order[self._stretches[epoch]]
        self._spool.release()
