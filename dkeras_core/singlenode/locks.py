"""A lock on a file, held by the open file: it ends with the process that holds it, whatever kills that."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dkeras_core.errors import ClusterError


@contextmanager
def locked(path: Path, *, what: str, timeout: float, progress: Callable[[str], None] | None = None) -> Iterator:
    """Hold ``path`` exclusively, waiting at most ``timeout`` seconds.

    Parameters
    ----------
    path : Path
        The lock file; it is made and never removed.
    what : str
        What is locked, for the message: "the cluster in build/cluster".
    timeout : float
        Seconds.
    progress : callable, optional
        Told once when the lock is held by somebody else.

    Raises
    ------
    ClusterError
        The folder cannot be written, or the lock was not free in time (names the process that holds it).
    """
    deadline = time.monotonic() + timeout
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+")
    except OSError as error:
        raise ClusterError(f"{path.parent} cannot be written: {error}", "choose a folder of your own") from error
    with opened as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and progress:
                    progress(f"waiting for process {_holder(path)}, which is at work on {what}")
                told = True
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"process {_holder(path)} has held {what} for more than {timeout:.0f} s ({path})",
                    "wait for it, or end it and try again",
                )
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _holder(path: Path) -> str:
    return path.read_text().strip() or "(unknown)"
