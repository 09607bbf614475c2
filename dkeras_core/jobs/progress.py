"""What a run tells the outside while it lives: ``progress.json``, replaced about once a second, and ``result.json``.

Readers (the submitter's progress bar, the Airflow operator) poll ``progress.json``; each state is written under a
temporary name and swapped in, so that a reader never meets half a file. ``result.json`` is written once, at the
end, and is the truth about the run whatever the final status of the application says.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

from dkeras_core.errors import DkerasError, StorageError


def now() -> str:
    """Return the time in UTC as ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Progress:
    """The state of a run and the thread that writes it.

    Parameters
    ----------
    storage : Storage
        Where the run's folder stands.
    folder : str
        ``<root>/runs/<run id>``.
    run, application : str
        Identifiers that are repeated in every state.
    interval : float
        Seconds between writes while something changes; an unchanged state is written again every 5 s, so that a
        reader can tell a silent driver from a dead one.
    """

    HEARTBEAT = 5.0

    def __init__(self, storage, folder: str, run: str, application: str, interval: float = 1.0):
        self._storage, self._path, self._interval = storage, f"{folder}/progress.json", interval
        self._result_path = f"{folder}/result.json"
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._state = {
            "run": run,
            "application": application,
            "phase": "starting",
            "started": now(),
            "updated": now(),
            "phases": [],
            "epoch": 0.0,
            "epochs": 0,
            "rows": 0,
            "rows_total": 0,
            "rows_per_second": 0.0,
            "loss": None,
            "validation": None,
            "exchange_share": None,
            "workers": None,
            "message": "",
        }
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> Progress:
        self._write()
        self._thread.start()
        return self

    def update(self, **values) -> None:
        """Set fields of the state (see docs/operating.md for the fields)."""
        with self._lock:
            self._state.update(values)
        self._changed.set()

    def message(self, text: str) -> None:
        """Say in one line what is going on; it also goes to the driver's log."""
        print(f"dkeras: {text}", file=sys.stderr, flush=True)
        self.update(message=text)

    @contextmanager
    def phase(self, name: str):
        """Mark a phase as running and, at the end, as done, reused or failed, with its seconds.

        Yields a dictionary in which the phase may set ``state`` (``"reused"``) and ``detail`` (one line).
        """
        entry = {"name": name, "started": now(), "seconds": None, "state": "running", "detail": ""}
        begun = time.monotonic()
        with self._lock:
            self._state["phases"].append(entry)
            self._state.update(phase=name, message="")
        self._changed.set()
        outcome = {"state": "done", "detail": ""}
        try:
            yield outcome
        except BaseException:
            outcome["state"] = "failed"
            raise
        finally:
            with self._lock:
                entry.update(seconds=round(time.monotonic() - begun, 2), **outcome)
            self._changed.set()
            print(f"dkeras: {name} {entry['state']} after {entry['seconds']} s {entry['detail']}", file=sys.stderr)

    @property
    def phases(self) -> list[dict]:
        with self._lock:
            return [dict(phase) for phase in self._state["phases"]]

    def close(self, result: dict, error: BaseException | None = None) -> None:
        """Write ``result.json`` and the last ``progress.json``; ``result`` holds what the steps produced."""
        self._closing.set()
        self._changed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        record = {
            "run": self._state["run"],
            "application": self._state["application"],
            "status": "failed" if error is not None else "succeeded",
            "published": None,
            "version": None,
            "phases": self.phases,
            "ended": now(),
            "error": describe(error) if error is not None else None,
            **result,
        }
        self._storage.write_atomic(self._result_path, json.dumps(record, indent=1).encode())
        self.update(phase="failed" if error is not None else "done", message=record["error"]["what"] if error else "")
        self._write()

    def _write(self) -> None:
        with self._lock:
            self._state["updated"] = now()
            data = json.dumps(self._state).encode()
        self._storage.write_atomic(self._path, data)

    def _run(self) -> None:
        written = 0.0
        while not self._closing.is_set():
            self._changed.wait(self.HEARTBEAT)
            self._changed.clear()
            wait = self._interval - (time.monotonic() - written)
            if wait > 0 and self._closing.wait(wait):
                break
            try:
                self._write()
            except StorageError as error:  # a NameNode that fails over must not end a training
                print(f"dkeras: progress could not be written: {error}", file=sys.stderr, flush=True)
            written = time.monotonic()


def describe(error: BaseException) -> dict:
    """Return an exception as the ``error`` object of ``result.json``."""
    if isinstance(error, DkerasError):
        return {
            "type": type(error).__name__,
            "what": error.what,
            "next": error.next_step,
            "exit_code": error.exit_code,
        }
    return {
        "type": type(error).__name__,
        "what": str(error) or type(error).__name__,
        "next": "read the traceback in the driver's log",
        "exit_code": 1,
    }
