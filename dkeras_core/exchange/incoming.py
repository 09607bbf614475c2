"""The server's side of a message: receives it shard by shard, in whichever encoding the run has."""

from __future__ import annotations

import numpy as np

from dkeras_core.exchange import ternary
from dkeras_core.exchange.center import BadPush
from dkeras_core.exchange.channel import Channel
from dkeras_core.exchange.frames import VECTOR, FrameError, Header
from dkeras_core.exchange.ternary import TernaryDecoder
from dkeras_core.exchange.wire import Dense


class DenseMessages:
    """Messages of values of equal size."""

    def __init__(self, channel: Channel, lengths: list[int], wire: Dense):
        self._channel, self._size, self._wire = channel, sum(lengths), wire

    def begin(self, header: Header, deadline: float) -> None:
        """Check an exchange's header. Raises BadPush, FrameError."""
        _check_encoding(header, self._wire.code)
        check_length(header, self._size, self._wire.itemsize)

    def receive(self, part: int, values: np.ndarray, deadline: float) -> None:
        """Fill ``values`` with the next shard."""
        buffer = self._wire.buffer(values)
        self._channel.receive_into(buffer, deadline)
        self._wire.decode(buffer, values)


class TernaryMessages:
    """Messages of about two bits a value, of different lengths."""

    def __init__(self, channel: Channel, lengths: list[int]):
        self._channel = channel
        self._decoder = TernaryDecoder(lengths)

    def begin(self, header: Header, deadline: float) -> None:
        """Check an exchange's header, and receive and check what tells the shards' lengths."""
        _check_encoding(header, ternary.CODE)
        if header.length < self._decoder.head.nbytes:
            raise FrameError(f"sent a ternary message of {header.length} bytes, less than its head takes")
        self._channel.receive_into(self._decoder.head, deadline)
        self._decoder.begin(header.length)

    def receive(self, part: int, values: np.ndarray, deadline: float) -> None:
        """Fill ``values`` with the next shard."""
        if self._decoder.size(part):
            self._channel.receive_into(self._decoder.buffer(part), deadline)
        self._decoder.decode(part, values)


def incoming(encoding: str, channel: Channel, lengths: list[int], wire: Dense) -> DenseMessages | TernaryMessages:
    """The receiver of messages that travel in ``encoding``, in shards of the given lengths.

    ``wire`` is the encoding of the answers, which is that of the messages too unless those are ternary.
    """
    return TernaryMessages(channel, lengths) if encoding == "ternary" else DenseMessages(channel, lengths, wire)


def check_length(header: Header, size: int, itemsize: int = VECTOR.itemsize) -> None:
    """Raise BadPush unless the frame holds ``size`` values."""
    if header.length != size * itemsize:
        raise BadPush(
            f"pushed {header.length / itemsize:g} values where the driver's model has {size}",
            "build the same model on the driver and the executors",
        )


def _check_encoding(header: Header, code: int) -> None:
    if header.encoding != code:
        raise FrameError(f"sent a message in encoding {header.encoding}, where this run has {code}")
