"""What goes to and fro on standard error: a question, and what is being done while it takes seconds."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich.text import Text

from dkeras_core.cli.console import stderr
from dkeras_core.cli.models.tables import safe
from dkeras_core.errors import Interrupted

QUIET = 1.0
"""Seconds in which a log is told nothing: most things are done by then."""


def possible() -> bool:
    """Whether a person sits there who can be asked."""
    return sys.stdin.isatty() and stderr().is_terminal


def say(text: str) -> None:
    stderr().print(Text(safe(text)), soft_wrap=True)


def confirm(question: str) -> None:
    """Go on when the answer is yes; Interrupted for anything else, Ctrl-C and end of input included."""
    stderr().print(Text.assemble(question, " ", ("y", "bold"), "/", ("N", "bold"), " "), end="", soft_wrap=True)
    try:
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        stderr().print()
    if answer.strip().lower() not in ("y", "yes"):
        raise Interrupted("nothing was changed")


@contextlib.contextmanager
def working(title: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: on a terminal one line that vanishes at the end, in a log a line for what takes long."""
    if not stderr().is_terminal:
        begun = time.monotonic()
        yield lambda text: say(text) if time.monotonic() - begun > QUIET else None
        return
    with stderr().status(_one_line(title)) as display:
        yield lambda text: display.update(_one_line(f"{title}: {text}"))


def _one_line(text: str) -> Text:
    line = Text(safe(text))
    line.truncate(stderr().width - 4, overflow="ellipsis")  # the spinner stands before it
    return line
