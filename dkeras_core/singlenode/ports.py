"""Ports on the loopback interface: free ones, and who holds one that is not."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from dkeras_core.errors import ClusterError

HOST = "127.0.0.1"
#: Below the range from which Linux takes the ports of outgoing connections: one of those could otherwise sit on a
#: port of a daemon that is down for a moment.
RANGE = range(20000, 32768)
LISTEN = "0A"
_UNKNOWN = "another process"
_ENDING_SECONDS = 5.0


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java does: TIME_WAIT is no obstacle
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def is_left(port: int) -> bool:
    """Whether a server could listen on ``port`` now or in a moment.

    The first thread of a process that was killed is gone, and with it the process for most who ask, before its last
    thread has let go of the ports. So one that nobody seems to hold is waited for.
    """
    deadline = time.monotonic() + _ENDING_SECONDS
    while not is_free(port):
        if time.monotonic() > deadline or holder(port) != _UNKNOWN:
            return False
        time.sleep(0.05)
    return True


def pick(names: Collection[str], *, avoid: Collection[int] = ()) -> dict[str, int]:
    """Return a free port for each of ``names``, none of them in ``avoid``.

    Raises
    ------
    ClusterError
        The range has too few free ports.
    """
    chosen: dict[str, int] = {}
    candidates = iter(random.sample(RANGE, len(RANGE)))  # random: two clusters may choose at the same moment
    for name in names:
        for port in candidates:
            if port not in avoid and is_free(port):
                chosen[name] = port
                break
        else:
            raise ClusterError(
                f"no free port between {RANGE.start} and {RANGE.stop - 1} on {HOST}", "end what holds them"
            )
    return chosen


def holder(port: int) -> str:
    """Return who listens on ``port``, as far as /proc tells: "process 4711 (python -m http.server)"."""
    inodes = _listening(port)
    for folder in Path("/proc").glob("[0-9]*") if inodes else ():
        if inodes & set(open_files(folder / "fd")):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended just now
                continue
            return f"process {folder.name} ({b' '.join(words).decode(errors='replace').strip()[:120]})"
    return _UNKNOWN


def open_files(folder: Path) -> Iterator[str]:
    """What the descriptors in ``/proc/<pid>/fd`` stand for: paths, and "socket:[inode]"."""
    with contextlib.suppress(OSError):  # ended meanwhile, or of another user
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                yield os.readlink(file)


def _listening(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes
