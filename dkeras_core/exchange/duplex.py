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

_READ = select.POLLIN | select.POLLHUP | select.POLLERR


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
        self._poll.register(channel.sock, select.POLLIN)

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
        channel, sock, poll = self._channel, self._channel.sock, self._poll
        deadline = time.monotonic() + channel.timeout
        head = channel.frame_header(Kind.EXCHANGE, 0, message.length, encoding=message.encoding)
        outgoing = [head, memoryview(next(message.pieces)).cast("B")]
        self._part, self._done, self._header = 0, 0, None
        poll.modify(sock, select.POLLIN | select.POLLOUT)
        while True:
            left = deadline - time.monotonic()
            events = poll.poll(left * 1000) if left > 0 else []
            if not events:
                raise TimedOut(f"did not complete an exchange within {channel.timeout:g} s")
            happened = events[0][1]
            if happened & _READ:
                control = self._read()
                if control and control[0].kind is Kind.WAIT:
                    deadline = time.monotonic() + channel.timeout
                elif control:
                    return control
                if self._part == len(self._parts):
                    return None
            if outgoing and happened & select.POLLOUT:
                outgoing = self._write(outgoing) or [memoryview(p).cast("B") for p in islice(message.pieces, 1)]
                if not outgoing:
                    poll.modify(sock, select.POLLIN)

    def _write(self, outgoing: list) -> list:
        try:
            count = self._channel.sock.sendmsg(outgoing, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return outgoing
        except OSError:
            return []  # the server closed: what it said before is still to be read, and reading tells
        self._channel.bytes_sent += count
        if count >= len(outgoing[0]):
            rest = memoryview(outgoing[-1])[count - len(outgoing[0]) :] if len(outgoing) > 1 else b""
            return [rest] if len(rest) else []
        return [memoryview(outgoing[0])[count:], *outgoing[1:]]

    def _read(self) -> tuple[Header, dict[str, Any]] | None:
        """Take what has arrived: headers and shards, in turn, until nothing is left to read or to expect."""
        while self._part < len(self._parts):
            target = self._parts[self._part] if self._header else self._head
            try:
                count = self._channel.sock.recv_into(target[self._done :], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                raise Disconnected(f"lost the connection ({error.strerror or error})") from None
            if not count:
                raise Disconnected("closed the connection during an exchange")
            self._channel.bytes_received += count
            self._done += count
            if self._done < len(target):
                continue
            self._done = 0
            if self._header:
                self._down.decode(self._arrivals[self._part], self._values[self._part])
                self._header = None
                self._part += 1
                continue
            header = frames.unpack(self._head)
            if header.kind is not Kind.SHARD:
                return header, frames.decode_control(self._channel.rest_of(self._head, header))
            self._channel.check_header(self._head, header)
            expected = (self._part, len(self._parts[self._part]), self._down.code)
            if (header.part, header.length, header.encoding) != expected:
                raise FrameError(f"answered with shard {header.part} of {header.length} bytes out of place")
            self._header = header
        return None
