"""What a collection would do: which versions may go, why the others stay, and what dead processes left."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from dkeras_core.errors import PathMissing, RegistryError
from dkeras_core.registry import names
from dkeras_core.registry.catalog import Summary, summaries
from dkeras_core.registry.leftovers import Leftover, children, leftovers
from dkeras_core.registry.manifest import FORMAT, MANIFEST
from dkeras_core.registry.needed import needed, pointers
from dkeras_core.registry.publish import STALE

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

KEEP = 5
OLDER_THAN = timedelta(days=7)
STALE_AFTER = timedelta(seconds=STALE)


@dataclass(frozen=True)
class Doomed:
    """A version to delete. ``modified``: Unix seconds; ``bytes``: of its files, None when its manifest is damaged."""

    name: str
    number: int
    reason: str
    path: str
    modified: float
    summary: Summary

    @property
    def bytes(self) -> int | None:
        return self.summary.bytes


@dataclass(frozen=True)
class Kept:
    """A version that stays, and why."""

    name: str
    number: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a collection would do; nothing of it is done yet. All lists are by model, then by number or path."""

    keep: int
    older_than: timedelta
    stale_after: timedelta
    versions: list[Doomed] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    stale: list[Leftover] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of all versions to delete, one copy each (HDFS stores as many as its replication says)."""
        return sum(version.bytes or 0 for version in self.versions)


def plan(
    registry: Registry,
    name: str | None = None,
    *,
    keep: int = KEEP,
    older_than: timedelta = OLDER_THAN,
    stale_after: timedelta = STALE_AFTER,
) -> Plan:
    """Say which versions may go, and why the others stay; changes nothing.

    A version stays while an alias names it or named it last, or would name it after a roll-back; while it is one of the
    ``keep`` newest; or while it is younger than ``older_than``. An alias of its own keeps any version for good.

    Parameters
    ----------
    name : str, optional
        One model; otherwise all.
    keep : int
        At least 1: the highest number always stays.
    older_than : timedelta
        Age by the file system's time of the version's folder.
    stale_after : timedelta
        Age from which what was staged, claimed or about to be changed belongs to a process that died.

    Raises
    ------
    RegistryError
        ``keep`` below 1, or an alias or audit entry is damaged: then nobody knows what is needed.
    StorageError
        The file system does not answer, or refuses to list.
    """
    if keep < 1 or older_than < timedelta(0) or stale_after < timedelta(0):
        raise RegistryError(
            f"keep={keep}, older_than={older_than}, stale_after={stale_after} is no rule to collect by",
            "Keep at least one version, and use times of zero or more.",
        )
    result = Plan(keep, older_than, stale_after)
    for model in [names.model_name(name)] if name else registry.models():
        _plan_versions(registry, model, result)
        result.stale.extend(leftovers(registry, model, stale_after))
    if name is None:
        result.stale.extend(leftovers(registry, "", stale_after))
    return result


def _plan_versions(registry: Registry, name: str, result: Plan) -> None:
    """Add what becomes of each version of a model."""
    there, now = children(registry, registry.layout.versions(name)), time.time()
    folders = {status.name: status for status in there if status.is_dir}
    found = summaries(registry, name, deleted=True)
    newest = {summary.number for summary in [seen for seen in found if seen.deleted is None][: result.keep]}
    by_alias = needed(registry, name, pointers(registry, name))
    for summary in reversed(found):
        number, folder = summary.number, folders.get(str(summary.number))
        if folder is None:  # deleted for good, or published a moment ago
            continue
        age = timedelta(seconds=max(0.0, now - folder.modified))
        kept = by_alias.get(number)
        reason = f"no alias needs it, not one of the {result.keep} newest, {shown(age)} old"
        if summary.deleted is not None:
            reason = f"deleted at {summary.deleted.time:%Y-%m-%d %H:%M:%S} UTC, but its files are still there"
            if _digest(registry, name, number) != summary.digest:
                kept = kept or "another version has this number, though its own was deleted: look at it"
        elif number in newest:
            kept = kept or f"one of the {result.keep} newest"
        elif age < result.older_than:
            kept = kept or f"younger than {shown(result.older_than)}"
        elif summary.problem and _is_of_the_future(registry, folder.path):
            kept = kept or "its format is newer than this dkeras"
        if kept:
            result.kept.append(Kept(name, number, kept))
        else:
            result.versions.append(Doomed(name, number, reason, folder.path, folder.modified, summary))


def _digest(registry: Registry, name: str, number: int) -> str | None:
    try:
        return registry.digest(name, number)
    except RegistryError:
        return None


def _is_of_the_future(registry: Registry, folder: str) -> bool:
    try:
        return json.loads(registry.storage.read_bytes(f"{folder}/{MANIFEST}"))["format"] > FORMAT
    except (PathMissing, ValueError, KeyError, TypeError):
        return False


def shown(age: timedelta) -> str:
    """Return an age in words, in days, hours or minutes."""
    minutes = age.total_seconds() / 60
    for size, unit in ((60 * 24, "days"), (60, "hours")):
        if minutes >= 2 * size:
            return f"{minutes / size:.0f} {unit}"
    return f"{minutes:.0f} minutes"
