"""What the driver may know of its parameter server: the moment's status, and what a run leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dkeras_core.exchange.members import WorkerStatus


@dataclass(frozen=True)
class SearchStatus:
    """A search over all rows at one moment.

    ``iterations`` holds {"iteration", "loss", "gradient_norm", "evaluations", "seconds"} of the initial point and of
    each iteration that is complete; ``done`` the pieces that each worker was the first to finish; ``backups`` counts
    the second copies of late pieces that were handed out, ``backups_first`` those that came before the first one.
    """

    iterations: list[dict[str, Any]]
    evaluations: int
    pieces: int
    done: dict[int, int]
    backups: int
    backups_first: int
    ended: str | None


@dataclass(frozen=True)
class ServerStatus:
    """The server at one moment; ``exchanges`` counts evaluations where there is a search."""

    expected: int
    workers: list[WorkerStatus]
    exchanges: int
    bytes: int
    shards: int
    errors: list[str]  # the last hundred
    failure: str | None
    search: SearchStatus | None = None

    @property
    def joined(self) -> int:
        """Workers that have joined so far, whatever became of them."""
        return len(self.workers)

    @property
    def finished(self) -> int:
        return sum(worker.state == "finished" for worker in self.workers)

    @property
    def lost(self) -> int:
        return sum(worker.state == "lost" for worker in self.workers)

    def counts(self) -> dict[str, int]:
        """The numbers of workers, as progress.json shows them."""
        return {"expected": self.expected, "joined": self.joined, "finished": self.finished, "lost": self.lost}


@dataclass(frozen=True)
class ExchangeResult:
    """What a run leaves: vectors of shape (n,), and the averaged non-trainable state (None when there is none).

    ``published`` is what the rule publishes of the center: the center itself, or an average of it. ``finals`` and
    ``final_states`` are the last vectors and states of the workers that finished, by number, if they were to be kept.
    """

    center: np.ndarray
    published: np.ndarray
    mean: np.ndarray
    ema: np.ndarray
    state: np.ndarray | None
    exchanges: int
    workers: int  # that have finished
    finals: list[np.ndarray] | None = None
    final_states: list[np.ndarray] | None = None
