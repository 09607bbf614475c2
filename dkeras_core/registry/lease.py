"""The lease: who may change aliases, marks and tombstones of a model now.

HDFS has no compare-and-set, so changes take turns. Leases are numbered: ``leases/<k>`` says who holds the k-th, and
``leases/<k>.done`` that it is over. Only the highest number counts, and it only rises: whoever finds it over renames
his own file to the next one, without overwrite, and one of all who try succeeds. No number is used twice, so a
process that slept cannot mistake a lease for an older one.

A holder that died is *fenced*: after its lease has expired anybody may rename the folder with its staged files away.
What it wanted to commit can then not be committed any more, however late it wakes. Clocks that disagree can
therefore cost a slow holder its turn, but never let two changes mix.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dkeras_core.errors import PathExists, PathMissing, RegistryError, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.audit import current_user

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry
    from dkeras_core.storage.base import FileStatus

DURATION = 15.0
"""Seconds after which a holder counts as dead; a change under the lease takes a tenth of a second."""

WAIT = 60.0
"""Seconds to wait for one's turn."""

FILE = "lease.json"
"""The lease's name among the staged files."""


def number_of(status: FileStatus) -> int | None:
    """Return the number of the lease that a file is about, ``<k>`` or ``<k>.done``; None for anything else."""
    return None if status.is_dir else names.version_number(status.name.removesuffix(".done"))


@dataclass(frozen=True)
class _Holder:
    """What a lease file says."""

    token: str
    owner: str
    host: str
    expires: datetime

    def __str__(self) -> str:
        return f"{self.owner} on {self.host}, until {self.expires:%Y-%m-%d %H:%M:%S} UTC"


class Lease:
    """A turn of one process, in a ``with`` block; what it is about to commit stands in the folder of ``token``.

    Parameters
    ----------
    registry, name
        The model.
    token : str
        Names the folder of staged files, ``Layout.staged(name, token)``, which exists.
    duration, wait : float
        Seconds, see DURATION and WAIT.

    Entering raises RegistryError when others hold the lease for longer than ``wait``. Leaving removes the staged files.
    """

    def __init__(self, registry: Registry, name: str, token: str, *, duration: float = DURATION, wait: float = WAIT):
        self._storage, self._name, self._token = registry.storage, name, token
        self._duration, self._wait = duration, wait
        self._staged_of = lambda token: registry.layout.staged(name, token)
        self._folder = registry.layout.leases(name)
        self._staged = self._staged_of(token)
        self._fresh = 0.0  # time.monotonic() until which the staged lease need not be written anew
        self._number = 0

    def __enter__(self) -> Lease:
        begun, watched = time.monotonic(), (0, 0.0)
        while True:
            number, over = self._highest()
            if number and not over:
                holder = self._holder(number)
                if holder is None:
                    continue  # superseded and removed since the listing
                if holder.token == self._token:
                    self._number = number
                    return self
                now = time.monotonic()
                if watched[0] != number:
                    watched = (number, now)
                # By the holder's own word, or by this clock alone, should the two disagree.
                if datetime.now(UTC) < holder.expires and now - watched[1] < 2 * self._duration:
                    if now - begun > self._wait:
                        raise RegistryError(
                            f"{self._name} is being changed by {holder}; waited {self._wait:g} s", "Try again."
                        )
                    time.sleep(random.uniform(0.02, 0.15))
                    continue
                self._fence(holder.token)
            if self._take(number + 1):
                self._number = number + 1
                self._remove_older()
                return self

    def __exit__(self, kind, error, trace) -> None:
        # In this order: a request of this holder that is still under way must find nothing to commit when the next
        # one begins. When the folder cannot be removed, the lease is left to expire.
        with contextlib.suppress(StorageError):
            self._storage.delete(self._staged, recursive=True)
            self._storage.write_bytes(f"{self._folder}/{self._number}.done", b"")

    def _highest(self) -> tuple[int, bool]:
        """Return the highest number there is, 0 without one, and whether that lease is over."""
        found: dict[int, bool] = {}
        for status in self._storage.list(self._folder):
            number = number_of(status)
            if number is not None:
                found[number] = found.get(number, False) or status.name.endswith(".done")
        highest = max(found, default=0)
        return highest, found.get(highest, True)

    def _holder(self, number: int) -> _Holder | None:
        path = f"{self._folder}/{number}"
        try:
            value = json.loads(self._storage.read_bytes(path))
            expires = datetime.fromisoformat(value["expires"])
            expires = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
            return _Holder(str(value["token"]), str(value["owner"]), str(value["host"]), expires)
        except PathMissing:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(
                f"{path}: is not a lease ({error!r})", "Nobody but dkeras may write there; delete that file."
            ) from error

    def _take(self, number: int) -> bool:
        """Try to become the holder of a number; False when somebody else was faster."""
        self._write()
        path = f"{self._folder}/{number}"
        try:
            self._storage.rename(f"{self._staged}/{FILE}", path)
        except PathExists:
            return False
        except StorageError:
            # When only the answer was lost, the file says so.
            with contextlib.suppress(StorageError):
                holder = self._holder(number)
                if holder and holder.token == self._token:
                    return True
            raise
        if self._highest() == (number, False):
            return True
        # Far too late: the number was used, and its file removed, while this process slept.
        with contextlib.suppress(StorageError):
            self._storage.delete(path)
        self._fresh = 0.0
        return False

    def _write(self) -> None:
        """Stage a lease that lasts from now; only for who does not hold one, since it would undo a fence."""
        if time.monotonic() < self._fresh:
            return
        value = {
            "token": self._token,
            "owner": current_user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "expires": (datetime.now(UTC) + timedelta(seconds=self._duration)).isoformat(),
        }
        self._storage.write_bytes(f"{self._staged}/{FILE}", json.dumps(value).encode(), overwrite=True, mode=0o644)
        self._fresh = time.monotonic() + self._duration / 4

    def _fence(self, token: str) -> None:
        """See that the holder of an expired lease commits nothing any more."""
        staged = self._staged_of(token)
        fenced = f"{staged.rpartition('/')[0]}/.fenced-{token}"
        # A rename needs no permission in the folder itself, which is another user's. Missing: fenced already.
        with contextlib.suppress(PathMissing):
            self._storage.rename(staged, fenced)
        with contextlib.suppress(StorageError):
            self._storage.delete(fenced, recursive=True)

    def _remove_older(self) -> None:
        """Remove the files of former leases; the highest one is never removed."""
        with contextlib.suppress(StorageError):
            for status in self._storage.list(self._folder):
                number = number_of(status)
                if number is not None and number < self._number:
                    self._storage.delete(status.path)
