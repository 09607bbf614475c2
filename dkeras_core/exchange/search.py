"""Where the workers of a search over all rows get their pieces, and where the gradients of these meet."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from dkeras_core.errors import TrainingError
from dkeras_core.exchange.center import Center
from dkeras_core.exchange.frames import FrameError
from dkeras_core.exchange.members import Members
from dkeras_core.exchange.status import SearchStatus
from dkeras_core.exchange.waiting import Waiting, WaitingRoom
from dkeras_core.rules.sandblaster import Coordinator, PieceResult

NAMED = 3  # pieces that a message names


class Task(NamedTuple):
    """A piece to compute, in which evaluation, and the point x, float32[n], which nobody changes any more."""

    piece: int
    version: int
    point: np.ndarray


class Search(WaitingRoom):
    """Hands out pieces, sums what comes back, and lets the search go on; safe for all threads.

    Parameters
    ----------
    coordinator : Coordinator
        What decides; it is called under this room's lock, also for the arithmetic of the search.
    center : Center
        Takes the best x after each iteration.
    deadline : float
        Seconds without any result that a worker waits for others that are away so long (not joined, lost, or
        connected but silent) before the run fails, naming them.
    fail : callable
        Is given what ends the run.
    stop : callable
        Returns why the search should end early, or None.
    """

    def __init__(
        self,
        coordinator: Coordinator,
        center: Center,
        members: Members,
        deadline: float,
        fail: Callable[[str], None],
        stop: Callable[[], str | None],
    ):
        super().__init__()
        self._coordinator, self._center, self._members = coordinator, center, members
        self._deadline, self._fail, self._stop = deadline, fail, stop
        self._sessions: dict[int, Waiting] = {}
        self._moved = time.monotonic()
        # Memory that a thread frees stays with it for its next array: one for each connection would keep as many
        self._arithmetic = ThreadPoolExecutor(1, thread_name_prefix="exchange-search")

    def close(self) -> None:
        """End the thread; no session calls any more."""
        self._arithmetic.shutdown()

    def hold(self, worker: int, session: Waiting, sizes: Mapping[int, int]) -> None:
        """``worker`` has spooled its rows: so many of each piece."""

        def take() -> None:
            self._sessions[worker] = session
            self._coordinator.pieces.hold(worker, sizes)

        self._change(take, session)

    def leave(self, worker: int, session: Waiting, for_good: bool = False) -> None:
        """The session is over; what it was computing is open again."""

        def take() -> None:
            if self._sessions.get(worker, session) is session:
                self._sessions.pop(worker, None)
                self._coordinator.pieces.leave(worker, for_good)

        self._change(take)

    def finish(self, worker: int, session: Waiting, result: PieceResult, gradient: np.ndarray) -> None:
        """Take a piece's result, the first of it or not; ``gradient`` is read only while this runs."""

        def take() -> np.ndarray | None:
            return self._coordinator.finish(worker, result, gradient, time.monotonic())

        self._change(take, session)

    def next(self, worker: int, session: Waiting) -> Task | None:
        """The next piece for ``worker``, waited for; None when the search is over.

        Raises what ``session.check_ended`` raises when the session or the run ends meanwhile.
        """
        pieces, found = self._coordinator.pieces, None

        def step() -> bool:
            nonlocal found
            if self.over:
                return True
            piece = pieces.assign(worker, time.monotonic())
            if piece is not None:
                found = Task(piece, pieces.version, self._coordinator.point)
            return found is not None

        late = self.wait(session, step, self._overdue, lambda: pieces.again(worker, time.monotonic()))
        if late:
            self._fail(late)
            session.check_ended()
        return found

    @property
    def over(self) -> str | None:
        """Why no more pieces are handed out; None while they are."""
        return self._coordinator.ended or self._stop()

    def status(self) -> SearchStatus:
        """The search at this moment."""
        with self._changed:
            pieces = self._coordinator.pieces
            return SearchStatus(
                iterations=[iteration._asdict() for iteration in self._coordinator.iterations],
                evaluations=pieces.version if self._coordinator.ended else pieces.version - 1,
                pieces=len(pieces.sizes),
                done=dict(sorted(pieces.done.items())),
                backups=pieces.backups,
                backups_first=pieces.won,
                ended=self.over,
            )

    def _change(self, take: Callable[[], np.ndarray | None], session: Waiting | None = None) -> None:
        """Change the coordinator, and wake those who wait when there may be more for them than before."""
        with self._changed:
            version = self._coordinator.pieces.version
            try:
                best = self._arithmetic.submit(self._taken, take).result()
            except TrainingError as error:
                problem = error
            else:
                problem = None
                if best is not None:
                    for part, span in enumerate(self._center.spans):
                        self._center.replace(part, best[span])
                self._moved = time.monotonic()
                if self.over or session is None or version < self._coordinator.pieces.version:
                    self._changed.notify_all()
        if problem:
            self._fail(str(problem))
            if session:
                session.check_ended()

    def _taken(self, take: Callable[[], np.ndarray | None]) -> np.ndarray | None:
        best = take()
        if best is None and not self.over:
            best = self._coordinator.evaluated(time.monotonic())  # the last worker that was waited for may have gone
        return best

    def _overdue(self) -> str:
        if time.monotonic() - self._moved < self._deadline:
            return ""
        pieces, where = self._coordinator.pieces, self._members.whereabouts
        waited = f"the other workers have waited {self._deadline:g} s for "
        if pieces.awaited:
            away = list(filter(self._away, pieces.awaited))
            return f"{waited}{'; '.join(map(where, away))}, to spool their rows" if away else ""
        missing = []
        for piece, workers in pieces.open.items():
            home = piece % self._members.expected
            if all(map(self._away, workers or [home])):
                whose = f"with {' and '.join(map(where, workers))}" if workers else f"which was with {where(home)}"
                missing.append(f"piece {piece} of the rows, {whose}")
        return waited + "; ".join(missing[:NAMED]) if missing else ""

    def _away(self, worker: int) -> bool:
        return self._members.away(worker) >= self._deadline


def sizes_of(content: dict[str, Any]) -> dict[int, int]:
    """The rows of each piece that a worker says it holds. Raises FrameError."""
    try:
        sizes = dict(content["pieces"])
    except (KeyError, TypeError, ValueError):
        raise FrameError("sent pieces that are no list of pairs") from None
    _whole(*sizes.keys(), *sizes.values())
    return sizes


def result_of(content: dict[str, Any]) -> PieceResult:
    """What a worker says of a piece that it has finished. Raises FrameError."""
    try:
        result = PieceResult(**content)
    except TypeError:
        raise FrameError("sent a result with other fields than piece, version, rows and loss") from None
    _whole(result.piece, result.version, result.rows)
    if result.loss is not None and not isinstance(result.loss, float):
        raise FrameError("sent a result with a loss that is no number")
    return result


def _whole(*values: Any) -> None:
    if not all(type(value) is int and 0 <= value < 1 << 62 for value in values):
        raise FrameError("sent a piece, or a number of rows, that is not a whole number")
