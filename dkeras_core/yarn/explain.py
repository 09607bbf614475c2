"""Why an application failed: the container that failed, its exit status in words, the Python error, last lines."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dkeras_core.yarn.answers import Application
from dkeras_core.yarn.container_logs import ContainerLogs
from dkeras_core.yarn.exit_status import meaning

_LINES = 15
_AM_EXIT = re.compile(r"exited with\s+exitCode: (-?\d+)")
_LAUNCHED = re.compile(r"Launching container (container_\w+) on host (\S+) for executor with ID (\d+)")
_LOST = re.compile(r"Lost executor (\d+) on (\S+?): (.+)")
_STATUS = re.compile(r"(?:Exit status|exit status|Exit code is|exited with code):? (-?\d+)")
_CONTAINER = re.compile(r"container_\w+")
_USED = re.compile(r"([\d.]+ [KMGT]B) of ([\d.]+ [KMGT]B) (?:physical|virtual) memory used")
_RAISED = re.compile(r"^(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*(?:Error|Exception|Interrupt|Exists|Missing|Exit)): ?(.*)$")
_RECORD = re.compile(r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d ([A-Z]+) ")
_JAVA_FRAME = re.compile(r"\s+(at [\w.$/]+\(|\.\.\. \d+ more)")
_CONTAINER_PATH = re.compile(r"/\S*/appcache/application_\w+/container_\w+/")
_NOISE = (
    "Using incubator modules", "default log4j profile", "^^^^", "before absl::InitializeLog", "oneDNN custom",
)  # fmt: skip
# What ends executors without being the cause of anything.
_HARMLESS = ("Executor killed by driver", "Driver commanded a shutdown", "exit status: 0", "Exit status: 0")


@dataclass(frozen=True)
class Explanation:
    """``what`` and ``next_step`` for the error message; the lines and where the whole log is, for the screen."""

    what: str
    next_step: str | None
    container: str
    role: str
    lines: tuple[str, ...]
    where: str
    killed: bool = False
    """Whether something outside the program ended the container: YARN, the kernel, a crash."""


@dataclass(frozen=True)
class LostExecutor:
    """An executor that the driver lost: ``status`` is YARN's exit status of its container, None when not told."""

    executor: str
    host: str
    container: str
    status: int | None
    reason: str


def explain(app: Application, logs: ContainerLogs) -> Explanation:
    """Return the most probable cause of the failure of ``app``.

    In the order of what explains more: an executor that YARN or the kernel killed, a driver that was killed, the
    Python error that ended the driver, and last the ResourceManager's own words.
    """
    stdout, stderr = (logs.read(app.am_container, name) if app.am_container else "" for name in ("stdout", "stderr"))
    lost = lost_executors(stderr)
    killed = next((one for one in lost if one.status is not None and (one.status < 0 or one.status >= 50)), None)
    if killed:
        return _explain_executor(killed, logs)
    status = am_exit_status(app.diagnostics)
    cause = python_error(stdout) or python_error(stderr)
    if status is not None and (status < 0 or status >= 50 or not cause):
        said = meaning(status, driver=True)
        what = f"the driver failed: {said.what}{_used(app.diagnostics)}"
        return replace(_driver(app, logs, what, said.next_step, stdout, stderr), killed=status < 0 or status > 128)
    if cause:
        what, next_step = cause
        return _driver(app, logs, what, next_step, stdout, stderr)
    if lost:
        return _explain_executor(lost[0], logs)
    return _driver(
        app, logs, _first_sentence(app.diagnostics) or f"{app.id} ended as {app.final_status}", None, stdout, stderr
    )


