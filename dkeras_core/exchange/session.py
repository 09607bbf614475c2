"""The server's side of one connection: handshake, join, then frames until the worker finishes or goes."""

from __future__ import annotations

import logging
import threading
from typing import Any

from dkeras_core.errors import DkerasError, ExchangeError
from dkeras_core.exchange import handshake
from dkeras_core.exchange.center import BadPush, NotFinite
from dkeras_core.exchange.channel import Channel, Disconnected
from dkeras_core.exchange.frames import FrameError, Kind, PeerError
from dkeras_core.exchange.requests import Dropped, Requests
from dkeras_core.exchange.run import Run
from dkeras_core.exchange.versions import differences
from dkeras_core.exchange.wire import Unsendable

log = logging.getLogger(__name__)

DRAIN = 1.0  # seconds for a peer to read why its session ended before its socket is closed


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
        self._requests: Requests | None = None
        self.gate = threading.Lock()  # held while anything that the worker sent is applied
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
            self._run.wake()
        # Before the join the handshake is under way, and nothing may come between: _begin tells it then.

    def fence(self, message: str) -> None:
        """End the session of an older attempt; once this returns, nothing it has sent is applied any more."""
        self.end("fenced", message)
        with self.gate:
            pass
        for room in (self._run.rounds, self._run.search):
            if room and self._worker is not None:
                room.leave(self._worker, self)

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
        reason, dropped = "closed the connection", False
        try:
            self._begin()
            while self._requests:
                self._requests.serve()
        except _Ended:
            reason = f"was told: {self._ended['message']}"
        except PeerError as error:
            reason = error.what
            dropped = isinstance(error, Dropped) or (isinstance(error, NotFinite) and self._run.drop_nonfinite)
            if not isinstance(error, Disconnected):
                self._run.note(f"{self._who} {reason}")
                code = "rejected" if isinstance(error, BadPush) else "refused"
                self._turn_away(code, f"{self._who} {reason}", error.next_step)
        except Unsendable as error:
            reason = f"could not be answered: {error.what}"
            self._run.fail(f"{self._who} {reason}")
        except DkerasError as error:
            reason = f"was refused: {error.what}"
            self._run.note(error.what)
            self._turn_away("refused", error.what, error.next_step)
        except Exception as error:
            reason = f"met a defect of the parameter server: {type(error).__name__}: {error}"
            log.exception("%s %s", self._who, reason)
            self._run.fail(f"{self._who} {reason}")
        finally:
            if self._worker is not None:
                self._leave(reason, dropped)
            if self._ended:
                self._channel.drain(DRAIN)
            self._channel.close()

    def _leave(self, reason: str, dropped: bool) -> None:
        """Take leave of the other workers."""
        run = self._run
        if run.rounds:
            if dropped:
                run.rounds.finished(self._worker, self)
            run.rounds.leave(self._worker, self)
        if run.search:
            run.search.leave(self._worker, self, dropped)
        if run.members.gone(self._worker, self, reason, dropped) and not self._ended:
            run.note(f"{self._who} {'was dropped: ' if dropped else ''}{reason}")
        run.wake()

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
            self._requests = Requests(run, self, channel, self._worker)
        channel.send_control(
            Kind.WELCOME,
            {
                "parameters": run.center.size,
                "state": run.state.size,
                "shard": run.center.shard,
                "workers": run.workers,
                "synchronous": run.rounds is not None,
                "up": run.up,
                "down": run.down,
                "led": run.warm_start is None or run.warm_start.led,
                "silence": run.silence_deadline,
            },
        )
