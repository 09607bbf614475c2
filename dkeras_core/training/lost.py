"""How long the driver bears workers that are gone while their launcher says that they run."""

from __future__ import annotations

import re
import time
from typing import Any

from dkeras_core.errors import ConfigError, DataError, DkerasError, StorageError, TrainingError
from dkeras_core.exchange import ServerStatus
from dkeras_core.exchange.members import WorkerStatus
from dkeras_core.training.tally import Tally

GRACE = 10.0
"""Seconds for the launcher to raise what ended a run, of which the server knows no more than a text."""

# What another attempt would meet again; ExchangeError is not among them, since a new attempt may well reach the server
_FATAL = {kind.__name__: kind for kind in (ConfigError, DataError, StorageError, TrainingError)}
_PARTING = re.compile(r"gave up: (?P<name>\w+): (?P<what>.*?)(?:\n  next: (?P<next>.*))?", re.DOTALL)


class LostWorkers:
    """Looks at each status of the server for what the launcher may never tell.

    Parameters
    ----------
    deadline : float
        Seconds that a lost worker's next attempt may take to join.
    """

    def __init__(self, deadline: float):
        self._deadline = deadline
        self._since: dict[tuple[int, int], float] = {}  # when which worker's attempt was first seen to be lost
        self._cause: tuple[float, DkerasError] | None = None

    def check(self, status: ServerStatus) -> None:
        """Raise why the run cannot go on: it has failed, a worker gave up, or one stays away for too long."""
        now = time.monotonic()
        lost = [worker for worker in status.workers if worker.state == "lost"]
        self._since = {_place(worker): self._since.get(_place(worker), now) for worker in lost}
        if not self._cause and (error := next(filter(None, map(_fatal, lost)), None) or _failure(status)):
            self._cause = now, error
        if self._cause and now - self._cause[0] > GRACE:
            raise self._cause[1]
        if status.search and any(worker.state in ("joined", "finished") for worker in status.workers):
            return  # others hold its pieces too; where they do not, the search says so itself
        for worker in lost:
            waited = now - self._since[_place(worker)]
            if waited > self._deadline:
                raise TrainingError(
                    f"worker {worker.worker} on {worker.host} was lost ({worker.reason}), and no new attempt of it "
                    f"has joined for {waited:.0f} s",
                    "look at its log and its host: its process may hang, or be waiting for an executor; where a new "
                    "attempt needs longer, raise training.join_deadline, where one local step does, "
                    "training.step_deadline",
                )

    def without(self, status: ServerStatus) -> list[dict[str, Any]] | None:
        """The accounts of a search that is over and waits for lost workers alone; None where it does not.

        Raises nothing: the search has its result, whoever else is gone.
        """
        gone = [worker for worker in status.workers if worker.state == "lost"]
        finished = any(worker.state == "finished" for worker in status.workers)
        waits = gone and finished and not any(worker.state == "joined" for worker in status.workers)
        if not (status.search and status.search.ended and waits):
            return None
        now = time.monotonic()
        if any(now - self._since.get(_place(worker), now) <= GRACE for worker in gone):
            return None
        accounts = [_account(worker) if worker.state == "lost" else worker.report for worker in status.workers]
        return [account | {"attempt": None} for account in accounts]  # how many there were, the launcher has not said


def _place(worker: WorkerStatus) -> tuple[int, int]:
    return worker.worker, worker.attempt


def _failure(status: ServerStatus) -> TrainingError | None:
    return TrainingError(status.failure) if status.failure else None


def _fatal(worker: WorkerStatus) -> DkerasError | None:
    """What the worker gave up for, in its own class, where another attempt would meet it again."""
    parting = _PARTING.fullmatch(worker.reason)
    if not parting or parting["name"] not in _FATAL:
        return None
    what = f"worker {worker.worker} on {worker.host} gave up: {parting['what']}"
    return _FATAL[parting["name"]](what, parting["next"])


def _account(worker: WorkerStatus) -> dict[str, Any]:
    """What is known of a worker that has left no account."""
    rows = worker.report.get("rows", 0)
    return Tally().account() | {
        "worker": worker.worker,
        "host": worker.host,
        "rows": rows,
        "rows_trained": rows,
        "communication_period": worker.report.get("communication_period"),
        "overlap": False,
        "fused": "",
        "dropped": f"it was lost ({worker.reason})",
    }
