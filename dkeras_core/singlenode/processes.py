"""Processes as /proc shows them: identified beyond reuse of their numbers, started detached, ended with a deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_PAGE = os.sysconf("SC_PAGE_SIZE")

#: Children of this Python; asked now and then, so that none stays behind as a zombie.
_children: list[subprocess.Popen] = []


@dataclass(frozen=True)
class Process:
    """A process: its number and its start, in clock ticks since boot. Both together are never given twice."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the living process ``pid``, or None (a zombie has ended)."""
        try:
            text = (PROC / str(pid) / "stat").read_text()
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # the name before it may hold anything
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]))

    def alive(self) -> bool:
        for child in _children[:]:
            if child.poll() is not None:
                _children.remove(child)
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended meanwhile."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def command(self) -> list[str]:
        return _strings(self.pid, "cmdline")

    def environment(self) -> list[str]:
        return _strings(self.pid, "environ")

    def folder(self) -> str:
        try:
            return os.readlink(PROC / str(self.pid) / "cwd")
        except OSError:
            return ""

    def has_terminal(self) -> bool:
        try:
            return (PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()[4] != "0"
        except OSError:
            return False

    def memory(self) -> int:
        """Resident memory in bytes; 0 when the process has ended."""
        try:
            return int((PROC / str(self.pid) / "statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError):
            return 0


def _strings(pid: int, name: str) -> list[str]:
    try:
        return (PROC / str(pid) / name).read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:  # ended, or of another user
        return []


def every() -> Iterator[Process]:
    """All living processes."""
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (process := Process.of(int(entry.name))):
            yield process


def start(command: list[str], *, environment: dict[str, str], folder: Path, output: Path) -> Process:
    """Start ``command`` so that it outlives this process and its terminal: a session of its own, no standard input,
    its output appended to the file ``output``."""
    with output.open("ab") as file:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
    _children.append(child)
    return Process.of(child.pid) or Process(child.pid, -1)


def end(processes: Iterable[Process], *, seconds: float) -> list[Process]:
    """Ask processes to end (TERM), end those by force (KILL) that have not after ``seconds``; return the latter."""
    processes = list(processes)
    for process in processes:
        process.send(signal.SIGTERM)
    if not (stubborn := _left(processes, seconds)):
        return []
    for process in stubborn:
        process.send(signal.SIGKILL)
    _left(stubborn, 10.0)
    return stubborn


def _left(processes: list[Process], seconds: float) -> list[Process]:
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if process.alive()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def containers_below(local: Path) -> list[Process]:
    """Return the container processes of the NodeManager whose local directory is ``local``.

    A container runs in a session of its own and survives its NodeManager. It is known by its environment
    (CONTAINER_ID, and paths below ``local``), or by its working directory. A process at a terminal is a person who
    looks around there, and is left alone, as are this process and those that started it.
    """
    prefix = f"{local}/usercache/"
    ours = set(_ancestors(os.getpid()))
    found = []
    for process in every():
        if process.pid in ours or process.has_terminal():
            continue
        environment = process.environment()
        in_container = any(entry.startswith("CONTAINER_ID=") for entry in environment) and any(
            prefix in entry for entry in environment
        )
        launched = "/container_" in " ".join(process.command()) and any(
            prefix in argument for argument in process.command()
        )
        if in_container or launched or f"{process.folder()}/".startswith(prefix):
            found.append(process)
    return found


def _ancestors(pid: int) -> Iterator[int]:
    while pid > 0:
        yield pid
        try:
            pid = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
