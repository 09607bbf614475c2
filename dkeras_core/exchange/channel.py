"""A socket that carries frames: whole or not at all, each within a deadline, tagged with the session's keys."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

import numpy as np

from dkeras_core.exchange import frames, security
from dkeras_core.exchange.frames import HEADER_SIZE, TAG_SIZE, VECTORS, FrameError, Header, Kind, PeerError

LOOPBACK = ("127.0.0.1", "::1")
WINDOW = 2 * 1024 * 1024  # bytes that should fit between two peers without either waiting


class Disconnected(PeerError):
    """The other side closed or lost the connection."""


class TimedOut(PeerError):
    """The other side did not send or take bytes within the deadline."""


class Channel:
    """Frames over one connected socket.

    Receiving is for one thread. Sending is safe from several: a frame is never torn apart by another one.

    Parameters
    ----------
    sock : connected stream socket
        Owned by the channel from here on.
    timeout : float
        Seconds that one frame may take from its first byte to its last.
    worker, attempt : int
        Written into every header, and expected in every header received once ``bind`` was called.
    """

    def __init__(self, sock: socket.socket, *, timeout: float, worker: int = 0, attempt: int = 0):
        self.sock = sock
        self.worker = worker
        self.attempt = attempt
        self.bytes_sent = 0
        self.bytes_received = 0
        self._send_lock = threading.Lock()
        self._keys: tuple[bytes, bytes] | None = None
        self._torn = False  # whether a frame was cut off, so that no other may follow it
        self._sent = 0
        self._received = 0
        self._head = memoryview(bytearray(HEADER_SIZE))
        self._patience = 0.0  # what SO_RCVTIMEO is set to
        prepare(sock)
        self.set_timeout(timeout)

    def set_timeout(self, timeout: float) -> None:
        """Change the seconds that one frame may take."""
        # The kernel keeps the deadlines (SO_RCVTIMEO, SO_SNDTIMEO) of a blocking socket: fewer system calls than with
        # Python's own timeouts, and a thread that sends does not change how long another one receives.
        self.timeout = timeout
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))

    def let_peer_wait(self) -> None:
        """Do not break the connection when the peer, though alive, takes no bytes for longer than the timeout."""
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # it also counts while the peer's window is full
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)

    def bind(self, send_key: bytes, receive_key: bytes) -> None:
        """Tag every frame from here on; both sides do this at the same point of the handshake."""
        self._keys = (send_key, receive_key)

    # Sending

    def send_control(self, kind: Kind, content: dict[str, Any] | bytes) -> None:
        """Send a control frame: a dictionary as JSON, or raw bytes."""
        data = content if isinstance(content, bytes) else frames.encode_control(content)
        with self._send_lock:
            self._send(self.frame_header(kind, 0, len(data), data) + data)

    def send_vector(self, kind: Kind, values: np.ndarray, part: int = 0, encoding: int = 0) -> None:
        """Send a vector, or one shard of it, from where it lies in memory."""
        with self._send_lock:
            head = self.frame_header(kind, part, values.nbytes, encoding=encoding)
            self._send(head, memoryview(values).cast("B"))

    def send_last(self, content: dict[str, Any]) -> None:
        """Send END from any thread and close the sending side; never waits for a peer that takes no bytes."""
        if self._send_lock.acquire(timeout=0.1):
            try:
                if not self._torn:
                    data = frames.encode_control(content)
                    self._send(self.frame_header(Kind.END, 0, len(data), data) + data, flags=socket.MSG_DONTWAIT)
            except PeerError:
                pass  # it is going or gone: there is nobody to tell
            finally:
                self._send_lock.release()
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def frame_header(self, kind: Kind, part: int, length: int, payload: bytes = b"", encoding: int = 0) -> bytes:
        """Header and tag of the next frame to send; control frames are tagged with their payload."""
        head = Header(kind, self.worker, self.attempt, part, length, encoding).pack()
        if self._keys is None:
            return head + security.NO_TAG
        tag = security.tag(self._keys[0], self._sent, head, payload)
        self._sent += 1
        return head + tag

    def _send(self, *pieces: bytes | memoryview, flags: int = 0) -> None:
        deadline = time.monotonic() + self.timeout
        total, sent = sum(map(len, pieces)), 0
        left = list(pieces)
        try:
            while True:
                count = self.sock.sendmsg(left, (), flags)
                sent += count
                if sent == total:
                    break
                if time.monotonic() > deadline:
                    raise BlockingIOError
                while count >= len(left[0]):
                    count -= len(left.pop(0))
                left[0] = memoryview(left[0])[count:]
        except OSError as error:
            self._torn = True
            raise _fault(error, f"took only {sent} of {total} bytes in {self.timeout:g} s") from None
        self.bytes_sent += total

    # Receiving

    def receive(self, wait: float | None = None) -> tuple[Header, dict[str, Any]]:
        """The next frame: its header, and the content of a control frame.

        Of a vector frame the payload is still to come: check ``length``, then call ``receive_into``.

        Parameters
        ----------
        wait : float, optional
            Seconds until the first bytes; the frame's own timeout when left out.

        Raises
        ------
        Disconnected, TimedOut, FrameError
        """
        header, payload = self.receive_raw(wait)
        return header, ({} if header.kind in VECTORS else frames.decode_control(payload))

    def receive_raw(self, wait: float | None = None) -> tuple[Header, bytes]:
        """As ``receive``, with a control frame's payload as bytes."""
        begun = self._first(self.timeout if wait is None else wait)
        deadline = time.monotonic() + self.timeout
        self.fill(self._head[begun:], deadline)
        header = frames.unpack(self._head)
        if header.kind in VECTORS:
            self.check_header(self._head, header)
            return header, b""
        return header, self.rest_of(self._head, header, deadline)

    def rest_of(self, head: memoryview, header: Header, deadline: float | None = None) -> bytes:
        """The payload of a control frame whose header has been received; its tag is checked."""
        payload = bytearray(header.length)
        self.fill(memoryview(payload), deadline or time.monotonic() + self.timeout)
        self.check_header(head, header, payload)
        return bytes(payload)

    def check_header(self, head: memoryview, header: Header, payload: bytes | bytearray = b"") -> None:
        """Check the tag of a received frame and count it. Raises FrameError."""
        if self._keys is None:
            return
        wanted = security.tag(self._keys[1], self._received, head[:-TAG_SIZE], payload)
        if not security.same(wanted, bytes(head[-TAG_SIZE:])):
            raise FrameError("sent a frame that was not made for this place in this session (wrong tag)")
        if (header.worker, header.attempt) != (self.worker, self.attempt):
            raise FrameError(f"sent a frame of worker {header.worker}, attempt {header.attempt}")
        self._received += 1

    def receive_into(self, values: np.ndarray, deadline: float) -> None:
        """Fill ``values`` with payload bytes; ``deadline`` is a time of time.monotonic()."""
        self.fill(memoryview(values).cast("B"), deadline)

    def _first(self, wait: float) -> int:
        """Wait for the first bytes of a frame; how many of the header there are."""
        deadline, left, count = time.monotonic() + wait, wait, None
        while count is None:
            try:
                # Never longer than for the rest of the frame: to change that to and fro takes two calls a frame.
                self._be_patient(min(left, self.timeout))
                count = self.sock.recv_into(self._head)
            except OSError as error:
                left = deadline - time.monotonic()
                if left <= 0 or not isinstance(error, BlockingIOError):
                    raise _fault(error, f"sent nothing for {wait:g} s") from None
        if not count:
            raise Disconnected("closed the connection")
        self.bytes_received += count
        return count

    def fill(self, view: memoryview, deadline: float) -> None:
        """Receive exactly ``view``; ``deadline`` is a time of time.monotonic()."""
        done, total = 0, len(view)
        try:
            self._be_patient(self.timeout)
            while done < total:
                if done and time.monotonic() > deadline:
                    raise BlockingIOError
                count = self.sock.recv_into(view[done:], 0, socket.MSG_WAITALL)
                if not count:
                    raise Disconnected("closed the connection in the middle of a frame")
                done += count
        except Disconnected:
            raise
        except OSError as error:
            raise _fault(error, "stopped in the middle of a frame") from None
        self.bytes_received += total

    def _be_patient(self, seconds: float) -> None:
        """Let the next receiving call wait so long."""
        if seconds != self._patience:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
            self._patience = seconds

    # Ending

    def drain(self, seconds: float) -> None:
        """Throw away what still arrives until the peer closes, so that closing does not reset what it has not read."""
        deadline = time.monotonic() + seconds
        waste = bytearray(64 * 1024)
        with contextlib.suppress(OSError):
            self._be_patient(seconds)
            while self.sock.recv_into(waste) and time.monotonic() < deadline:
                pass

    def abort(self) -> None:
        """Break the connection from any thread: a call that waits on it in another thread returns at once."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. May be called more than once."""
        self.sock.close()


def prepare(sock: socket.socket) -> None:
    """Set what every connection needs: no delay, and the kernel's own watch over hosts that vanish."""
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Linux makes the receive window as large as the low-water mark asks for, beyond what SO_RCVBUF may ask for, and
    # goes on tuning it; the mark itself is put back at once.
    for mark in (WINDOW, 1):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)
    if hasattr(socket, "TCP_CONGESTION") and sock.getsockname()[0] in LOOPBACK:
        # Within one machine there is nothing to probe; what paces its packets for a network (BBR) only waits.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _timeval(seconds: float) -> bytes:
    micros = max(1, round(seconds * 1e6))  # 0 would mean for ever
    return struct.pack("@ll", micros // 1_000_000, micros % 1_000_000)


def _fault(error: OSError, late: str) -> PeerError:
    """What a failed socket call says about the other side; ``late`` when its deadline has passed."""
    if isinstance(error, BlockingIOError):
        return TimedOut(late)
    return Disconnected(f"lost the connection ({error.strerror or error})")
