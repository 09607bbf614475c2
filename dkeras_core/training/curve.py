"""What the workers report while they train: their loss over time and rows, bounded in size however long the run is."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

LIMIT = 400  # points kept for each worker: more cannot be told apart in a chart


class Curve:
    """Collects the workers' reports; safe to call from the server's threads.

    A report holds ``rows`` (trained so far by this attempt) and ``loss`` (the mean since its last report with one),
    and perhaps ``seconds``: what went so far into compute, exchange and wait. A worker that is started again begins
    its line and its rows again; the totals of the loss keep what its earlier attempts trained.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._points: dict[int, list[tuple[float, int, float]]] = {}
        self._stride: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._last: dict[int, tuple[int, float | None]] = {}
        self._attempts: dict[int, int] = {}
        self._known: dict[int, int] = {}  # rows of this attempt whose loss is in the totals
        self._totals = (0, 0.0)  # these rows of all attempts, and the sum of their losses; never go back
        self._marks = [(0, 0.0, self._begun)]  # totals and time of the reports since ``parts`` was asked
        self._seconds: dict[int, dict[str, float]] = {}
        self._window: list[tuple[float, int]] = []

    def add(self, worker: int, attempt: int, report: dict[str, Any]) -> None:
        """Take one report; when a worker has too many points every second one is dropped."""
        with self._lock:
            rows, loss = int(report.get("rows", 0)), report.get("loss")
            if attempt < self._attempts.get(worker, attempt):
                return  # an older attempt's last word
            if attempt > self._attempts.setdefault(worker, attempt):
                self._attempts[worker] = attempt
                self._points.pop(worker, None)
                self._known.pop(worker, None)
            self._last[worker] = (rows, loss)
            self._seconds[worker] = report.get("seconds") or self._seconds.get(worker, {})
            if loss is None:
                return
            new = rows - self._known.get(worker, 0)
            self._known[worker] = rows
            self._totals = (self._totals[0] + new, self._totals[1] + float(loss) * new)
            if new > 0:
                self._mark()
            seen = self._seen[worker] = self._seen.get(worker, -1) + 1
            stride = self._stride.setdefault(worker, 1)
            if seen % stride:
                return
            points = self._points.setdefault(worker, [])
            points.append((time.monotonic() - self._begun, rows, float(loss)))
            if len(points) > LIMIT:
                del points[1::2]
                self._stride[worker] = stride * 2

    def state(self, rows_total: int, settings) -> dict[str, Any]:
        """Return the fields of ``progress.json``: rows, epoch, rows per second of the last 5 s, mean loss."""
        with self._lock:
            rows = sum(rows for rows, _ in self._last.values())
            losses = [loss for _, loss in self._last.values() if loss is not None]
            now = time.monotonic()
            self._window = [(t, r) for t, r in self._window if now - t < 5.0 and r <= rows] + [(now, rows)]
            since, rows_then = self._window[0]
            elapsed = now - since
            return {
                "rows": rows,
                "rows_total": rows_total,
                "epoch": round(rows / max(settings.rows, 1), 3),
                "epochs": settings.epochs,
                "rows_per_second": round((rows - rows_then) / elapsed, 1) if elapsed > 0 else 0.0,
                "loss": round(sum(losses) / len(losses), 6) if losses else None,
                "exchange_share": self._share(),
            }

    def _share(self) -> float | None:
        """Share of exchange and wait in the time since training began, over all workers."""
        lost = sum(seconds.get("exchange", 0.0) + seconds.get("wait", 0.0) for seconds in self._seconds.values())
        whole = lost + sum(seconds.get("compute", 0.0) for seconds in self._seconds.values())
        return round(lost / whole, 4) if whole else None

    def _mark(self) -> None:
        self._marks.append((*self._totals, time.monotonic()))
        if len(self._marks) > 4 * LIMIT:
            del self._marks[1:-1:2]

    def parts(self, count: int) -> list[tuple[float, float | None]]:
        """Divide the rows whose loss has come since this was last asked: (time at its end, mean loss) of each part.

        The time is that of ``time.monotonic``; the loss is None without rows. The parts are equal; between two reports
        all rows are taken to have the same loss.
        """
        with self._lock:
            marks, self._marks = np.array(self._marks), self._marks[-1:]
        if len(marks) < 2:
            return [(time.monotonic(), None)] * count
        rows, totals, times = marks.T
        ends = np.linspace(rows[0], rows[-1], count + 1)
        means = np.diff(np.interp(ends, rows, totals)) / np.diff(ends)
        return list(zip(np.interp(ends[1:], rows, times).tolist(), means.tolist(), strict=True))

    def latest(self) -> dict[int, tuple[int, float]]:
        """Rows and loss of each worker's last report."""
        with self._lock:
            return {worker: (rows, loss) for worker, (rows, loss) in self._last.items() if loss is not None}

    def points(self) -> list[dict[str, Any]]:
        """Return the points of all workers in order of time."""
        with self._lock:
            found = [
                {"seconds": round(seconds, 3), "rows": rows, "loss": round(loss, 6), "worker": worker}
                for worker, points in self._points.items()
                for seconds, rows, loss in points
            ]
        return sorted(found, key=lambda point: point["seconds"])
