"""What all sessions of one server share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dkeras_core.exchange.center import Center
from dkeras_core.exchange.finals import Finals
from dkeras_core.exchange.members import Members
from dkeras_core.exchange.rounds import Rounds
from dkeras_core.exchange.search import Search
from dkeras_core.exchange.waiting import WarmStart


@dataclass
class Run:
    """The state of a run, and what ends it."""

    center: Center
    state: np.ndarray  # initial non-trainable state, possibly empty
    finals: Finals
    members: Members
    rounds: Rounds | None  # of a synchronous rule
    search: Search | None  # of a rule whose workers compute pieces
    warm_start: WarmStart | None
    up: str  # how messages travel: "ternary", or an encoding of exchange.wire
    down: str  # how answers do
    workers: int
    secret: bytes = field(repr=False)
    versions: dict[str, str]
    timeout: float
    silence_deadline: float
    step_deadline: float
    drop_nonfinite: bool  # whether a worker that pushes a value that is not finite is dropped, not lost
    on_report: Callable[[int, int, dict[str, Any]], None] | None
    note: Callable[[str], None]  # keeps an error for status()
    fail: Callable[[str], None]  # ends the run for everybody
    verdict: dict[str, Any] | None = None  # what everybody is told once the run is over
    stop_request: str | None = None

    def wake(self) -> None:
        """Let sessions that wait for others look whether they have been ended."""
        for room in (self.rounds, self.search, self.warm_start):
            if room:
                room.wake()
