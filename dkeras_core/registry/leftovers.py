"""What processes left that died: files and folders that no reader looks at. collect.py removes them."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from dkeras_core.errors import PathMissing
from dkeras_core.registry.lease import number_of

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry
    from dkeras_core.storage.base import FileStatus

_TEMPORARY = re.compile(r"\..+\.tmp")  # Storage.write_atomic
_REASONS = {
    ".staging-": "an upload that did not end",
    ".ready-": "a version that got no number",
    ".staged-": "a change that did not end",
    ".fenced-": "a change that lost its turn",
}


@dataclass(frozen=True)
class Leftover:
    """What a process left that died: a file or folder that no reader looks at. ``modified``: Unix seconds.

    ``waits``: it might be in use by a process that lives, so it has to reach an age first.
    """

    name: str
    path: str
    reason: str
    modified: float
    waits: bool = True


def leftovers(registry: Registry, name: str, stale_after: timedelta) -> Iterator[Leftover]:
    """Yield what stands in a model's folders; of what may be in use only what is of an age, by this machine's clock.

    Without a name, in the folder of all models.
    """
    if not name:
        yield from _aged("", children(registry, registry.layout.models()), stale_after, {})
        return
    layout = registry.layout
    versions, leases = layout.versions(name), layout.leases(name)
    others = (layout.aliases(name), layout.audit(name), layout.marks(name), layout.tombstones(name))
    for folder in (layout.model(name), versions, leases, *others, posixpath.dirname(layout.catalog(name))):
        there = children(registry, folder)
        yield from _aged(name, there, stale_after, _REASONS)
        if folder == versions:
            for status in there:
                if status.name.startswith(".deleted-"):
                    yield Leftover(name, status.path, "a deleted version", status.modified, waits=False)
        if folder == leases:
            numbers = {status.path: number_of(status) or 0 for status in there}
            highest = max(numbers.values(), default=0)
            for status in there:
                if 0 < numbers[status.path] < highest:
                    yield Leftover(name, status.path, "a lease that others followed", status.modified, waits=False)


def _aged(name: str, there: list[FileStatus], stale_after: timedelta, reasons: Mapping[str, str]) -> Iterator[Leftover]:
    now = time.time()
    for status in there:
        reason = next((said for prefix, said in reasons.items() if status.name.startswith(prefix)), None)
        if reason is None and _TEMPORARY.fullmatch(status.name):
            reason = "a temporary file"
        if reason and now - status.modified >= stale_after.total_seconds():
            yield Leftover(name, status.path, reason, status.modified)


def children(registry: Registry, folder: str) -> list[FileStatus]:
    """Return what stands in a folder, nothing when there is no such folder."""
    try:
        return registry.storage.list(folder)
    except PathMissing:
        return []
