"""Terminal output: the two consoles, and a list of steps that run side by side with ticks and seconds."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
MARKS = {"done": ("✓", "green"), "reused": ("✓", "cyan"), "failed": ("✗", "red"), "waiting": ("·", "dim")}


@functools.cache
def stdout() -> Console:
    """For results: what a script may read."""
    return Console(highlight=False)


@functools.cache
def stderr() -> Console:
    """For everything about how it goes: progress, warnings, errors."""
    return Console(stderr=True, highlight=False)


def duration(seconds: float) -> str:
    """``4.2 s``, ``37 s``, ``2 min 05 s``, ``1 h 12 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


class Step:
    """One line of :class:`Steps`."""

    def __init__(self, name: str):
        self.name = name
        self.state = "running"
        self.detail = ""
        self.started = time.monotonic()
        self.seconds: float | None = None
        self._spinner = Spinner("dots", style="cyan")

    def line(self) -> tuple:
        seconds = time.monotonic() - self.started if self.seconds is None else self.seconds
        mark, colour = MARKS.get(self.state, ("", "cyan"))
        icon = self._spinner if self.state == "running" else Text(mark, style=colour)
        return (
            icon,
            Text(self.name),
            Text(duration(seconds), style="dim"),
            Text(self.detail, style="dim", overflow="ellipsis"),
        )


class Steps:
    """Steps that may run in several threads, shown live on a terminal and as one line each elsewhere.

    Use as a context manager, and each step as one::

        with Steps() as steps, steps.step("environment") as step:
            step.detail = "reused"
    """

    def __init__(self, console: Console | None = None):
        self._console = console or stderr()
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self._live = (
            Live(console=self._console, get_renderable=self._render, refresh_per_second=8, transient=False)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> Steps:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_) -> None:
        if self._live:
            self._live.stop()

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Show a step while the block runs; it fails when the block raises."""
        step = Step(name)
        with self._lock:
            self._steps.append(step)
        try:
            yield step
            if step.state == "running":
                step.state = "done"
        except BaseException:
            step.state = "failed"
            raise
        finally:
            step.seconds = time.monotonic() - step.started
            if not self._live:
                detail = f" ({step.detail})" if step.detail else ""
                self._console.print(
                    f"{name}: {step.state}{detail}, {duration(step.seconds)}", soft_wrap=True, markup=False
                )

    def run(self, name: str, work: Callable[[Step], T]) -> T:
        """Run ``work(step)`` as a step and return what it returns."""
        with self.step(name) as step:
            return work(step)

    def _render(self) -> Group:
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(no_wrap=True)
        grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        with self._lock:
            for step in self._steps:
                grid.add_row(*step.line())
        return Group(grid)
