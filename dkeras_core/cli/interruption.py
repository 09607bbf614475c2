"""What Ctrl-C and SIGTERM mean while an application runs: ask once on a terminal, end the application elsewhere."""

from __future__ import annotations

import contextlib
import select
import signal
import sys
from collections.abc import Iterator

from dkeras_core.cli.console import stderr
from dkeras_core.errors import ClusterError, Interrupted
from dkeras_core.yarn.resource_manager import ResourceManager

ANSWER_DEADLINE = 20.0
"""Seconds to answer whether the application shall be killed."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C does, so that what it has begun is cleaned up."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted(rm: ResourceManager, app_id: str, run_id: str) -> Interrupted:
    """Decide what becomes of the application after Ctrl-C and return the exception that ends the command."""
    left = Interrupted(
        f"no longer following {run_id}; {app_id} goes on",
        f"`dkeras follow {run_id}` follows it again, `dkeras kill {run_id}` ends it",
    )
    if sys.stdin.isatty() and stderr().is_terminal and not _asked_to_kill(app_id):
        return left
    stderr().print(f"ending {app_id}", soft_wrap=True)
    try:
        app = rm.kill(app_id)
    except KeyboardInterrupt:
        return Interrupted(f"stopped while {app_id} was being ended", f"`dkeras kill {run_id}` ends it for certain")
    except ClusterError as error:
        return Interrupted(f"{app_id} may still run: {error.what}", error.next_step)
    if app.state == "KILLED":
        return Interrupted(f"{app_id} was killed", None)
    return Interrupted(f"{app_id} had already ended ({app.final_status or app.state})", None)


def _asked_to_kill(app_id: str) -> bool:
    """Ask on the terminal; no answer, anything but yes and a second Ctrl-C all leave the application running."""
    stderr().print(f"\nkill {app_id}? [bold]y[/]/[bold]N[/] ({ANSWER_DEADLINE:.0f} s) ", end="", soft_wrap=True)
    try:
        ready, _, _ = select.select([sys.stdin], [], [], ANSWER_DEADLINE)
        answer = sys.stdin.readline() if ready else ""
    except KeyboardInterrupt:
        answer = ""
    if not answer.endswith("\n"):
        stderr().print()
    return answer.strip().lower() in ("y", "yes")
