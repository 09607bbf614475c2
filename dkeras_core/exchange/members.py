"""The liveness table: which workers have joined, finished or been lost, by which attempt, and what they last said."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dkeras_core.errors import ExchangeError


class Connection(Protocol):
    """What the table needs of a worker's connection: to shut it out when a newer attempt comes."""

    def fence(self, message: str) -> None: ...


@dataclass(frozen=True)
class WorkerStatus:
    """One worker as the server sees it; ``silent`` is seconds since its last frame.

    What counts (exchanges, late) is of the present attempt.
    """

    worker: int
    attempt: int
    host: str
    address: str
    state: str  # joined, finished, lost, dropped
    exchanges: int
    silent: float
    report: dict[str, Any]
    reason: str  # why it was lost or dropped
    late: int  # synchronous rounds to which it came last
    late_seconds: float  # that all the others waited for it alone in these rounds


@dataclass
class _Member:
    worker: int
    attempt: int
    host: str
    address: str
    connection: Connection | None
    state: str = "joined"
    exchanges: int = 0
    heard: float = field(default_factory=time.monotonic)
    report: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    left: float | None = None
    late: int = 0
    late_seconds: float = 0.0


class Members:
    """Workers 0 to p - 1. All methods are safe to call from any thread.

    Every change is made by the connection that holds the worker's place; what an older one says is ignored.
    """

    def __init__(self, workers: int):
        self.expected = workers
        self._table: dict[int, _Member] = {}
        self._changed = threading.Condition()

    def join(self, worker: int, attempt: int, host: str, address: str, connection: Connection) -> None:
        """Give ``worker``'s place to ``connection``; an older attempt's connection is ended.

        Raises ExchangeError when the run has no such worker, or a newer or this same attempt holds the place.
        """
        with self._changed:
            if worker >= self.expected:
                raise ExchangeError(
                    f"worker {worker} does not exist: this run has workers 0 to {self.expected - 1}",
                    "start as many workers as the driver was told",
                )
            old = self._table.get(worker)
            if old and (old.attempt > attempt or (old.attempt == attempt and old.state != "lost")):
                raise ExchangeError(
                    f"attempt {attempt} of worker {worker} on {host} is refused: "
                    f"attempt {old.attempt} on {old.host} {'was lost' if old.state == 'lost' else 'has ' + old.state}"
                )
            self._table[worker] = _Member(worker, attempt, host, address, connection)
            self._changed.notify_all()
        if old and old.connection:
            old.connection.fence(f"attempt {attempt} on {host} has taken the place of worker {worker}")

    def heard(self, worker: int, connection: Connection) -> None:
        """Note that the worker is alive."""
        member = self._table.get(worker)  # one reference, one float: no lock needed at every frame
        if member and member.connection is connection:
            member.heard = time.monotonic()

    def exchanged(self, worker: int, connection: Connection) -> None:
        """Count one exchange of the worker."""
        member = self._table.get(worker)
        if member and member.connection is connection:
            member.exchanges += 1

    def came_last(self, worker: int, seconds: float) -> None:
        """Count one synchronous round for which the others waited ``seconds`` for this worker alone."""
        member = self._table.get(worker)
        if member:
            member.late += 1
            member.late_seconds += seconds

    def reported(self, worker: int, connection: Connection, report: dict[str, Any]) -> None:
        """Keep the worker's last report."""
        self._update(worker, connection, lambda member: setattr(member, "report", report))

    def finished(self, worker: int, connection: Connection, report: dict[str, Any]) -> None:
        """Note that the worker has handed over its last vector and its account."""

        def finish(member: _Member) -> None:
            member.state, member.report = "finished", report

        self._update(worker, connection, finish)

    def gone(self, worker: int, connection: Connection, reason: str, dropped: bool = False) -> bool:
        """Note that the connection has ended; True when the worker is thereby lost, or dropped for good."""
        unfinished = False

        def leave(member: _Member) -> None:
            nonlocal unfinished
            member.connection, member.left = None, time.monotonic()
            if member.state == "joined":
                member.state, member.reason, unfinished = "dropped" if dropped else "lost", reason, True

        self._update(worker, connection, leave)
        return unfinished

    def snapshot(self) -> list[WorkerStatus]:
        """The table, by worker number."""
        now = time.monotonic()
        with self._changed:
            return [
                WorkerStatus(
                    worker=m.worker,
                    attempt=m.attempt,
                    host=m.host,
                    address=m.address,
                    state=m.state,
                    exchanges=m.exchanges,
                    silent=now - m.heard,
                    report=m.report,
                    reason=m.reason,
                    late=m.late,
                    late_seconds=m.late_seconds,
                )
                for _, m in sorted(self._table.items())
            ]

    def present(self, worker: int) -> bool:
        """Whether the worker is connected or has finished."""
        member = self._table.get(worker)
        return bool(member) and member.state in ("joined", "finished")

    def away(self, worker: int) -> float:
        """Seconds since the worker was lost, or last heard of when it is connected; infinite before it has joined."""
        member = self._table.get(worker)
        if member is None:
            return math.inf
        # One that was lost while it waited had nothing to say before
        return time.monotonic() - (member.heard if member.left is None else member.left)

    def whereabouts(self, worker: int) -> str:
        """The worker, its host, when it was last heard of and why it was lost, as messages show it."""
        member = self._table.get(worker)
        if member is None:
            return f"worker {worker}, which has never joined"
        lost = f", {member.state}: {member.reason}" if member.reason else ""
        return f"worker {worker} on {member.host} (last heard of {time.monotonic() - member.heard:.0f} s ago{lost})"

    def wake(self) -> None:
        """Let ``wait_until`` look again."""
        with self._changed:
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``condition`` holds, looking at each change of the table; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def count(self, state: str) -> int:
        """Workers in ``state``."""
        with self._changed:
            return sum(member.state == state for member in self._table.values())

    def _update(self, worker: int, connection: Connection, change: Callable[[_Member], None]) -> None:
        with self._changed:
            member = self._table.get(worker)
            if member and member.connection is connection:
                change(member)
                self._changed.notify_all()
