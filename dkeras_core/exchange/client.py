"""The worker's side of the exchange."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np

from dkeras_core.errors import ExchangeError, TrainingError
from dkeras_core.exchange import frames
from dkeras_core.exchange.channel import Channel
from dkeras_core.exchange.duplex import Duplex
from dkeras_core.exchange.frames import VECTOR, FrameError, Header, Kind, PeerError
from dkeras_core.exchange.heartbeat import Heartbeat
from dkeras_core.exchange.joining import Address, ending, join, text
from dkeras_core.exchange.search import Task
from dkeras_core.rules.sandblaster import PieceResult


class Client:
    """One worker's session with the parameter server; for one thread. Made by ``connect``, used in a ``with`` block.

    Between the requests of that thread another one of its own tells the server that this process lives.

    Leaving the block before ``finish`` tells the server that this worker is lost, and why.

    Every method raises ExchangeError when the server cannot be reached, ends the session or breaks the protocol, and
    TrainingError when the run has failed elsewhere or the server rejected what this worker pushed. After an error the
    session is over.
    """

    def __init__(self, channel: Channel, address: Address, name: str, welcome: dict[str, Any]):
        self._channel = channel
        self._address = address
        self._name = name
        self._state_size = int(welcome["state"])
        self._finished = False
        self._over = False
        self._busy = self._closing = False
        self.workers = int(welcome["workers"])
        self.size = int(welcome["parameters"])
        self.led = bool(welcome["led"])
        """Whether the center is ready; if not, worker 0 has to ``lead`` and the others' ``center`` waits for it."""
        if welcome["synchronous"]:
            channel.let_peer_wait()
        self._answer = np.empty(self.size, VECTOR)
        self._duplex = Duplex(channel, self._answer, int(welcome["shard"]), str(welcome["up"]), str(welcome["down"]))
        self._heartbeat = Heartbeat(channel, float(welcome["silence"]))

    @classmethod
    def connect(
        cls,
        address: Address,
        secret: bytes,
        *,
        worker: int,
        attempt: int = 0,
        versions: dict[str, str] | None = None,
        deadline: float = 60.0,
        timeout: float = 120.0,
    ) -> Self:
        """Join the run as ``worker``.

        Parameters
        ----------
        address : (host, port)
            ``ParameterServer.address``.
        secret : bytes
            The job's 32 bytes.
        worker, attempt : int
            Number of the worker, 0 to p - 1, and how often it was started before; a newer attempt takes the place.
        versions : dict, optional
            Compared with the driver's (``exchange.versions()`` when left out).
        deadline : float
            Seconds to try to reach the server.
        timeout : float
            Seconds that one request may take after that.
        """
        name = f"worker {worker} on {socket.gethostname()}"
        channel, welcome = join(
            address,
            secret,
            name=name,
            versions=versions,
            deadline=deadline,
            timeout=timeout,
            worker=worker,
            attempt=attempt,
        )
        return cls(channel, address, name, welcome)

    def center(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The center, shape (n,), and the initial non-trainable state, shape (m,) or None; the caller's to keep."""
        with self._session():
            self._channel.send_control(Kind.CENTER, {})
            center = np.empty(self.size, VECTOR)
            self._receive_shards(center)
            state = None
            if self._state_size:
                state = np.empty(self._state_size, VECTOR)
                if self._expect(Kind.STATE)[0].length != state.nbytes:
                    raise FrameError("sent a state of another size than it said")
                self._channel.receive_into(state, time.monotonic() + self._channel.timeout)
            return center, state

    def exchange(self, message: np.ndarray) -> np.ndarray:
        """Send ``message`` (float32, shape (n,)) and return the server's answer, for ``rule.receive``.

        The answer is one buffer that the next exchange overwrites; nothing of size n is allocated.
        Raises TrainingError, with nothing sent, when a value is too large for the run's encoding.
        """
        outgoing = self._duplex.prepare(self._vector(message, self.size, "a message"))
        with self._session():
            control = self._duplex.exchange(outgoing)
            if control:
                self._only(Kind.SHARD, *control)
        return self._answer

    def hold(self, sizes: Mapping[int, int]) -> None:
        """Tell how many rows this worker holds of which pieces, before its first ``work``."""
        data = frames.encode_control({"pieces": [[int(piece), int(rows)] for piece, rows in sizes.items()]})
        with self._session():
            self._channel.send_control(Kind.HOLD, data)
            self._expect(Kind.DONE)

    def work(self, result: PieceResult | None = None, gradient: np.ndarray | None = None) -> Task | None:
        """Hand over the result of a piece, and take the next piece; None when the search is over.

        ``gradient`` is the piece's mean gradient, float32 of shape (n,); it is not sent when ``result.loss`` is None.
        The task's x is a buffer that a later call overwrites when x has moved.
        """
        data = frames.encode_control(result._asdict() if result else {})
        vector = None
        if result is not None and result.loss is not None:
            vector = self._vector(gradient, self.size, "a gradient")
        with self._session():
            self._channel.send_control(Kind.WORK, data)
            if vector is not None:
                self._channel.send_vector(Kind.GRADIENT, vector)
            _, content = self._expect(Kind.ASSIGN)
            if "over" in content:
                return None
            if content["moved"]:
                self._receive_shards(self._answer)
            return Task(int(content["piece"]), int(content["version"]), self._answer)

    def lead(self, x: np.ndarray) -> None:
        """As worker 0, make ``x`` (float32, shape (n,)) the center.

        Ends a warm start: the other workers take this center. Later it is for rules whose center does not move.
        """
        data = self._vector(x, self.size, "the leading vector")
        with self._session():
            self._channel.send_vector(Kind.LEAD, data)
            self._expect(Kind.DONE)
            self.led = True

    def share_state(self, state: np.ndarray) -> None:
        """Send this worker's non-trainable state, shape (m,), for the mean of all that the driver may ask for."""
        data = self._vector(state, self._state_size, "the state")
        with self._session():
            self._channel.send_vector(Kind.STATE, data)
            self._expect(Kind.DONE)

    def report(self, report: dict[str, Any]) -> str | None:
        """Send a small dictionary of plain values; the driver's reason to stop early, or None."""
        data = frames.encode_control(report)
        with self._session():
            self._channel.send_control(Kind.REPORT, data)
            stop = self._expect(Kind.REPLY)[1].get("stop")
        return None if stop is None else str(stop)

    def finish(self, x: np.ndarray, state: np.ndarray | None = None, report: dict[str, Any] | None = None) -> None:
        """Hand over the last vector, shape (n,), the non-trainable state, shape (m,), and the worker's account."""
        account = frames.encode_control(report or {})
        last = self._vector(x, self.size, "the last vector")
        own = self._vector(np.empty(0, VECTOR) if state is None else state, self._state_size, "the state")
        with self._session():
            self._channel.send_control(Kind.FINISH, account)
            self._expect(Kind.GO)
            if own.size:
                self._channel.send_vector(Kind.STATE, own)
            self._channel.send_vector(Kind.FINAL, last)
            self._expect(Kind.DONE)
            self._finished = True

    def drop(self, reason: str, report: dict[str, Any] | None = None) -> None:
        """Leave the run for good: the others go on, and nobody waits for this worker any more."""
        content = frames.encode_control({"message": reason[:2000], "report": report or {}})
        with self._session():
            self._channel.send_control(Kind.DROP, content)
            self._over = True

    def close(self, reason: str = "left before it finished") -> None:
        """End the session. May be called more than once.

        A request that is under way in another thread is broken off and raises; ``reason`` is then lost.
        """
        if self._busy:
            self._over = self._closing = True
            self._channel.abort()
            return
        self._heartbeat.stop()
        if not (self._finished or self._over):
            with contextlib.suppress(ExchangeError):
                self._channel.send_control(Kind.LEAVE, {"message": reason[:2000]})
        self._over = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if error is None:
            self.close()
        else:
            self.close(f"{kind.__name__}: {error}")

    def _vector(self, values: np.ndarray, size: int, what: str) -> np.ndarray:
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != (size,):
            found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise TrainingError(
                f"{self._name}: {what} must be float32 of shape ({size},), not {found}",
                "build the same model on the driver and the executors",
            )
        return np.ascontiguousarray(values, VECTOR)

    @contextlib.contextmanager
    def _session(self) -> Iterator[None]:
        """Name both sides in what goes wrong, and let nothing follow it."""
        if self._finished or self._over:
            state = "finished" if self._finished else "ended"
            raise ExchangeError(f"{self._name} has {state} its session and can no longer exchange")
        self._busy = True
        try:
            with self._heartbeat.turn:
                yield
        except PeerError as error:
            self._over = True
            told = self._parting_word()
            if told:
                raise told from None
            raise ExchangeError(
                f"{self._name}: the parameter server at {text(self._address)} {error.what}",
                error.next_step or "look for the driver's first error in its log",
            ) from None
        except BaseException:
            self._over = True
            raise
        finally:
            self._busy = False
            if self._closing:
                self._heartbeat.stop()
                self._channel.close()

    def _parting_word(self) -> TrainingError | None:
        """What the server said before the connection broke under something this worker was sending."""
        try:
            while True:
                header, content = self._channel.receive(0.5)
                if header.kind is Kind.END:
                    return ending(content, self._name)
        except (PeerError, OSError):
            return None

    def _receive_shards(self, out: np.ndarray) -> None:
        offset = 0
        while offset < self.size:
            header, _ = self._expect(Kind.SHARD)
            if header.length % VECTOR.itemsize or header.length > out[offset:].nbytes:
                raise FrameError(f"sent a shard of {header.length} bytes out of place")
            end = offset + header.length // VECTOR.itemsize
            self._channel.receive_into(out[offset:end], time.monotonic() + self._channel.timeout)
            offset = end

    def _expect(self, kind: Kind) -> tuple[Header, dict[str, Any]]:
        """The next frame but for WAIT, which has to be of this kind."""
        while True:
            header, content = self._channel.receive()
            if header.kind is not Kind.WAIT:
                return self._only(kind, header, content)

    def _only(self, kind: Kind, header: Header, content: dict[str, Any]) -> tuple[Header, dict[str, Any]]:
        if header.kind is Kind.END:
            raise ending(content, self._name)
        if header.kind is not kind:
            raise FrameError(f"sent a frame out of place ({header.kind.name}, not {kind.name})")
        return header, content
