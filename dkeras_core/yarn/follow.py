"""Watch a run until it ends: what the driver writes to HDFS, beside what the ResourceManager says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from dkeras_core import errors
from dkeras_core.errors import ClusterError, DkerasError, PathMissing, StorageError
from dkeras_core.storage.base import Storage
from dkeras_core.yarn.answers import Application
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.waiting import why_waiting

POLL = 0.7
SILENCE_DEADLINE = 600.0
"""Seconds that neither the ResourceManager nor HDFS may answer before following is given up."""
_STALLED = 60.0  # the driver writes progress.json at least every 5 s
_FORGOTTEN = 10.0
_RESULT_GRACE = 20.0


@dataclass(frozen=True)
class View:
    """One look at a run; what could not be read is as it was at the look before."""

    app: Application | None
    progress: dict | None
    result: dict | None
    notes: tuple[str, ...] = ()
    """Why nothing moves, in words; empty when all is well."""


@dataclass
class Watch:
    """Looks at one application of a run.

    Parameters
    ----------
    rm : ResourceManager
        The cluster's.
    app_id : str
        The application.
    storage : Storage
        The file system the run's folder is on.
    folder : str
        ``<root>/runs/<run id>``; progress.json and result.json of other applications there are ignored.
    """

    rm: ResourceManager
    app_id: str
    storage: Storage
    folder: str
    _view: View = field(default=View(None, None, None))
    _trouble: dict[str, tuple[float, str]] = field(default_factory=dict)
    _moved: float = field(default_factory=time.monotonic)
    _stamp: str = ""
    _unknown: float | None = None

    def views(self, poll: float = POLL) -> Iterator[View]:
        """Yield a view every ``poll`` seconds; the last one is of the ended application.

        Raises
        ------
        ClusterError
            When nothing answers for ``SILENCE_DEADLINE`` seconds, or the ResourceManager has forgotten the
            application.
        """
        while True:
            started = time.monotonic()
            yield self.look()
            if self.ended:
                return
            time.sleep(max(0.0, poll - (time.monotonic() - started)))

    def look(self) -> View:
        """Return the state as of now."""
        app = self._ask("the ResourceManager", lambda: self.rm.app(self.app_id), self._view.app)
        progress = self._ask("HDFS", lambda: self._read("progress.json"), None) or self._view.progress
        result = self._view.result
        if result is None and (app is None or app.ended or (progress or {}).get("phase") in ("done", "failed")):
            result = self._ask("HDFS", lambda: self._read("result.json"), None)
        if progress and progress.get("updated") != self._stamp:
            self._stamp, self._moved = progress.get("updated"), time.monotonic()
        self._check_silence()
        self._view = View(app, progress, result, tuple(self._notes(app, progress)))
        return self._view

    def _ask(self, whom: str, question, before):
        try:
            answer = question()
        except (ClusterError, StorageError) as error:
            since, _ = self._trouble.get(whom, (time.monotonic(), ""))
            self._trouble[whom] = (since, error.what)
            return before
        self._trouble.pop(whom, None)
        return answer

    def _read(self, name: str) -> dict | None:
        try:
            found = json.loads(self.storage.read_bytes(f"{self.folder}/{name}"))
        except (PathMissing, ValueError):
            return None
        return found if found.get("application") == self.app_id else None

    def _check_silence(self) -> None:
        silent = [time.monotonic() - since for since, _ in self._trouble.values()]
        if len(silent) == 2 and min(silent) > SILENCE_DEADLINE:
            reasons = "; ".join(what for _, what in self._trouble.values())
            raise ClusterError(
                f"the cluster has not answered for {SILENCE_DEADLINE:.0f} s: {reasons}",
                f"the application {self.app_id} may still run; follow it again when the cluster is back",
            )

    def _notes(self, app: Application | None, progress: dict | None) -> Iterator[str]:
        for whom, (since, what) in self._trouble.items():
            silent = time.monotonic() - since
            if silent > 3:
                yield f"{whom} has not answered for {silent:.0f} s: {what}"
        if app is not None and not app.ended:
            yield from why_waiting(app, progress, self.rm)
        quiet = time.monotonic() - self._moved
        if progress and quiet > _STALLED and app is not None and app.state == "RUNNING":
            yield f"the driver has given no sign of life for {quiet:.0f} s"

    @property
    def ended(self) -> bool:
        """Whether the last look was at the end: the application has ended, or nobody knows it any more."""
        app, result = self._view.app, self._view.result
        if app is not None and app.ended:
            return True
        if "the ResourceManager" in self._trouble or app is not None:
            return False
        # It answers, and does not know the application: a restart without recovery, or an old application.
        self._unknown = self._unknown or time.monotonic()
        return result is not None or time.monotonic() - self._unknown > _FORGOTTEN


def conclude(view: View, app_id: str) -> dict:
    """Return result.json of a run that succeeded, or raise what made it fail.

    result.json is the truth; the ResourceManager's final status only decides when there is none.

    Raises
    ------
    DkerasError
        The error that result.json records, as its own class with its exit code; ClusterError when the
        application ended without a result.
    """
    result, app = view.result, view.app
    if result is None:
        if app is None:
            raise ClusterError(
                f"the ResourceManager does not know {app_id}, and the run has no result",
                "the cluster was restarted or has forgotten old applications; submit again",
            )
        if app.state == "KILLED":
            raise ClusterError(f"{app_id} was killed: {app.diagnostics.strip() or 'no reason is given'}", None)
        raise ClusterError(f"{app_id} ended as {app.final_status} without a result: {app.diagnostics.strip()[:300]}")
    if result["status"] != "succeeded":
        raise recorded_error(result.get("error") or {})
    return result


def recorded_error(error: dict) -> DkerasError:
    """Return the exception that result.json describes."""
    kind = getattr(errors, str(error.get("type")), None)
    ours = isinstance(kind, type) and issubclass(kind, DkerasError)
    what = error.get("what") or "the run failed"
    if not ours:
        kind, what = ClusterError, f"{error.get('type')}: {what}"
    made = kind(what, error.get("next"))
    made.exit_code = error.get("exit_code") or made.exit_code
    return made
