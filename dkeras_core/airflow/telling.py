"""What the log of a waiting task says about its application: each change once, progress now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from dkeras_core.yarn.follow import View

_EVERY = 30.0  # seconds between two lines about a training that goes well
_NOTES = 60.0  # and between two lines about the same trouble


class Telling:
    """Turns looks at a run into lines; ``say`` receives each."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._say, self._clock = say, clock
        self._state = self._phase = ""
        self._told: dict[str, float] = {}

    def tell(self, view: View) -> None:
        app, progress = view.app, view.progress or {}
        if app is not None and app.state != self._state:
            self._state = app.state
            self._say(f"{app.id} is {app.state}{f' ({app.final_status})' if app.ended else ''}")
        for phase in progress.get("phases", ()):
            name = f"{phase['name']} {phase['state']}"
            if name not in self._told:
                self._told[name] = self._clock()
                took = f" after {phase['seconds']:.1f} s" if phase.get("seconds") else ""
                self._say(f"{name}{took} {phase.get('detail') or ''}".rstrip())
        if progress.get("epochs") and progress.get("phase") == "train" and self._due("epoch", _EVERY):
            self._say(_epoch(progress))
        for note in view.notes:
            if self._due("".join(c for c in note if not c.isdigit()), _NOTES):
                self._say(note)

    def _due(self, what: str, seconds: float) -> bool:
        now = self._clock()
        if now - self._told.get(what, -seconds) < seconds:
            return False
        self._told[what] = now
        return True


def _epoch(progress: dict) -> str:
    parts = [f"epoch {progress['epoch']:.1f} of {progress['epochs']}"]
    if progress.get("rows_per_second"):
        parts.append(f"{progress['rows_per_second']:,.0f} rows/s")
    if isinstance(progress.get("loss"), float):
        parts.append(f"loss {progress['loss']:.4f}")
    return ", ".join(parts)
