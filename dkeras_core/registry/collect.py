"""Garbage collection: how versions go that a plan (collection.py) names, and what dead processes left.

A version goes in three steps, each of which a reader may meet: a tombstone is written (change.py: from then on no alias
can be pointed at it, and its number is never used again), its folder is renamed to ``versions/.deleted-<n>-<hex>``,
which no reader looks at, and that is deleted. A collector that dies in between leaves the rest to the next one.
"""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied, Conflict, DkerasError, RegistryError, StorageError
from dkeras_core.registry import audit
from dkeras_core.registry.catalog import Deleted, Tombstone
from dkeras_core.registry.change import commit
from dkeras_core.registry.collection import Doomed, Plan, plan, shown
from dkeras_core.registry.leftovers import Leftover
from dkeras_core.registry.needed import needed, pointers
from dkeras_core.registry.pointer import Pointer
from dkeras_core.registry.readonly import remove

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry
    from dkeras_core.storage.base import FileStatus

__all__ = ["Outcome", "Plan", "carry_out", "plan"]


@dataclass(frozen=True)
class Outcome:
    """What a collection did: versions deleted (``name@number``), leftovers removed (paths), and what did not work."""

    deleted: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    failed: list[tuple[str, DkerasError]] = field(default_factory=list)


def carry_out(
    registry: Registry, plan: Plan, *, progress: Callable[[str], None] | None = None, **timing: float
) -> Outcome:
    """Do what a plan says, after looking again, and go on when one thing is refused.

    Parameters
    ----------
    progress : callable, optional
        Called with one line before each version and each leftover.
    timing : float
        ``duration`` and ``wait`` of the lease, in seconds.

    Returns
    -------
    Outcome
        ``failed`` names what was refused, or is needed by now, with the error of each.
    """
    outcome, said = Outcome(), progress or (lambda line: None)
    collectors = {name: _Collector(registry, name, plan) for name in {item.name for item in plan.versions + plan.stale}}
    for version in plan.versions:
        said(f"{version.name}@{version.number}: {version.reason}")
        try:
            collectors[version.name].delete(version, timing)
            outcome.deleted.append(f"{version.name}@{version.number}")
        except (RegistryError, StorageError) as error:
            outcome.failed.append((f"{version.name}@{version.number}", error))
    for leftover in plan.stale:
        said(f"{leftover.path}: {leftover.reason}")
        try:
            if collectors[leftover.name].clear(leftover):
                outcome.cleared.append(leftover.path)
        except (RegistryError, StorageError) as error:
            outcome.failed.append((leftover.path, error))
    return outcome


class _Collector:
    """Carries a plan out on one model ("" for the folder of all models)."""

    def __init__(self, registry: Registry, name: str, plan: Plan):
        self._registry, self._storage, self._name, self._plan = registry, registry.storage, name, plan
        self._pointers: dict[str, Pointer] | None = None
        self._needed: dict[int, str] = {}
        self._time: float | None = None

    def _now(self) -> float:
        """Return the file system's time, in Unix seconds: clocks of machines may be wrong, and a wrong one deletes.

        Asked once: later it is later, and what is old enough by this time stays so.
        """
        if self._time is not None:
            return self._time
        layout = self._registry.layout
        folder = layout.leases(self._name) if self._name else layout.models()
        probe = f"{folder}/.clock-{secrets.token_hex(4)}.tmp"
        try:
            self._storage.mkdirs(probe)
            self._time = self._storage.status(probe).modified
            return self._time
        finally:
            with contextlib.suppress(StorageError):
                self._storage.delete(probe)

    def delete(self, version: Doomed, timing: Mapping[str, float]) -> None:
        """Delete a version; RegistryError when it must stay after all."""
        status = self._storage.status(version.path)
        if status is None:
            return
        if self._now() - status.modified < self._plan.older_than.total_seconds():
            raise RegistryError(
                f"{version.path}: is younger than {shown(self._plan.older_than)} by the file system's time",
                "Look at the clock of this machine, and plan again.",
            )
        versions = posixpath.dirname(version.path)
        if not self._storage.exists(self._registry.layout.tombstone(version.name, version.number)):
            self._require_rights(status)
            self._bury(version, timing)
        aside = f"{versions}/.deleted-{version.number}-{secrets.token_hex(4)}"
        try:
            self._storage.rename(version.path, aside)
        except StorageError:
            # Moved by another collector, or the answer was lost.
            if self._storage.exists(version.path):
                raise
        remove(self._storage, aside)

    def _require_rights(self, version: FileStatus) -> None:
        """Raise AccessDenied when this user could not go on after the tombstone.

        The folder above has to be writable. The version belongs to its publisher, whom a sticky bit above protects, and
        who alone may make its folders writable again, which HDFS and Linux ask for before they delete what is in them.
        """
        if self._storage.allows(posixpath.dirname(version.path), "wx"):
            # Only the owner and superusers may set a mode, the same one too.
            with contextlib.suppress(AccessDenied):
                self._storage.set_mode(version.path, version.mode)
                return
        raise AccessDenied(
            f"{version.path}: this user may not delete it",
            f"Let {version.owner}, who published it, or an administrator collect it.",
        )

    def _bury(self, version: Doomed, timing: Mapping[str, float]) -> None:
        """Write the tombstone, from which on the version is deleted."""
        entry = audit.Entry(
            action="delete",
            name=version.name,
            version=version.number,
            digest=version.summary.digest,
            reason=version.reason,
        )
        deleted = Deleted(time=entry.time, user=entry.user, reason=version.reason, entry=entry.id)
        stone = Tombstone(entry=entry.id, version=version.summary.model_copy(update={"deleted": deleted}))

        def verify() -> None:
            reason = self._reasons().get(version.number)
            if reason:
                raise RegistryError(f"{version.name}@{version.number} is needed by now: {reason}", "Plan again.")

        # Another collector was faster: there is a tombstone, and to go on with its work is as good as to wait for it.
        with contextlib.suppress(Conflict):
            commit(self._registry, entry, stone.to_bytes(), verify=verify, **timing)

    def _reasons(self) -> dict[int, str]:
        """See ``needed``; read again only when an alias has changed."""
        now = pointers(self._registry, self._name)
        if now != self._pointers:
            self._pointers, self._needed = now, needed(self._registry, self._name, now)
        return self._needed

    def clear(self, leftover: Leftover) -> bool:
        """Remove a leftover; False when it is gone, or was changed so late that it may be in use."""
        status = self._storage.status(leftover.path)
        if status is None:
            return False
        if leftover.waits and self._now() - status.modified < self._plan.stale_after.total_seconds():
            return False
        remove(self._storage, leftover.path)
        return True
