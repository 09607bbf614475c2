"""Two models on the same rows: the joint distribution of their scores, in fixed memory.

To say whether one model is better than another, what counts is how their errors go together on each row; two
histograms do not tell that. :class:`PairedStatistics` counts rows in cells of (class, score of the first, score of the
second). Cells begin as fine as the scale of :mod:`dkeras_core.evaluation.scale`, where nearly every row has a cell of
its own, and are doubled in width whenever there are more than ``limit`` of them. Partitions are gathered apart and
merged in any order, as in :class:`~dkeras_core.evaluation.metrics.BinaryStatistics`.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from dkeras_core.errors import DataError
from dkeras_core.evaluation import scale

#: Cells kept at most: 1 MB on the wire, and what a bootstrap of 1,000 replicates goes through in about 2 s.
LIMIT = 1 << 15

_MAGIC = b"DKPS1"
_HEADER = struct.Struct("<5sdbII")  # magic, threshold, weighted (-1: not known yet), level, cells


class PairedStatistics:
    """Rows counted by class and by the scores of two models.

    Attributes
    ----------
    level : int
        Bins of the scale are taken 2^level at a time.
    codes : int64[cells]
        Ascending; ``(((class * 2 + first predicted) * 2 + second predicted) * BINS + first bin) * BINS + second bin``.
    sums : float64[3, cells]
        Rows, weights, squared weights; without weights the last two are the rows.
    """

    def __init__(self, threshold: float = 0.5, limit: int = LIMIT):
        self.threshold, self.limit = float(threshold), limit
        self.weighted: bool | None = None  # not known before the first row
        self.level = 0
        self.codes = np.zeros(0, np.int64)
        self.sums = np.zeros((3, 0))

    def update(
        self, first: np.ndarray, second: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Add rows: the scores float32[n] of both models, labels [n] (0 or 1), weights float64[n].

        Rows that cannot be judged are left out: ``BinaryStatistics``, which sees them too, refuses them.
        """
        first, second = np.asarray(first, np.float32), np.asarray(second, np.float32)
        labels = np.asarray(labels)
        weight = np.ones(len(first)) if weights is None else np.asarray(weights, np.float64)
        if not first.shape == second.shape == labels.shape == weight.shape or first.ndim != 1:
            raise DataError(f"scores {first.shape}, {second.shape} and labels {labels.shape} must be of one length")
        if not len(first):
            return
        self._settle_weighted(weights is not None)
        good = ((labels == 0) | (labels == 1)) & np.isfinite(weight) & (weight >= 0)
        for scores in (first, second):
            good &= (scores >= 0) & (scores <= 1)
        first, second, labels, weight = first[good], second[good], labels[good], weight[good]
        flags = (labels.astype(np.int64) * 2 + (first >= self.threshold)) * 2 + (second >= self.threshold)
        codes = _code(flags, scale.bins(first) >> self.level, scale.bins(second) >> self.level)
        self._add(codes, np.stack([np.ones(len(weight)), weight, weight**2]))

    def _settle_weighted(self, weighted: bool) -> None:
        if self.weighted is None:
            self.weighted = weighted
        elif self.weighted != weighted:
            raise DataError("statistics with weights and without cannot be mixed")

    def _add(self, codes: np.ndarray, sums: np.ndarray) -> None:
        self.codes, self.sums = grouped(np.append(self.codes, codes), np.append(self.sums, sums, axis=1))
        while len(self.codes) > self.limit:
            self._coarsen()

    def _coarsen(self) -> None:
        self.level += 1
        flags, first, second = _decoded(self.codes)
        self.codes, self.sums = grouped(_code(flags, first >> 1, second >> 1), self.sums)

    def merge(self, other: PairedStatistics) -> PairedStatistics:
        """Add the rows of `other` to this object and return it; both must have one threshold."""
        if other.threshold != self.threshold:
            raise DataError(f"statistics of thresholds {self.threshold} and {other.threshold} cannot be merged")
        if other.weighted is not None:
            self._settle_weighted(other.weighted)
        while self.level < other.level:
            self._coarsen()
        flags, first, second = _decoded(other.codes)
        shift = self.level - other.level
        self._add(_code(flags, first >> shift, second >> shift), other.sums)
        return self

    def to_bytes(self) -> bytes:
        """Return a compact form, readable by :meth:`from_bytes` on any machine."""
        weighted = -1 if self.weighted is None else int(self.weighted)
        body = self.codes.astype("<i8").tobytes() + self.sums.astype("<f8").tobytes()
        header = _HEADER.pack(_MAGIC, self.threshold, weighted, self.level, len(self.codes))
        return header + zlib.compress(body, 1)

    @classmethod
    def from_bytes(cls, data: bytes) -> PairedStatistics:
        """Read what :meth:`to_bytes` wrote; DataError when the bytes are something else or damaged."""
        try:
            magic, threshold, weighted, level, cells = _HEADER.unpack_from(data)
            body = zlib.decompress(data[_HEADER.size :])
        except (struct.error, zlib.error) as error:
            raise DataError(f"damaged statistics: {error}") from error
        if magic != _MAGIC or len(body) != 32 * cells:
            raise DataError(f"damaged statistics: {len(data)} bytes that do not follow the format")
        result = cls(threshold)
        result.weighted = None if weighted < 0 else bool(weighted)
        result.level = level
        result.codes = np.frombuffer(body, "<i8", cells).astype(np.int64)
        result.sums = np.frombuffer(body, "<f8", 3 * cells, 8 * cells).reshape(3, cells).astype(np.float64)
        return result

    def cells(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return of each cell: class, and whether it is predicted positive and the bin, for the first and the second.

        bool[cells], bool[cells], int64[cells], bool[cells], int64[cells]; bins are of width 2^level.
        """
        flags, first, second = _decoded(self.codes)
        return flags >= 4, flags & 2 > 0, first, flags & 1 > 0, second


def _code(flags: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return (flags * scale.BINS + first) * scale.BINS + second


def _decoded(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rest, second = np.divmod(codes, scale.BINS)
    flags, first = np.divmod(rest, scale.BINS)
    return flags, first, second


def grouped(codes: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct codes, ascending, and the sums [3, cells] of each."""
    if not len(codes):
        return codes, sums
    order = np.argsort(codes, kind="stable")
    codes = codes[order]
    starts = np.flatnonzero(np.append(True, codes[1:] != codes[:-1]))
    return codes[starts], np.add.reduceat(sums[:, order], starts, axis=1)
