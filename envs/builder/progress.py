"""How the long stages tell where they are; who calls decides what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, float | None, str], None]
"""``progress(stage, fraction, detail)``: fraction is None when a stage begins and 1.0 once, when it has ended."""


def silent(stage: str, fraction: float | None, detail: str) -> None:
    """Show nothing."""


@contextmanager
def stage(progress: Progress, name: str) -> Iterator[Callable[[float, str], None]]:
    """Report begin and end of a stage; the body is given ``report(fraction, detail)`` for what lies between."""
    last = ""

    def report(fraction: float, detail: str) -> None:
        nonlocal last
        last = detail
        progress(name, min(fraction, 0.999), detail)

    progress(name, None, "")
    yield report
    progress(name, 1.0, last)
