"""What a worker counts while it trains: rows, steps, exchanges, losses, and where its time went."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

PARTS = ("spool", "start", "compile", "compute", "exchange", "wait")


class Tally:
    """Counters of one worker.

    Attributes
    ----------
    rows, steps, exchanges : int
        Trained, made, and done so far.
    seconds : dict of str to float
        ``spool``: rows onto the local disk; ``start``: building the model and taking the center; ``compile``: windows
        that compiled; ``compute``: the other windows; ``exchange``: time in which exchanges kept the worker from
        computing, waiting for others in a synchronous round included; ``wait``: for rows from the feed.
    """

    def __init__(self):
        self._begun = time.monotonic()
        self.rows = self.steps = self.exchanges = 0
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self._losses = 0.0
        self._since = 0
        self._loss: float | None = None

    @contextlib.contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        """Add the time of a block to ``seconds[part]``."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] += time.monotonic() - begun

    def trained(self, rows: int, steps: int, loss: float) -> None:
        """Count a window and the mean of its losses."""
        self.rows += rows
        self.steps += steps
        self._losses += loss * rows
        self._since += rows

    def loss(self) -> float | None:
        """Mean loss of the rows since the last call, else what that one returned."""
        if self._since:
            self._loss = self._losses / self._since
            self._losses, self._since = 0.0, 0
        return self._loss

    def report(self) -> dict[str, Any]:
        """What the driver is told while the worker trains; all but the loss is cumulative."""
        return {
            "rows": self.rows,
            "steps": self.steps,
            "exchanges": self.exchanges,
            "loss": self.loss(),
            "seconds": {part: round(self.seconds[part], 3) for part in PARTS[2:]},
        }

    def account(self) -> dict[str, Any]:
        """What the driver keeps of the worker; shares are of the time in which it trained, compiling left out."""
        trained = sum(self.seconds[part] for part in ("compute", "exchange", "wait"))
        return {
            "rows_trained": self.rows,
            "steps": self.steps,
            "exchanges": self.exchanges,
            "loss": self.loss(),
            "seconds": round(time.monotonic() - self._begun, 3),
            **{f"{part}_seconds": round(value, 3) for part, value in self.seconds.items()},
            **{f"{p}_share": round(self.seconds[p] / trained, 4) if trained else 0.0 for p in ("exchange", "wait")},
        }
