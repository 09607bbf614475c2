"""Progress of the long stages: a bar on a terminal, one plain line with the time per stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# progress(stage, fraction, detail): fraction is None while unknown, 1.0 once when the stage has ended.
Progress = Callable[[str, float | None, str], None]


def silent(stage: str, fraction: float | None, detail: str) -> None:
    """Show nothing."""


@contextmanager
def stage(progress: Progress, name: str) -> Iterator[Callable[[float, str], None]]:
    """Report the beginning and the end of a stage with its seconds; the body reports fractions in between."""
    started = time.monotonic()
    progress(name, None, "")
    last = ""

    def report(fraction: float, detail: str = "") -> None:
        nonlocal last
        last = detail or last
        progress(name, min(fraction, 0.999), detail)

    yield report
    progress(name, 1.0, f"{last + ', ' if last else ''}{time.monotonic() - started:.1f} s")


@contextmanager
def console_progress() -> Iterator[Progress]:
    """Give a progress callable that draws on standard error."""
    if not sys.stderr.isatty():

        def plain(name: str, fraction: float | None, detail: str) -> None:
            if fraction == 1.0:
                print(f"  {name}: {detail}", file=sys.stderr, flush=True)

        yield plain
        return

    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<34}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
        console=Console(stderr=True),
    )
    tasks: dict[str, int] = {}

    def draw(name: str, fraction: float | None, detail: str) -> None:
        if name not in tasks:
            tasks[name] = bars.add_task(name, total=None, detail="")
        if fraction is None:
            return
        bars.update(tasks[name], total=1.0, completed=fraction, detail=detail)

    with bars:
        yield draw
