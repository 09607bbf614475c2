"""This host as Hadoop sees it: its memory and cores, its name, and the user."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from pathlib import Path

from dkeras_core.errors import ClusterError

MIB = 1024 * 1024


def memory_mb() -> int:
    """Return the memory in MiB, or the limit of the control group around this process if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):  # not this version of control groups, or "max"
            continue
    return memory // MIB


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def user() -> str:
    """Return the name under which Hadoop knows this process: that of the operating system, whatever $USER says.

    Raises
    ------
    ClusterError
        The user number has no name; Java refuses to log in then.
    """
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise ClusterError(
            f"user number {os.getuid()} has no name on this host, and Hadoop needs one",
            "run as a user that /etc/passwd lists",
        ) from None


def check() -> None:
    """Raise ClusterError when daemons cannot run here at all."""
    if sys.platform != "linux":
        raise ClusterError("the single-node Hadoop runs on Linux only", "set HADOOP_CONF_DIR to use a cluster")
    user()
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError as error:
        raise ClusterError(
            f"the name of this host, {name}, has no address ({error}); Hadoop's daemons end on that",
            f"add the line `127.0.0.1 {name}` to /etc/hosts",
        ) from error
