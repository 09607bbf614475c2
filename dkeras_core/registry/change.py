"""The one way in which an alias, a mark or a tombstone changes.

1. Stage everything that will be written in ``leases/.staged-<id>/``: the new file, the audit entry, the lease.
2. Take the lease (lease.py), and compare: the file must still name the entry that the change was decided on.
3. Rename the audit entry to its place.
4. Rename the new file over the old one. The commit point: before it nothing has changed, after it everything has.
5. Remove what is staged, give the lease back.

Nothing is created after the lease was taken, only renamed out of the staged folder. So whoever takes that folder away
has fenced this process, whatever it does later.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Callable
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied, Conflict, PathExists, PathMissing, RegistryError, StorageError
from dkeras_core.registry import audit, permissions
from dkeras_core.registry.lease import DURATION, WAIT, Lease

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry

OPEN = 0o775  # another operator must be able to remove what a dead process has staged


def commit(
    registry: Registry,
    entry: audit.Entry,
    content: bytes,
    *,
    verify: Callable[[], None] | None = None,
    duration: float = DURATION,
    wait: float = WAIT,
) -> audit.Entry:
    """Write ``content`` to the file that ``entry`` is about, and the entry to the audit.

    Parameters
    ----------
    entry : Entry
        ``before.entry`` is what the file is believed to name now.
    content : bytes
        Names ``entry.id`` (``audit.head`` reads it).
    verify : callable, optional
        Runs under the lease; what it raises ends the change before anything was written.
    duration, wait : float
        Seconds, see ``Lease``.

    Raises
    ------
    Conflict
        The file names another entry: somebody else has changed it.
    RegistryError
        Others held the lease for too long; or this process was so slow that it lost its own. Nothing was changed.
    StorageError
        The file system failed. The change may have taken effect or not; doing it again is safe either way.
    """
    storage, layout, name = registry.storage, registry.layout, entry.name
    path = f"{layout.model(name)}/{entry.target}"
    staged = layout.staged(name, entry.id)
    try:
        storage.mkdirs(staged, mode=OPEN)
        # Everybody may read them, whatever the umask of the site.
        storage.write_bytes(f"{staged}/content", content, overwrite=True, mode=0o644)
        storage.write_bytes(f"{staged}/entry.json", entry.to_bytes(), overwrite=True, mode=0o444)
        for folder in (posixpath.dirname(path), layout.audit(name)):
            storage.mkdirs(folder)
        with Lease(registry, name, entry.id, duration=duration, wait=wait):
            _compare(registry, entry, audit.head(storage, path))
            if verify:
                verify()
            try:
                _move(storage.rename, f"{staged}/entry.json", f"{layout.audit(name)}/{entry.id}.json")
                _move(storage.replace, f"{staged}/content", path)
            except (StorageError, RegistryError):
                if not _took_effect(registry, entry):
                    raise
    except BaseException as error:
        with contextlib.suppress(StorageError):
            storage.delete(staged, recursive=True)
        if isinstance(error, AccessDenied):
            permissions.require_promotion(registry, name)  # says whom to ask
        raise
    return entry


def _compare(registry: Registry, entry: audit.Entry, found: str | None) -> None:
    if found == entry.before.entry:
        return
    what = f"{entry.alias} of {entry.name}" if entry.alias else f"{entry.target} of {entry.name}"
    said = "was changed meanwhile"
    if found is not None:
        with contextlib.suppress(StorageError, RegistryError):
            other = audit.read(registry, entry.name, found)
            said = f"was changed meanwhile: {other.action} of version {other.version} by {other.user} at "
            said += f"{other.time:%Y-%m-%d %H:%M:%S} UTC"
    raise Conflict(f"{what} {said}; nothing was done", "Look at it (dkeras models history), and decide anew.")


def _move(move: Callable[[str, str], None], source: str, target: str) -> None:
    try:
        move(source, target)
    except PathMissing as error:
        raise RegistryError(
            f"{error.what}: this process was too slow and lost its turn; nothing was changed", "Run it again."
        ) from error
    except PathExists:
        pass  # only this process makes a file of this name: it was moved, and the answer lost


def _took_effect(registry: Registry, entry: audit.Entry) -> bool:
    """Tell whether the commit happened although its answer says otherwise."""
    try:
        return audit.in_effect(registry, entry)
    except (StorageError, RegistryError):
        return False
