"""The client's side of an exchange: sends its message and receives the answer's shards at the same time.

The server answers a shard as soon as it has it, so a client that sent everything first could wait for a server that
waits for the client to read. Both directions go through one poll loop instead, and the network, the server's
arithmetic and the client's copying overlap.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from dkeras_core.exchange import frames, ternary
from dkeras_core.exchange.center import spans
from dkeras_core.exchange.channel import Channel, Disconnected, TimedOut
from dkeras_core.exchange.frames import HEADER_SIZE, FrameError, Header, Kind
from dkeras_core.exchange.ternary import TernaryEncoder
from dkeras_core.exchange.wire import Float32, dense


class Outgoing(NamedTuple):
    """A message ready to travel: its encoding, its bytes in all, and the arrays that hold them, in turn."""

    encoding: int
    length: int
    pieces: Iterator[np.ndarray]


class Duplex:
    """Exchanges over one channel; made once.

    Parameters
    ----------
    answer : float32 array of shape (n,)
        The buffer that every exchange fills.
    shard : int
        Values in a shard.
    up, down : str
        How messages travel ("ternary" or a dense encoding of ``exchange.wire``), and how answers do.
    """

    def __init__(self, channel: Channel, answer: np.ndarray, shard: int, up: str, down: str):
        self._channel = channel
        self._spans = spans(answer.size, shard)
        lengths = [span.stop - span.start for span in self._spans]
        self._ternary = TernaryEncoder(lengths) if up == "ternary" else None
        self._up = None if up == "ternary" else dense(up)(lengths[0])
        self._down = dense(down)(lengths[0])
        self._values = [answer[span] for span in self._spans]
        self._arrivals = [self._down.buffer(values) for values in self._values]
        self._parts = [memoryview(buffer).cast("B") for buffer in self._arrivals]
        self._head = memoryview(bytearray(HEADER_SIZE))
        self._poll = select.poll()
        self._poll.register(channel.sock, select.POLLIN | select.POLLOUT)

    def prepare(self, message: np.ndarray) -> Outgoing:
        """What ``exchange`` is to send for a message. Raises TrainingError when it cannot travel."""
        if self._ternary:
            data = self._ternary.encode(message)
            return Outgoing(ternary.CODE, data.nbytes, iter([data]))
        self._up.check(message)
        whole = isinstance(self._up, Float32)  # from where it lies; else each shard is encoded when its turn comes
        pieces = [message] if whole else (self._up.encode(message[span]) for span in self._spans)
        return Outgoing(self._up.code, message.size * self._up.itemsize, iter(pieces))

    def exchange(self, message: Outgoing) -> tuple[Header, dict[str, Any]] | None:
        """Send ``message`` and fill the answer; None when it is complete.

        The server has the channel's timeout for it, anew whenever it says that it waits for others. When it sends
        another control frame instead (it ends the session), that frame is returned.
        Raises PeerError.
        """
        channel, self._pieces = self._channel, message.pieces
        head = channel.frame_header(Kind.EXCHANGE, 0, message.length, encoding=message.encoding)
        self._outgoing = [head, memoryview(next(message.pieces)).cast("B")]
        self._deadline = time.monotonic() + channel.timeout
        self._write()
        for part, view in enumerate(self._parts):
            while True:
                self._fill(self._head)
                header = frames.unpack(self._head)
                if header.kind is Kind.SHARD:
                    break
                content = frames.decode_control(channel.rest_of(self._head, header))
                if header.kind is not Kind.WAIT:
                    return header, content
                self._deadline = time.monotonic() + channel.timeout
            channel.check_header(self._head, header)
            if (header.part, header.length, header.encoding) != (part, len(view), self._down.code):
                raise FrameError(f"answered with shard {header.part} of {header.length} bytes out of place")
            self._fill(view)
            self._down.decode(self._arrivals[part], self._values[part])
        return None

    def _fill(self, view: memoryview) -> None:
        """Receive ``view``; as long as something is to be sent, send whenever the kernel takes it."""
        while self._outgoing and len(view):
            view = view[self._receive(view) :]
        if len(view):
            try:
                self._channel.fill(view, self._deadline)
            except TimedOut:
                raise self._late() from None

    def _receive(self, view: memoryview) -> int:
        """Take what has arrived, or else wait until something arrives or can be sent, which is then sent."""
        channel = self._channel
        try:
            count = channel.sock.recv_into(view, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            left = self._deadline - time.monotonic()
            events = self._poll.poll(left * 1000) if left > 0 else []
            if not events:
                raise self._late() from None
            if events[0][1] & select.POLLOUT:
                self._write()
            return 0
        except OSError as error:
            raise Disconnected(f"lost the connection ({error.strerror or error})") from None
        if not count:
            raise Disconnected("closed the connection during an exchange")
        channel.bytes_received += count
        return count

    def _late(self) -> TimedOut:
        return TimedOut(f"did not complete an exchange within {self._channel.timeout:g} s")

    def _write(self) -> None:
        """Send as much as the kernel takes at once."""
        while self._outgoing:
            try:
                count = self._channel.sock.sendmsg(self._outgoing, (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                self._outgoing = []  # the server closed: what it said before is still to be read, and reading tells
                return
            self._channel.bytes_sent += count
            while self._outgoing and count >= len(self._outgoing[0]):
                count -= len(self._outgoing.pop(0))
            if self._outgoing:
                self._outgoing[0] = memoryview(self._outgoing[0])[count:]
            else:
                self._outgoing = [memoryview(piece).cast("B") for piece in islice(self._pieces, 1)]
