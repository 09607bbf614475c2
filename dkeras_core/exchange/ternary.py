"""The encoding of messages whose values are all -t, 0 or t: two bits a value, or the places of the few that are not 0.

A message is t (float32), then for each shard a count (uint32), then the shards. A shard whose count is ``PACKED`` is
two bit planes, of the values above 0 and of those below, each padded to whole bytes; else it is ``count`` entries
(uint32): twice the place in the shard, plus 1 for -t. Each shard takes whichever is smaller.
"""

from __future__ import annotations

import numpy as np

from dkeras_core.errors import TrainingError
from dkeras_core.exchange.center import BadPush, NotFinite
from dkeras_core.exchange.frames import VECTOR, FrameError

CODE = 3  # in the header of an exchange
PACKED = 0xFFFFFFFF
_COUNT = np.dtype("<u4")


def packed_size(length: int) -> int:
    """Bytes of two bit planes of ``length`` values."""
    return 2 * ((length + 7) // 8)


class TernaryEncoder:
    """The worker's side; made once for shards of the given lengths."""

    def __init__(self, lengths: list[int]):
        self._lengths = lengths
        self._head = 4 * (1 + len(lengths))
        self._out = np.empty(self._head + sum(packed_size(length) for length in lengths), np.uint8)

    def encode(self, message: np.ndarray) -> np.ndarray:
        """The bytes of ``message``, which hold until the next call. Raises TrainingError when it is not ternary."""
        threshold = np.float32(max(message.max(), -message.min()))
        self._out[:4].view(VECTOR)[0] = threshold
        counts = self._out[4 : self._head].view(_COUNT)
        begin, end = 0, self._head
        for part, length in enumerate(self._lengths):
            values = message[begin : begin + length]
            counts[part], size = self._shard(values, threshold, self._out[end : end + packed_size(length)])
            begin, end = begin + length, end + size
        return self._out[:end]

    @staticmethod
    def _shard(values: np.ndarray, threshold: np.float32, out: np.ndarray) -> tuple[int, int]:
        """Write one shard; its count, and the bytes it takes."""
        nonzero = np.count_nonzero(values)
        if 4 * nonzero < out.size:
            places = np.flatnonzero(values)
            negative = values[places] < 0
            right = np.abs(values[places]) == threshold
            out[: 4 * nonzero].view(_COUNT)[:] = 2 * places + negative
            found, count, size = np.count_nonzero(right), nonzero, 4 * nonzero
        else:
            above, below = values == threshold, values == -threshold
            half = out.size // 2
            out[:half], out[half:] = np.packbits(above), np.packbits(below)
            found, count, size = np.count_nonzero(above) + np.count_nonzero(below), PACKED, out.size
        if found != nonzero and np.isfinite(threshold):
            raise TrainingError(
                "a message of a ternary rule holds values of more than one size",
                "this is a defect of the rule: its message may hold -t, 0 and t only",
            )
        return count, size


class TernaryDecoder:
    """The server's side; ``size`` tells how many bytes of a shard are to be received into ``buffer``."""

    def __init__(self, lengths: list[int]):
        self._lengths = lengths
        self.head = np.empty(4 * (1 + len(lengths)), np.uint8)
        self._buffer = np.empty(packed_size(max(lengths)), np.uint8)

    def begin(self, length: int) -> None:
        """Check ``head``, just received, against the ``length`` of the frame's payload. Raises BadPush, FrameError."""
        self._threshold = self.head[:4].view(VECTOR)[0]
        self._counts = self.head[4:].view(_COUNT).tolist()
        if not np.isfinite(self._threshold):
            raise NotFinite(f"pushed a value that is not finite: all of its values are 0 or +-{self._threshold}")
        for count, values in zip(self._counts, self._lengths, strict=True):
            if count != PACKED and 4 * count >= packed_size(values):
                raise FrameError(f"sent {count} places of a shard of {values} values, more than belong there")
        if length != self.head.size + sum(map(self.size, range(len(self._counts)))):
            raise FrameError("sent a ternary message of another length than it said")

    def size(self, part: int) -> int:
        """Bytes of one shard."""
        count = self._counts[part]
        return packed_size(self._lengths[part]) if count == PACKED else 4 * count

    def buffer(self, part: int) -> np.ndarray:
        """Where to receive a shard."""
        return self._buffer[: self.size(part)]

    def decode(self, part: int, values: np.ndarray) -> None:
        """Fill ``values`` with the shard that was received."""
        received = self.buffer(part)
        if self._counts[part] == PACKED:
            half = received.size // 2
            above = np.unpackbits(received[:half], count=values.size).view(np.int8)
            above -= np.unpackbits(received[half:], count=values.size).view(np.int8)
            np.multiply(above, self._threshold, out=values)
            return
        values[:] = 0
        entries = received.view(_COUNT)
        places = entries >> 1
        if entries.size and int(places.max()) >= values.size:
            raise BadPush(f"pushed a value for place {int(places.max())} of a shard of {values.size} values")
        values[places] = np.where(entries & 1, -self._threshold, self._threshold)
