"""Where the workers of a synchronous rule meet: rounds of messages, shard by shard."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dkeras_core.exchange.center import Center, NotFinite
from dkeras_core.exchange.frames import VECTOR
from dkeras_core.exchange.members import Members
from dkeras_core.exchange.waiting import Waiting, WaitingRoom
from dkeras_core.exchange.wire import Dense, Unsendable


@dataclass(eq=False)
class _Deposit:
    session: Waiting
    message: np.ndarray
    at: float = field(default_factory=time.monotonic)
    applied: bool = False


class Rounds(WaitingRoom):
    """The barrier of p workers.

    A shard of a round is complete when every worker that takes part has sent its message of it; whoever brings the
    last one sums them in the order of the workers' numbers, so that the order of arrival leaves no trace, and applies
    the rule once. Nothing of the model's length is kept: a message waits in the buffer of its own connection.

    Who takes part is decided at a round's first shard: all workers that have not begun to finish, whether they have
    joined or not. One that is lost there takes its message along, and the round waits for its next attempt. One that
    is lost later in the round has entered the shards before; the round goes on without it, and the next round waits.

    Parameters
    ----------
    wire : Dense
        How answers travel.
    deadline : float
        Seconds that a shard may wait for a worker that is away so long: not joined, lost, or connected but silent. One
        that is at work and reports is waited for as long as it takes.
    fail : callable
        Is given what ends the run: who is missing after the deadline, or a mean that is not finite.
    """

    def __init__(
        self,
        center: Center,
        members: Members,
        workers: int,
        wire: Dense,
        deadline: float,
        fail: Callable[[str], None],
    ):
        super().__init__()
        self._wire = wire
        self._center, self._members, self._workers = center, members, workers
        self._deadline, self._fail = deadline, fail
        self._part = 0
        self._deposits: dict[int, _Deposit] = {}
        self._taking_part: dict[int, Waiting] = {}  # from the first shard of a round to its last
        self._finishing: dict[int, Waiting] = {}
        self._finished: set[int] = set()
        self._problem = ""
        # One answer for all: nobody brings a message of the next shard before it has sent the answer to this one.
        self._answer = self._sent = np.empty(min(center.shard, center.size), VECTOR)

    def join(self, worker: int) -> None:
        """An attempt of ``worker`` has joined: the next round waits for it."""
        with self._changed:
            self._finishing.pop(worker, None)
            self._finished.discard(worker)

    def meet(self, worker: int, session: Waiting, part: int, message: np.ndarray) -> np.ndarray:
        """Bring one shard of a message, checked and finite; returns the encoded answer once all have met.

        ``message`` is changed. The answer is for sending, until this worker brings its next shard.
        Raises what ``session.check_ended`` raises when the session or the run ends meanwhile.
        """
        deposit = _Deposit(session, message)

        def step() -> bool:
            if self._deposits.get(worker) is not deposit and not deposit.applied:
                if self._part != part:
                    return False  # a new attempt, come in the middle of a round: it waits for the next one
                self._deposits[worker] = deposit
            if not deposit.applied and not self._missing():
                self._apply()
            return deposit.applied

        late = self.wait(session, step, self._overdue)
        if late:
            self._fail(late)
            session.check_ended()
        return self._sent

    def finishing(self, worker: int, session: Waiting) -> None:
        """``worker`` exchanges no more; returns when all workers of lower numbers have handed over their vectors.

        Last vectors are summed in the workers' order too, so that a synchronous run repeats bit for bit.
        """
        with self._changed:
            self._finishing[worker] = session
            self._changed.notify_all()
        self.wait(session, lambda: self._finished.issuperset(range(worker)))

    def finished(self, worker: int, session: Waiting) -> None:
        """``worker`` has handed over its vector, or is dropped: nobody waits for it any more."""
        with self._changed:
            self._finishing[worker] = session
            self._finished.add(worker)
            self._changed.notify_all()

    def leave(self, worker: int, session: Waiting) -> None:
        """The session is over; once this returns, nothing that it brought is applied any more."""
        with self._changed:
            if worker in self._deposits and self._deposits[worker].session is session:
                del self._deposits[worker]
            if self._taking_part.get(worker) is session:
                del self._taking_part[worker]
                if not self._taking_part:  # all have left in the middle of a round: it ends there
                    self._part = 0
            if self._finishing.get(worker) is session and worker not in self._finished:
                del self._finishing[worker]
            self._changed.notify_all()

    def _missing(self) -> list[int]:
        awaited = self._taking_part if self._part else set(range(self._workers)) - set(self._finishing)
        return sorted(set(awaited) - set(self._deposits))

    def _apply(self) -> None:
        deposits = [deposit for _, deposit in sorted(self._deposits.items())]
        if self._part == 0:
            self._taking_part = {worker: deposit.session for worker, deposit in self._deposits.items()}
            self._note_last()
        messages = [deposit.message for deposit in deposits]
        try:
            answer = self._answer[: messages[0].size]
            self._center.meet(self._part, messages, answer, self._wire.round)
            self._sent = self._wire.encode(answer)
        except NotFinite as error:
            self._problem = f"the sum of the messages of {len(messages)} workers overflowed: {error.what}"
            return
        except Unsendable as error:
            self._problem = f"the answer to a round of {len(messages)} workers: {error.what}"
            return
        for deposit in deposits:
            deposit.applied = True
        self._deposits.clear()
        self._part = (self._part + 1) % len(self._center.spans)
        if self._part == 0:
            self._taking_part = {}
        self._changed.notify_all()

    def _note_last(self) -> None:
        """Keep who came last to the round, and how long all the others waited for it."""
        arrivals = sorted((deposit.at, worker) for worker, deposit in self._deposits.items())
        if len(arrivals) > 1:
            (before, _), (last, worker) = arrivals[-2:]
            self._members.came_last(worker, last - before)

    def _overdue(self) -> str:
        if self._problem:
            return self._problem
        if not self._deposits or time.monotonic() - min(d.at for d in self._deposits.values()) < self._deadline:
            return ""
        away = [worker for worker in self._missing() if self._members.away(worker) >= self._deadline]
        if not away:
            return ""
        missing = "; ".join(map(self._members.whereabouts, away))
        return f"the other workers have waited {self._deadline:g} s in a synchronous round for {missing}"
