"""The parameter server: accepts the workers' connections, one thread each, and keeps the center.

It runs in the Spark driver. docs/exchange.md describes the protocol.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.exchange.center import Center, best_shard
from dkeras_core.exchange.channel import LOOPBACK, Channel
from dkeras_core.exchange.finals import Finals
from dkeras_core.exchange.frames import VECTOR
from dkeras_core.exchange.listener import Listener, advertised
from dkeras_core.exchange.members import Members
from dkeras_core.exchange.rounds import Rounds
from dkeras_core.exchange.run import Run
from dkeras_core.exchange.search import Search
from dkeras_core.exchange.security import check_secret
from dkeras_core.exchange.session import Session
from dkeras_core.exchange.status import ExchangeResult, ServerStatus
from dkeras_core.exchange.versions import versions as own_versions
from dkeras_core.exchange.waiting import WarmStart
from dkeras_core.exchange.wire import Float32, dense
from dkeras_core.rules import Rule
from dkeras_core.rules.sandblaster import Coordinator

HANDSHAKE = 10.0  # seconds for each frame of the handshake, so that strangers do not hold connections


class ParameterServer:
    """Hosts the center for p workers.

    Parameters
    ----------
    rule : Rule
        The algorithm; of a synchronous one, ``exchanges`` everywhere counts rounds.
    center : float32 array of shape (n,)
        Initial parameters; copied. Of a rule whose workers compute pieces, the best of the search from then on.
    state : float32 array of shape (m,) or None
        Initial non-trainable state. It is not exchanged: workers send theirs at the finish, or before if they want
        to, and it is averaged.
    workers : int
        p.
    rows : int
        The training rows, which the pieces of a search must add up to; for such rules only.
    secret : bytes
        The job's 32 bytes (``exchange.new_secret()``).
    host, advertise : str
        Where to bind, and the name by which workers reach it (the bind host when left out).
    port : int or (low, high)
        0 for any free port.
    versions : dict, optional
        Versions that workers must share (``exchange.versions()`` of this process when left out).
    on_report : callable(worker, attempt, report), optional
        Is given each report, in the connection's thread; an exception in it fails the run.
    wire : "float32", "bfloat16" or "float16"
        How messages and answers travel; center and workers are float32 always. Messages of a ternary rule take about
        two bits a value whatever this says.
    timeout : float
        Seconds that a frame may take once it has begun.
    silence_deadline : float
        Seconds without any frame after which a worker is taken for lost. One that computes for longer sends a small
        frame now and then (``exchange.heartbeat``).
    step_deadline : float
        Seconds without any request after which a worker that only shows that it lives is taken for lost: it hangs.
    barrier_deadline : float
        Seconds that a synchronous round, or a worker without a piece, waits for workers that have not joined, are lost
        or are silent so long, before the run fails, naming them. Who is at work and reports is waited for.
    warm_start : bool
        Let the other workers' ``Client.center`` wait until worker 0 has led (``Client.lead``). The run fails when
        nobody holds worker 0's place for ``barrier_deadline``.
    keep_finals : bool
        Keep the last vector of each worker, for an ensemble: p n values of memory.
    on_nonfinite : "stop" or "drop"
        A worker that pushes a value that is not finite is refused; "drop" says that the run goes on without it.
    shard : int
        Values that are exchanged in one atomic step (what is fastest when left out).

    Raises ConfigError for what cannot work; ``start`` raises ExchangeError when it cannot bind.
    """

    def __init__(
        self,
        rule: Rule,
        center: np.ndarray,
        state: np.ndarray | None = None,
        *,
        workers: int,
        rows: int = 0,
        secret: bytes,
        host: str = "127.0.0.1",
        advertise: str | None = None,
        port: int | tuple[int, int] = 0,
        versions: dict[str, str] | None = None,
        on_report: Callable[[int, int, dict[str, Any]], None] | None = None,
        wire: str = "float32",
        timeout: float = 120.0,
        silence_deadline: float = 600.0,
        step_deadline: float = 3600.0,
        barrier_deadline: float = 300.0,
        warm_start: bool = False,
        keep_finals: bool = False,
        on_nonfinite: str = "stop",
        shard: int | None = None,
    ):
        if workers < 1:
            raise ConfigError(f"workers must be at least 1, not {workers}")
        check_secret(secret)
        initial = np.array([] if state is None else state, VECTOR).ravel()
        self._host, self._port = host, port
        self._advertise = advertised(host, advertise)
        self._errors: deque[str] = deque(maxlen=100)
        self._bytes = 0
        self._lock = threading.Lock()
        self._sessions: dict[Session, threading.Thread] = {}
        self._limit = 2 * workers + 32  # connections at a time: every worker with its next attempt, and probes
        self._listener: Listener | None = None
        members = Members(workers)
        encoding = dense(wire)
        rule = rule.for_workers(workers)
        # A round is met shard by shard, and an encoding has buffers of its own: both are better off with short ones.
        local = host in LOOPBACK and not rule.synchronous and encoding is Float32
        values = Center(rule, center, workers, shard or best_shard(np.size(center), local))
        self._run = Run(
            center=values,
            state=initial,
            finals=Finals(values.spans, initial, keep_finals),
            members=members,
            rounds=(
                Rounds(values, members, workers, encoding(values.spans[0].stop), barrier_deadline, self.fail)
                if rule.synchronous
                else None
            ),
            search=(
                Search(
                    Coordinator(rule, values.values, workers, rows, time.monotonic()),
                    values,
                    members,
                    barrier_deadline,
                    self.fail,
                    lambda: self._run.stop_request,
                )
                if rule.local == "pieces"
                else None
            ),
            up="ternary" if rule.wire == "ternary" else wire,
            down=wire,
            warm_start=WarmStart(members, barrier_deadline, self.fail) if warm_start else None,
            workers=workers,
            secret=secret,
            versions=own_versions() if versions is None else dict(versions),
            timeout=timeout,
            silence_deadline=silence_deadline,
            step_deadline=step_deadline,
            drop_nonfinite=on_nonfinite == "drop",
            on_report=on_report,
            note=self._errors.append,
            fail=self.fail,
        )

    def start(self) -> None:
        """Bind and accept workers. Raises ExchangeError when no port can be bound."""
        self._listener = Listener(self._host, self._port)
        self._acceptor = threading.Thread(target=self._accept, name="exchange-accept", daemon=True)
        self._acceptor.start()

    @property
    def address(self) -> tuple[str, int]:
        """Advertised host and port."""
        if self._listener is None:
            raise TrainingError("the parameter server has no address: it is not running")
        return self._advertise, self._listener.port

    def stop(self, grace: float = 2.0) -> None:
        """Release the port and end all connections and threads; workers that still wait are told.

        May be called more than once. ``grace`` is the time for workers to read why before connections are broken.
        """
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.stop()
        self._acceptor.join()
        listener.close()
        self._end_all("stopped", "the driver has stopped the parameter server")
        deadline = time.monotonic() + grace
        with self._lock:
            sessions = list(self._sessions.items())
        for session, thread in sessions:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                session.close()
                thread.join(5.0)
        if self._run.search:
            self._run.search.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception) -> None:
        self.stop()

    def fail(self, message: str) -> None:
        """End the run: every worker, in an exchange or at its next one, raises TrainingError with ``message``."""
        self._end_all("failed", message)

    def request_stop(self, reason: str) -> None:
        """Ask the workers to finish early; each learns ``reason`` in the answer to its next report."""
        self._run.stop_request = reason
        self._run.wake()

    def status(self) -> ServerStatus:
        """The server at this moment."""
        with self._lock:
            transferred = self._bytes + sum(session.bytes for session in self._sessions)
        verdict = self._run.verdict
        search = self._run.search.status() if self._run.search else None
        return ServerStatus(
            expected=self._run.workers,
            workers=self._run.members.snapshot(),
            exchanges=search.evaluations if search else self._run.center.exchanges,
            bytes=transferred,
            shards=len(self._run.center.spans),
            errors=list(self._errors),
            failure=verdict["message"] if verdict and verdict["code"] == "failed" else None,
            search=search,
        )

    def snapshot(self) -> tuple[np.ndarray, int]:
        """A copy of the center, consistent shard by shard, and its version: the exchanges it holds at least."""
        return self._run.center.snapshot()

    def published(self) -> tuple[np.ndarray, int]:
        """As ``snapshot``, of what the rule publishes of the center (``Rule.published``)."""
        return self._run.center.published()

    def wait(self, timeout: float) -> bool:
        """Wait until every worker has finished or was dropped; False when the time is over first.

        Raises TrainingError when the run has failed.
        """
        members, run = self._run.members, self._run

        def through() -> bool:
            return members.count("finished") + members.count("dropped") == run.workers

        members.wait_until(lambda: bool(run.verdict) or through(), timeout)
        if run.verdict and run.verdict["code"] == "failed":
            raise TrainingError(run.verdict["message"])
        return through()

    def state(self) -> np.ndarray | None:
        """The mean of the non-trainable states that workers have last sent; None for a model that has none."""
        return self._run.finals.shared_state()

    def result(self) -> ExchangeResult:
        """Center, mean of the workers' last vectors, average of the center's last stretch, and averaged state.

        A worker that had to be started again after it had finished counts with both its vectors in the mean.
        Raises TrainingError when no worker has finished.
        """
        run = self._run
        finished = run.members.count("finished")
        if not finished:
            raise TrainingError(
                "no worker has finished, so there is no result", "look for the first error in status().errors"
            )
        center, exchanges = self.snapshot()
        return ExchangeResult(
            center=center,
            published=self.published()[0],
            mean=run.finals.mean(),
            ema=run.center.tail_average(),
            state=run.finals.mean_state(),
            exchanges=exchanges,
            workers=finished,
            finals=run.finals.vectors(),
            final_states=run.finals.states(),
        )

    def _accept(self) -> None:
        listener = self._listener
        while accepted := listener.accept():
            sock, peer = accepted
            with self._lock:
                full = len(self._sessions) >= self._limit
            if full:
                self._errors.append(f"a connection from {peer} was closed: {self._limit} are open already")
                sock.close()
                continue
            session = Session(self._run, Channel(sock, timeout=HANDSHAKE), peer)
            thread = threading.Thread(target=self._serve, args=(session,), name=f"exchange-{peer}", daemon=True)
            with self._lock:
                self._sessions[session] = thread
            thread.start()

    def _serve(self, session: Session) -> None:
        try:
            session.serve()
        finally:
            with self._lock:
                del self._sessions[session]
                self._bytes += session.bytes

    def _end_all(self, code: str, message: str) -> None:
        """Tell all sessions, and those that are still to join, that the run is over; the first verdict stays."""
        with self._lock:
            self._run.verdict = self._run.verdict or {"code": code, "message": message, "next": None}
            verdict = self._run.verdict
            sessions = list(self._sessions)
        for session in sessions:
            session.end(verdict["code"], verdict["message"])
        self._run.members.wake()
