"""How sessions wait for each other: endable at any time, and never silent towards their workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from dkeras_core.exchange.members import Members

BEAT = 1.0  # seconds after which a waiting worker is told that its server is alive


class Waiting(Protocol):
    """A worker's session, as seen by what it waits for."""

    def check_ended(self) -> None: ...  # raises once the session is over
    def still_waiting(self) -> None: ...  # tells the worker that the server is alive


class WaitingRoom:
    """A lock and its condition, on which sessions wait."""

    def __init__(self):
        self._changed = threading.Condition()

    def wake(self) -> None:
        """Let all who wait look again."""
        with self._changed:
            self._changed.notify_all()

    def wait(
        self,
        session: Waiting,
        step: Callable[[], bool],
        overdue: Callable[[], str] = str,
        again: Callable[[], float] = lambda: BEAT,
    ) -> str:
        """Call ``step`` under the lock, at once, after each change and after ``again()`` seconds, until it is True.

        Returns what ``overdue`` says, when that is not empty, else "". Raises what the session's checks raise.
        """
        while True:
            beat = time.monotonic() + BEAT
            with self._changed:
                while True:
                    session.check_ended()
                    if step():
                        return ""
                    problem, left = overdue(), beat - time.monotonic()
                    if problem or left <= 0:
                        break
                    self._changed.wait(min(left, max(again(), 0.001)))
            if problem:
                return problem
            session.still_waiting()


class WarmStart(WaitingRoom):
    """Lets all workers but the first wait for their center until worker 0 has led with some steps of its own."""

    def __init__(self, members: Members, deadline: float, fail: Callable[[str], None]):
        super().__init__()
        self._members, self._deadline, self._fail = members, deadline, fail
        self._absent_since: float | None = None
        self.led = False

    def lead(self) -> None:
        """Worker 0 has led."""
        with self._changed:
            self.led = True
            self._changed.notify_all()

    def wait_for_lead(self, session: Waiting) -> None:
        """Return when worker 0 has led. The run fails when nobody holds worker 0's place for the deadline."""
        late = self.wait(session, lambda: self.led, self._overdue)
        if late:
            self._fail(late)
            session.check_ended()

    def _overdue(self) -> str:
        now = time.monotonic()
        if self._members.present(0):
            self._absent_since = None
            return ""
        self._absent_since = self._absent_since or now
        if now - self._absent_since < self._deadline:
            return ""
        return (
            f"the other workers have waited {self._deadline:g} s for {self._members.whereabouts(0)}, "
            "to lead the warm start"
        )
