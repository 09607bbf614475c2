"""How a run that is followed looks: a live picture on a terminal, one line a change everywhere else."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from dkeras_core.cli.console import MARKS, duration, stderr
from dkeras_core.yarn.follow import View

STEPS = ("preprocess", "train", "evaluate", "publish")
_EVERY = 5.0  # seconds between lines that say only how far a phase is
_NOTES_EVERY = 20.0
_MUCH = 0.1  # share of exchanges and waiting from which it is shown


def display(run_id: str, app_id: str, steps: tuple[str, ...] = STEPS, console: Console | None = None):
    """Return the display that fits the console: use it as a context manager and call ``show(view)``."""
    console = console or stderr()
    kind = LiveDisplay if console.is_terminal else PlainDisplay
    return kind(run_id, app_id, steps, console)


class LiveDisplay:
    """Phases with ticks and seconds, a bar of the epochs, rows/s, loss and workers; redrawn in place."""

    def __init__(self, run_id: str, app_id: str, steps: tuple[str, ...], console: Console):
        self._title = f"{run_id}  {app_id}"
        self._steps = steps
        self._started = time.monotonic()
        self._view = View(None, None, None)
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8)

    def __enter__(self) -> LiveDisplay:
        self._live.start()
        return self

    def __exit__(self, *_) -> None:
        self._live.stop()

    def show(self, view: View) -> None:
        self._view = view

    def _render(self) -> Group:
        view, progress = self._view, self._view.progress or {}
        head = Text(self._title, style="dim")
        head.append(f"  {duration(time.monotonic() - self._started)}")
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for row in self._rows(view, progress):
            grid.add_row(*row)
        notes = [Text(f"  {note}", style="yellow") for note in view.notes]
        return Group(head, grid, *training(progress), *notes)

    def _rows(self, view: View, progress: dict):
        known = {phase["name"]: phase for phase in progress.get("phases", [])}
        state = view.app.state if view.app else "…"
        if progress or (view.app and view.app.ended):
            yield Text("✓", style="green"), Text("application"), Text(""), Text(state.lower(), style="dim")
        else:
            yield self._spinner, Text("application"), Text(""), Text(_WORDS.get(state, state.lower()), style="dim")
        for name in dict.fromkeys((*self._steps, *known)):
            phase = known.get(name, {"state": "waiting", "detail": ""})
            detail = phase.get("detail") or (progress.get("message", "") if phase["state"] == "running" else "")
            yield self._mark(phase["state"]), Text(name), Text(_seconds(phase), style="dim"), Text(detail, style="dim")

    def _mark(self, state: str):
        mark, colour = MARKS.get(state, ("", ""))
        return self._spinner if state == "running" else Text(mark, style=colour)


_WORDS = {
    "ACCEPTED": "accepted, waiting for a container",
    "SUBMITTED": "submitted",
    "RUNNING": "starting the driver and its executors",
}


def training(progress: dict):
    """Yield the lines about the training: the bar and the numbers; nothing before and after it."""
    if progress.get("phase") != "train" or not progress.get("epochs"):
        return
    bar = Table.grid(padding=(0, 1))
    bar.add_column(width=2)
    bar.add_column(width=40)
    bar.add_column()
    bar.add_row("", ProgressBar(total=progress["epochs"], completed=progress["epoch"], width=40), _epochs(progress))
    yield bar
    yield Text(f"   {numbers(progress)}", style="dim")


def numbers(progress: dict) -> str:
    """``84,000 rows/s, loss 0.412, val_loss 0.405, workers 2 of 2``: what is known of these."""
    parts = []
    if progress.get("rows_per_second"):
        parts.append(f"{progress['rows_per_second']:,.0f} rows/s")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4f}")
    measured = progress.get("validation") or {}
    parts += [f"{name} {value:.4f}" for name, value in measured.items() if name != "epoch" and value is not None]
    if (progress.get("exchange_share") or 0) >= _MUCH:
        parts.append(f"exchange {progress['exchange_share']:.0%} of the time")
    workers = progress.get("workers")
    if workers:
        done = f", {workers['finished']} done" if workers.get("finished") else ""
        parts.append(f"workers {workers.get('joined', 0)} of {workers.get('expected', '?')}{done}")
    return ", ".join(parts)


def _epochs(progress: dict) -> str:
    return f"epoch {progress['epoch']:.1f} of {progress['epochs']}"


def _seconds(phase: dict) -> str:
    if phase.get("seconds") is not None:
        return duration(phase["seconds"])
    if phase["state"] == "running" and phase.get("started"):
        begun = datetime.fromisoformat(phase["started"])
        return duration(max(0.0, (datetime.now(UTC) - begun).total_seconds()))
    return ""


class PlainDisplay:
    """One line when something changes, and one every few seconds while a training goes on; for logs and pipes."""

    def __init__(self, run_id: str, app_id: str, steps: tuple[str, ...], console: Console):
        self._console = console
        self._said: set[str] = set()
        self._spoken = 0.0
        self._noted = 0.0
        self._say(f"following {run_id} ({app_id})")

    def __enter__(self) -> PlainDisplay:
        return self

    def __exit__(self, *_) -> None:
        pass

    def show(self, view: View) -> None:
        progress = view.progress or {}
        if view.app:
            self._once(f"application {view.app.state.lower()}")
        for phase in progress.get("phases", []):
            if phase["state"] == "running":
                self._once(f"{phase['name']}: running")
            else:
                detail = f" ({phase['detail']})" if phase.get("detail") else ""
                self._once(f"{phase['name']}: {phase['state']}{detail}, {_seconds(phase)}")
        if time.monotonic() - self._spoken < _EVERY:
            return
        if progress.get("phase") == "train" and progress.get("epochs"):
            self._once(f"train: {_epochs(progress)}, {numbers(progress)}")
        elif progress.get("message"):
            self._once(progress["message"])
        if time.monotonic() - self._noted > _NOTES_EVERY:
            for note in view.notes:
                self._noted = time.monotonic()
                self._say(note)

    def _once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._say(text)

    def _say(self, text: str) -> None:
        self._spoken = time.monotonic()
        self._console.print(text, soft_wrap=True, markup=False)
