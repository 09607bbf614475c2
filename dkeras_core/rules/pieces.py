"""Which worker computes which piece of the data: small pieces, and backup copies for stragglers.

Dean et al., Large Scale Distributed Deep Networks (NIPS 2012), section 4.2; no clock, no socket, no gradient here.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from statistics import median

from dkeras_core.errors import TrainingError

LATE = 1.5
"""A piece is late when it takes so many times the median of its size: then another worker may compute it too."""
_REMEMBERED = 99  # results behind that median


class Pieces:
    """The pieces of one evaluation after the other, and who holds, computes and has computed them.

    Piece k is at home with worker k modulo p; other workers may hold copies of its rows. An evaluation goes through
    all pieces once; ``version`` numbers it. Times are seconds on any clock.

    Parameters
    ----------
    workers : int
        p. An evaluation is not complete before each of them has told what it holds, or has left for good.

    Attributes
    ----------
    sizes : dict of int to int
        Rows of each piece that has been told of.
    version : int
        The evaluation, counted from 1.
    backups, won : int
        Second copies that were handed out, and those that came first.
    done : Counter
        Pieces that each worker was the first to finish.
    """

    def __init__(self, workers: int):
        self._workers = workers
        self.sizes: dict[int, int] = {}
        self.version = 1
        self.backups = self.won = 0
        self.done: Counter[int] = Counter()
        self._awaited = set(range(workers))
        self._held: dict[int, list[int]] = {}  # of each worker that is here: its own pieces first
        self._open: set[int] = set()
        self._flying: dict[int, dict[int, float]] = {}  # piece -> worker -> since when, in order
        self._paces: deque[float] = deque(maxlen=_REMEMBERED)
        self._pace: float | None = None  # seconds a row, their median

    def hold(self, worker: int, sizes: Mapping[int, int]) -> None:
        """``worker`` is here and holds these pieces, with so many rows each.

        Raises TrainingError when others, or an earlier attempt, hold another number of rows of one of them.
        """
        for piece, rows in sizes.items():
            known = self.sizes.get(piece, rows)
            if known != rows:
                raise TrainingError(
                    f"worker {worker} holds {rows} rows of piece {piece}, of which there were {known} before",
                    "the rows have changed while they were read: cache or store them first",
                )
        self._awaited.discard(worker)
        self._held[worker] = sorted(sizes, key=lambda piece: (piece % self._workers != worker, piece))
        self._open.update(sizes.keys() - self.sizes.keys())
        self.sizes.update(sizes)

    def leave(self, worker: int, for_good: bool = False) -> None:
        """``worker`` is gone: what it was computing is open again. Nobody waits for one that has gone for good."""
        self._held.pop(worker, None)
        if for_good:
            self._awaited.discard(worker)
        self._land(worker)

    @property
    def awaited(self) -> list[int]:
        """Workers that have not told yet what they hold."""
        return sorted(self._awaited)

    @property
    def open(self) -> dict[int, list[int]]:
        """The pieces whose result is missing, each with the workers that compute it, or else that hold it."""
        holders = {
            piece: [worker for worker, held in sorted(self._held.items()) if piece in held] for piece in self._open
        }
        return {piece: list(self._flying.get(piece, ())) or holders[piece] for piece in sorted(self._open)}

    @property
    def complete(self) -> bool:
        """Whether every piece of this evaluation has come, and no worker can bring others."""
        return not self._open and not self._awaited

    def begin(self) -> None:
        """Begin the next evaluation: every piece is open again."""
        self.version += 1
        self._open = set(self.sizes)
        self._flying.clear()

    def assign(self, worker: int, now: float) -> int | None:
        """The piece that ``worker`` computes next; None when there is none for it at this moment.

        Its own pieces come first, then those of others that it holds too. When all of these have been handed out, it
        takes a late one that another worker still computes, the one with the fewest copies, then the oldest.
        A worker that asks has nothing under way: what it was given before and has not finished is open again.
        """
        self._land(worker)
        mine = [piece for piece in self._held.get(worker, ()) if piece in self._open]
        piece = next((piece for piece in mine if not self._flying.get(piece)), None)
        if piece is None:
            late = [p for p in mine if worker not in self._flying[p] and self._overdue(p, now) >= 0]
            if not late:
                return None
            piece = min(late, key=lambda p: (len(self._flying[p]), min(self._flying[p].values()), p))
            self.backups += 1
        self._flying.setdefault(piece, {})[worker] = now
        return piece

    def finish(self, worker: int, piece: int, version: int, now: float) -> bool:
        """Whether this result counts: it is the first one of a piece of the evaluation that is under way."""
        if version != self.version or piece not in self._open:
            return False
        flights = self._flying.pop(piece, {})
        if worker in flights:
            self._paces.append((now - flights[worker]) / max(self.sizes[piece], 1))
            self._pace = median(self._paces)
            self.won += worker != next(iter(flights))
        self._open.remove(piece)
        self.done[worker] += 1
        return True

    def again(self, worker: int, now: float) -> float:
        """Seconds until ``assign`` may have a late piece for ``worker``, if nothing else happens."""
        mine = (piece for piece in self._held.get(worker, ()) if piece in self._open)
        return min((-self._overdue(p, now) for p in mine if worker not in self._flying.get(p, {})), default=math.inf)

    def _land(self, worker: int) -> None:
        for flights in self._flying.values():
            flights.pop(worker, None)

    def _overdue(self, piece: int, now: float) -> float:
        """Seconds by which a piece that is being computed is late; negative while it is not."""
        flights = self._flying.get(piece)
        if not flights or self._pace is None:
            return -math.inf
        # Counted from the newest copy, so that a third one waits for the second
        return now - max(flights.values()) - LATE * self._pace * self.sizes[piece]
