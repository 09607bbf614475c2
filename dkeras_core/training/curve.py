"""The loss as the workers report it: over time, over rows, bounded in size however long the run is."""

from __future__ import annotations

import threading
import time
from typing import Any

LIMIT = 400  # points kept for each worker: more cannot be told apart in a chart


class Curve:
    """Collects the workers' reports ``{"rows", "loss"}``; safe to call from the server's threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._points: dict[int, list[tuple[float, int, float]]] = {}
        self._stride: dict[int, int] = {}
        self._seen: dict[int, int] = {}
        self._last: dict[int, tuple[int, float | None]] = {}
        self._window: list[tuple[float, int]] = []

    def add(self, worker: int, attempt: int, report: dict[str, Any]) -> None:
        """Take one report; when a worker has too many points every second one is dropped."""
        with self._lock:
            rows, loss = int(report.get("rows", 0)), report.get("loss")
            if rows < self._last.get(worker, (0, None))[0]:  # a newer attempt begins again
                self._points.pop(worker, None)
            self._last[worker] = (rows, loss)
            if loss is None:
                return
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
            }

    def points(self) -> list[dict[str, Any]]:
        """Return the points of all workers in order of time."""
        with self._lock:
            found = [
                {"seconds": round(seconds, 3), "rows": rows, "loss": round(loss, 6), "worker": worker}
                for worker, points in self._points.items()
                for seconds, rows, loss in points
            ]
        return sorted(found, key=lambda point: point["seconds"])