def lost_executors(driver_log: str) -> list[LostExecutor]:
    """Return the executors that the driver's log says were lost, in the order in which they were."""
    containers = {executor: container for container, _, executor in _LAUNCHED.findall(driver_log)}
    found = []
    for executor, host, reason in _LOST.findall(driver_log):
        if any(words in reason for words in _HARMLESS):
            continue
        status = _STATUS.search(reason)
        named = _CONTAINER.search(reason)
        code = int(status[1]) if status else None
        if code is None and "exceeding physical memory" in reason:
            code = -104
        elif code is None and "exceeding virtual memory" in reason:
            code = -103
        elif code is None and "preempted" in reason:
            code = -102
        found.append(LostExecutor(executor, host, named[0] if named else containers.get(executor, ""), code, reason))
    return found


def am_exit_status(diagnostics: str) -> int | None:
    """Return the exit status of the application master's container that the ResourceManager reports."""
    found = _AM_EXIT.search(diagnostics)
    return int(found[1]) if found else None


def python_error(text: str) -> tuple[str, str | None] | None:
    """Return the error that ended a Python program, from its output, with its next step when it names one.

    An error of this package names its own cause, so the last of those wins; otherwise the last line of the last
    traceback does. Spark repeats a worker's traceback within its own, whose last line is the worker's.
    """
    lines = text.splitlines()
    raised = []
    for index, line in enumerate(lines):
        match = _RAISED.match(line.strip())
        if match and not line.startswith("\t") and _after_traceback(lines, index):
            raised.append((index, line.strip(), match))
    if not raised:
        return None
    ours = [found for found in raised if found[1].startswith("dkeras_core.")]
    index, line, match = (ours or raised)[-1]
    follows = lines[index + 1].strip() if index + 1 < len(lines) else ""
    next_step = follows.removeprefix("next: ") if follows.startswith("next: ") else None
    return (match[2] or match[1]) if ours else line, next_step


def _after_traceback(lines: list[str], index: int) -> bool:
    """Whether the line closes a traceback: an indented frame stands right before it."""
    return index > 0 and (lines[index - 1].startswith("  ") or lines[index - 1].startswith("Traceback"))


def _explain_executor(lost: LostExecutor, logs: ContainerLogs) -> Explanation:
    container = lost.container or logs.executor(lost.executor) or ""
    # The nodes' web servers have the same port everywhere but on the single node, whose logs are on this disk.
    web = f"{lost.host}:{logs.app.am_host.rpartition(':')[2]}"
    if lost.status is None:
        what, next_step = lost.reason[:300], "read the executor's log"
    else:
        what, next_step = meaning(lost.status)
    output = logs.read(container, "stderr", web) if container else ""
    return Explanation(
        f"executor {lost.executor} on {lost.host} was lost: {what}{_used(lost.reason)}",
        next_step,
        container,
        f"executor {lost.executor}",
        last_lines(output),
        logs.where(container),
        killed=lost.status is not None,
    )


def _driver(app, logs: ContainerLogs, what: str, next_step: str | None, stdout: str, stderr: str) -> Explanation:
    # Python's output is on stdout: Spark merges what the driver's program prints on both.
    shown = last_lines(stdout) if python_error(stdout) else last_lines(f"{stderr}\n{stdout}")
    return Explanation(what, next_step, app.am_container, "driver", shown, logs.where(app.am_container))


def last_lines(text: str, count: int = _LINES) -> tuple[str, ...]:
    """Return the last lines that say something: no routine records, no Java stack, no paths of the container."""
    kept, routine = [], False
    for line in text.splitlines():
        record = _RECORD.match(line)
        if record:
            routine = record[1] in ("INFO", "DEBUG") or "NativeCodeLoader" in line
        # What follows a record without a time of its own belongs to it.
        if routine or not line.strip() or any(noise in line for noise in _NOISE) or _JAVA_FRAME.match(line):
            continue
        kept.append(_CONTAINER_PATH.sub("", line.rstrip())[:300])
    return tuple(kept[-count:])


def _used(text: str) -> str:
    found = _USED.search(text)
    return f"; {found[1]} of {found[2]} were used" if found else ""


def _first_sentence(diagnostics: str) -> str:
    return " ".join(diagnostics.split())[:300]
