"""The server's side of one connection: handshake, join, then frames until the worker finishes or goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dkeras_core.errors import DkerasError, ExchangeError
from dkeras_core.exchange import handshake
from dkeras_core.exchange.averages import ShardedMean
from dkeras_core.exchange.center import BadPush, Center, check_finite
from dkeras_core.exchange.channel import Channel, Disconnected
from dkeras_core.exchange.frames import VECTOR, FrameError, Header, Kind, PeerError
from dkeras_core.exchange.members import Members
from dkeras_core.exchange.rounds import Rounds
from dkeras_core.exchange.versions import differences

log = logging.getLogger(__name__)

DRAIN = 1.0  # seconds for a peer to read why its session ended before its socket is closed


@dataclass
class Run:
    """What all sessions of one server share."""

    center: Center
    state: np.ndarray  # initial non-trainable state, possibly empty
    states: ShardedMean  # of the workers' last states; add under state_lock
    state_lock: threading.Lock
    members: Members
    rounds: Rounds | None  # of a synchronous rule
    workers: int
    secret: bytes = field(repr=False)
    versions: dict[str, str]
    timeout: float
    silence_deadline: float
    on_report: Callable[[int, int, dict[str, Any]], None] | None
    note: Callable[[str], None]  # keeps an error for status()
    fail: Callable[[str], None]  # ends the run for everybody
    verdict: dict[str, Any] | None = None  # what everybody is told once the run is over
    stop_request: str | None = None


class _Ended(Exception):
    """The server has ended this session; the worker has been told why."""


class Session:
    """One connection. ``serve`` runs in a thread of its own; ``end`` and ``close`` may come from any thread."""

    def __init__(self, run: Run, channel: Channel, peer: str):
        self._run = run
        self._channel = channel
        self._peer = peer
        self._who = f"a connection from {peer}"
        self._worker: int | None = None
        self._joined = False
        self._finished = False
        self._left = False
        self._gate = threading.Lock()  # held while a shard is applied
        self._lock = threading.Lock()  # guards _ended and _joined
        self._ended: dict[str, Any] | None = None

    @property
    def bytes(self) -> int:
        """Bytes received and sent so far."""
        return self._channel.bytes_received + self._channel.bytes_sent

    def end(self, code: str, message: str, next_step: str | None = None) -> None:
        """Tell the worker that its session is over, also one that waits for an answer; does not wait for anything."""
        if self._set_ended(code, message, next_step) and self._joined:
            self._channel.send_last(self._ended)
            if self._run.rounds:
                self._run.rounds.wake()
        # Before the join the handshake is under way, and nothing may come between: _begin tells it then.

    def fence(self, message: str) -> None:
        """End the session of an older attempt; once this returns, nothing it has sent is applied any more."""
        self.end("fenced", message)
        with self._gate:
            pass
        if self._run.rounds and self._worker is not None:
            self._run.rounds.leave(self._worker, self)

    def close(self) -> None:
        """Break the connection, whatever it is doing."""
        self._channel.abort()

    def check_ended(self) -> None:
        """Raise when the session is over."""
        if self._ended:
            raise _Ended

    def still_waiting(self) -> None:
        """Tell the worker that its answer waits for others."""
        self._channel.send_control(Kind.WAIT, {})

    def _turn_away(self, code: str, message: str, next_step: str | None) -> None:
        """End the session from its own thread, at whatever point it is."""
        if self._set_ended(code, message, next_step):
            self._channel.send_last(self._ended)

    def _set_ended(self, code: str, message: str, next_step: str | None) -> bool:
        with self._lock:
            first = self._ended is None
            if first:
                self._ended = {"code": code, "message": message, "next": next_step}
            return first

    def serve(self) -> None:
        """Serve until the connection ends. Never raises: what goes wrong is noted, and told to the worker."""
        reason = "closed the connection"
        try:
            self._begin()
            while not self._left:
                self._next()
        except _Ended:
            reason = f"was told: {self._ended['message']}"
        except PeerError as error:
            reason = error.what
            if not isinstance(error, Disconnected):
                self._run.note(f"{self._who} {reason}")
                code = "rejected" if isinstance(error, BadPush) else "refused"
                self._turn_away(code, f"{self._who} {reason}", error.next_step)
        except DkerasError as error:
            reason = f"was refused: {error.what}"
            self._run.note(error.what)
            self._turn_away("refused", error.what, error.next_step)
        except Exception as error:
            reason = f"met a defect of the parameter server: {type(error).__name__}: {error}"
            log.exception("%s %s", self._who, reason)
            self._run.fail(f"{self._who} {reason}")
        finally:
            if self._worker is not None and self._run.rounds:
                self._run.rounds.leave(self._worker, self)
            if self._worker is not None and self._run.members.gone(self._worker, self, reason) and not self._ended:
                self._run.note(f"{self._who} {reason}")
            if self._ended:
                self._channel.drain(DRAIN)
            self._channel.close()

    def _begin(self) -> None:
        """Handshake and join."""
        run, channel = self._run, self._channel
        handshake.as_server(channel, run.secret)
        header, content = channel.receive()
        if header.kind is not Kind.JOIN:
            raise FrameError("did not join")
        channel.set_timeout(run.timeout)
        host = str(content.get("host", "?"))[:255]
        probe = bool(content.get("probe"))
        self._who = f"a probe from {host}" if probe else f"worker {header.worker} (attempt {header.attempt} on {host})"
        with self._lock:
            self._joined = True
            over = self._ended = self._ended or run.verdict
        if over:
            channel.send_last(over)
            raise _Ended
        found = content.get("versions")
        unlike = differences(run.versions, found if isinstance(found, dict) else {})
        if unlike:
            raise ExchangeError(
                f"versions disagree: {self._who} has {', '.join(unlike)}",
                "run the driver and the executors from the same packed environment",
            )
        if not probe:
            run.members.join(header.worker, header.attempt, host, self._peer, self)
            self._worker = header.worker
            if run.rounds:
                run.rounds.join(self._worker)
            self._allocate()
        channel.send_control(
            Kind.WELCOME,
            {
                "parameters": run.center.size,
                "state": run.state.size,
                "shard": run.center.shard,
                "workers": run.workers,
                "synchronous": run.rounds is not None,
            },
        )
        self._left = probe

    def _allocate(self) -> None:
        """Buffers of one shard for what comes in and what goes out, cut to each shard's length."""
        center = self._run.center
        message, answer = np.empty((2, min(center.shard, center.size)), VECTOR)
        lengths = [span.stop - span.start for span in center.spans]
        self._buffers = [(message[:length], answer[:length]) for length in lengths]
        self._seen = [0] * len(lengths)

    def _next(self) -> None:
        """Take one frame and do what it asks."""
        header, content = self._channel.receive(self._run.silence_deadline)
        self.check_ended()
        self._run.members.heard(self._worker, self)
        if header.kind is Kind.EXCHANGE:
            self._check_length(header, self._run.center.size)
            if self._finished:
                raise FrameError("has finished and can no longer exchange")
            if self._run.rounds:
                self._meet(self._run.rounds)
            else:
                self._exchange()
        elif header.kind is Kind.REPORT:
            self._report(content)
        elif header.kind is Kind.CENTER:
            self._center()
        elif header.kind is Kind.FINISH:
            self._finish(content)
        elif header.kind is Kind.LEAVE:
            raise Disconnected(f"gave up: {content.get('message', '')}")
        else:
            raise FrameError(f"sent a frame out of place ({header.kind.name})")

    def _exchange(self) -> None:
        center, channel, seen = self._run.center, self._channel, self._seen
        deadline, last = time.monotonic() + self._run.timeout, len(self._buffers) - 1
        for part, (message, answer) in enumerate(self._buffers):
            channel.receive_into(message, deadline)
            with self._gate:
                self.check_ended()
                seen[part] = center.exchange(part, message, answer, self._worker, seen[part])
            if part == last:
                self._run.members.exchanged(self._worker, self)
            channel.send_vector(Kind.SHARD, answer, part)

    def _meet(self, rounds: Rounds) -> None:
        center, channel = self._run.center, self._channel
        for part, (message, _) in enumerate(self._buffers):
            channel.receive_into(message, time.monotonic() + self._run.timeout)
            check_finite(message, center.spans[part].start, center.size)
            answer = rounds.meet(self._worker, self, part, message)
            if part == len(self._buffers) - 1:
                self._run.members.exchanged(self._worker, self)
            channel.send_vector(Kind.SHARD, answer, part)

    def _center(self) -> None:
        for part, (_, answer) in enumerate(self._buffers):
            self._seen[part] = self._run.center.read(part, answer)
            self._channel.send_vector(Kind.SHARD, answer, part)
        if self._run.state.size:
            self._channel.send_vector(Kind.STATE, self._run.state)

    def _report(self, content: dict[str, Any]) -> None:
        self._run.members.reported(self._worker, self, content)
        if self._run.on_report:
            self._run.on_report(self._worker, self._channel.attempt, content)
        self._channel.send_control(Kind.REPLY, {"stop": self._run.stop_request})

    def _finish(self, account: dict[str, Any]) -> None:
        if self._finished:
            raise FrameError("has finished already")
        run, channel = self._run, self._channel
        if run.rounds:
            run.rounds.finishing(self._worker, self)
        channel.send_control(Kind.GO, {})
        state = np.empty_like(run.state)
        if state.size:
            self._expect(Kind.STATE, state.size)
            channel.receive_into(state, time.monotonic() + run.timeout)
            check_finite(state, 0, state.size)
        self._expect(Kind.FINAL, run.center.size)
        deadline = time.monotonic() + run.timeout
        for part, (message, _) in enumerate(self._buffers):
            channel.receive_into(message, deadline)
            with self._gate:
                self.check_ended()
                run.center.add_final(part, message)
        with run.state_lock:
            run.states.add(0, slice(None), state)
        self._finished = True
        run.members.finished(self._worker, self, account)
        if run.rounds:
            run.rounds.finished(self._worker)
        channel.send_control(Kind.DONE, {})

    def _expect(self, kind: Kind, size: int) -> None:
        header, _ = self._channel.receive()
        if header.kind is not kind:
            raise FrameError(f"sent a frame out of place ({header.kind.name}, not {kind.name})")
        self._check_length(header, size)

    def _check_length(self, header: Header, size: int) -> None:
        if header.length != size * VECTOR.itemsize:
            raise BadPush(
                f"pushed {header.length / VECTOR.itemsize:g} values where the driver's model has {size}",
                "build the same model on the driver and the executors",
            )
