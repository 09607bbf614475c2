"""Finds the cause in what Spark raises: an error of ours from a Python worker, or the reason an executor was lost."""

from __future__ import annotations

import re

from dkeras_core import errors
from dkeras_core.errors import ClusterError, DkerasError

# A traceback in a Python worker ends with "dkeras_core.errors.DataError: what" and, perhaps, "  next: what to do".
_OURS = re.compile(r"^(?:dkeras_core\.errors\.)(\w+): (.*?)(?:\n  next: ([^\n]*))?$", re.MULTILINE)
_ANY = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit)): ?(.*)$", re.MULTILINE)
_LOST = re.compile(r"ExecutorLostFailure \(executor (\S+) exited.*?Reason: (.*?)(?:\n|$)")
_MEMORY = re.compile(r"exceeding (physical|virtual) memory|Exit status: (-104|-103|137)|exit code 137|OutOfMemoryError")


def cause(error: BaseException) -> BaseException:
    """Return the error that a person should read in place of ``error``.

    An error of this package is returned as it is. From Spark's exceptions the error that a Python worker raised is
    made anew with its message and next step; a lost executor becomes a ClusterError that names the setting to raise.
    """
    if isinstance(error, DkerasError) or not type(error).__module__.startswith(("pyspark", "py4j")):
        return error
    text = str(error)
    lost = _LOST.search(text)
    if lost:
        return _lost(lost.group(1), lost.group(2).strip())
    ours = _OURS.findall(text)
    if ours:
        name, what, next_step = ours[-1]
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, DkerasError):
            return kind(what, next_step or None)
    if _MEMORY.search(text):
        return _lost("?", text.strip().splitlines()[-1])
    anything = _ANY.findall(text)
    if anything:
        name, what = anything[-1]
        return DkerasError(f"{name.rsplit('.', 1)[-1]} in an executor: {what}", "the traceback is in the driver's log")
    return error


def _lost(executor: str, reason: str) -> ClusterError:
    if _MEMORY.search(reason):
        return ClusterError(
            f"executor {executor} was killed for using more memory than its container has: {reason}",
            "raise resources.memory_overhead in the pipeline file, or spark.executor.memoryOverhead "
            "(or use fewer cores for each executor)",
        )
    return ClusterError(f"executor {executor} was lost: {reason}", "look at the log of its container and its node")
