"""The exceptions of the bundle: one root, a few named children, each with the exit status that scripts see.

Every message says what happened and where; ``next_step`` says what to do about it. ``str(error)`` holds both, so
that the cause survives in a YARN log, in ``result.json`` and in a terminal alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class DkerasError(Exception):
    """Root of all errors that are meant for a person to read.

    Parameters
    ----------
    what : str
        What happened, and where (file, key, address, container).
    next_step : str, optional
        What to do next, as one sentence.
    """

    exit_code = 1

    def __init__(self, what: str, next_step: str | None = None):
        super().__init__(what)
        self.what = what
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.what}\n  next: {self.next_step}" if self.next_step else self.what

    def __reduce__(self):
        return type(self), (self.what, self.next_step)


class ConfigError(DkerasError, ValueError):
    """A pipeline file, a setting or a command-line argument is wrong."""

    exit_code = 2


class DataError(DkerasError, ValueError):
    """The input data do not match the schema (column, label, missing value, damaged file)."""

    exit_code = 3


class StorageError(DkerasError, OSError):
    """A file system refused or failed an operation (permission, quota, unreachable)."""

    exit_code = 4


class PathExists(StorageError, FileExistsError):
    """A create or rename without overwrite met something that already stands there."""


class PathMissing(StorageError, FileNotFoundError):
    """A path that is needed does not exist."""


class AccessDenied(StorageError, PermissionError):
    """The user may not do this: the mode, an access control list or the sticky bit of a folder says so."""


class ClusterError(DkerasError, RuntimeError):
    """Hadoop or YARN is unreachable, refused the application, or the application failed."""

    exit_code = 5


class TrainingError(DkerasError, RuntimeError):
    """Training failed: a worker was lost, values became non-finite, versions disagree."""

    exit_code = 6


class ExchangeError(TrainingError, ConnectionError):
    """The exchange between worker and parameter server failed (unreachable, refused, timed out, fenced)."""


class RegistryError(DkerasError, RuntimeError):
    """The model registry refused an operation or found a damaged version."""

    exit_code = 7


class Conflict(RegistryError):
    """Somebody else changed what was about to be changed; nothing was done."""

    exit_code = 9


class GateFailed(RegistryError):
    """A version did not pass the checks of a promotion; ``checks`` holds the outcome of all of them."""

    exit_code = 10

    def __init__(self, what: str, next_step: str | None = None, checks: Sequence[Any] = ()):
        super().__init__(what, next_step)
        self.checks = tuple(checks)

    def __reduce__(self):
        return type(self), (self.what, self.next_step, self.checks)


class EnvironmentBuildError(DkerasError, RuntimeError):
    """The packaged environment could not be built, packed or tried."""

    exit_code = 8


class Interrupted(DkerasError, KeyboardInterrupt):
    """The user pressed Ctrl-C; what was begun has been cleaned up."""

    exit_code = 130
