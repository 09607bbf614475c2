"""Put a version where TensorFlow Serving looks for it: ``<base>/<n>/``, in one step, for a server that polls ``base``.

::

    <base>/<n>/saved_model.pb, variables/, fingerprint.pb     as the version holds them
    <base>/<n>/assets.extra/dkeras.json                       which version this is, and its digest
    <base>/.staging-…, <base>/.removed-…                      no number, so no server looks at them

A server with the usual policy runs the highest number of its base. So an export after a roll-back, whose number is
lower than one that stands there, has to take that one away (``supersede``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dkeras_core.errors import PathExists, PathMissing, RegistryError, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.cache import Cache, local_digest
from dkeras_core.registry.manifest import FileEntry, Manifest
from dkeras_core.registry.verify import problems, read_manifest
from dkeras_core.storage.base import Storage
from dkeras_core.storage.local import LocalStorage
from dkeras_core.storage.paths import split_uri

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry, Version

ORIGIN = "assets.extra/dkeras.json"
STALE = 24 * 3600.0
"""Seconds after which a staging folder belongs to an export that died."""


@dataclass(frozen=True)
class Exported:
    """Where a version stands now; ``made`` is false when it stood there before; ``removed`` are numbers taken away."""

    path: str
    number: int
    made: bool
    removed: list[int]


def export(
    registry: Registry,
    version: Version,
    target: str | Path,
    *,
    keep: int | None = None,
    supersede: bool = False,
    expected: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Exported:
    """Copy the SavedModel of a version to ``<target>/<number>/``; it appears there whole and verified, or not at all.

    Parameters
    ----------
    registry : Registry
        Its file system is the one that an hdfs:// target is on.
    version : Version
    target : str or Path
        The base folder of the server: a folder of this machine, or an ``hdfs://`` URI. Made when it is not there.
    keep : int, optional
        How many versions to leave there, this one and those below it; default: all.
    supersede : bool
        Take away versions with higher numbers, which the server would prefer to this one.
    expected : str, optional
        SHA-256 (hex) that the version's manifest must have, from the alias's pointer.
    progress : callable, optional
        Called with a few words as the work goes on.

    Raises
    ------
    RegistryError
        The version is damaged or has no SavedModel; a higher number stands there, or another content under this one.
    StorageError
        The file system refused. What was staged is removed.
    """
    if keep is not None and keep < 1:
        raise RegistryError(f"keep={keep}: the exported version itself is one", "Keep 1 at least.")
    say = progress or (lambda words: None)
    storage, base = _target(registry, target)
    higher = [number for number in _numbers(storage, base) if number > version.number]
    if higher and not supersede:
        raise RegistryError(
            f"{base}: holds version {max(higher)}, which a server prefers to {version.number}",
            f"Take away what is higher than {version.number} (supersede), or export to another folder.",
        )
    say(f"fetching {version}")
    with Cache().held(version, expected) as folder:
        made = _copy(storage, base, version, folder, say)
        removed = higher
        if keep is not None:
            removed = sorted(removed + [n for n in _numbers(storage, base) if n <= version.number][:-keep])
        for number in removed:
            say(f"removing {number}")
            _take_away(storage, base, number)
        if removed and not storage.exists(f"{base}/{version.number}"):
            # Another export at the same time has removed this one, as this one may have removed that: one too many is
            # better for a server than none.
            made = _copy(storage, base, version, folder, say)
    return Exported(f"{base}/{version.number}", version.number, made, removed)


def _target(registry: Registry, target: str | Path) -> tuple[Storage, str]:
    if isinstance(target, Path) or split_uri(target)[0] == "":
        return LocalStorage(), str(Path(target).expanduser().absolute())
    storage = LocalStorage() if split_uri(target)[0] == "file" else registry.storage
    return storage, storage.clean(target)


def _numbers(storage: Storage, base: str) -> list[int]:
    """Return the versions that a server finds there, ascending."""
    try:
        found = [names.version_number(status.name) for status in storage.list(base) if status.is_dir]
    except PathMissing:
        return []
    return sorted(number for number in found if number is not None)


def _copy(storage: Storage, base: str, version: Version, folder: Path, say: Callable[[str], None]) -> bool:
    """Copy the files of a local version, verify them, and give them their number; False when they stand there."""
    manifest, digest = read_manifest(LocalStorage(), str(folder)), local_digest(folder)
    files = {name: entry for name, entry in manifest.files.items() if _is_served(name)}
    if "saved_model.pb" not in files:
        raise RegistryError(
            f"{version} [{version.path}] has no SavedModel: it was published from the JAX backend",
            "Train with KERAS_BACKEND=tensorflow, and publish that.",
        )
    origin = _origin(manifest, version.number, digest)
    wanted = manifest.model_copy(update={"files": files | {ORIGIN: _entry(origin)}})
    path = f"{base}/{version.number}"
    if storage.exists(path):
        return _refuse_another(storage, path, version, wanted)
    staging = f"{base}/.staging-{version.number}-{secrets.token_hex(4)}"
    try:
        storage.mkdirs(staging)
        _clear_stale(storage, base, staging)
        say(f"copying {len(files)} files to {base}")
        for name in files:
            storage.upload(folder / name, f"{staging}/{name}")
        storage.write_bytes(f"{staging}/{ORIGIN}", origin)
        say("reading them back")
        found = problems(storage, staging, wanted)
        if found:
            raise RegistryError(f"{staging}: is not what was written: {'; '.join(found)}", "Export again.")
        try:
            storage.rename(staging, path)
        except PathExists:
            return _refuse_another(storage, path, version, wanted)
    finally:
        with contextlib.suppress(StorageError):
            storage.delete(staging, recursive=True)
    return True


def _is_served(name: str) -> bool:
    return name in ("saved_model.pb", "fingerprint.pb") or name.startswith(("variables/", "assets/"))


def _origin(manifest: Manifest, number: int, digest: str) -> bytes:
    value = {"model": manifest.name, "version": number, "run": manifest.run, "digest": digest}
    return f"{json.dumps(value, sort_keys=True, indent=1)}\n".encode()


def _entry(data: bytes) -> FileEntry:
    return FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _refuse_another(storage: Storage, path: str, version: Version, wanted: Manifest) -> bool:
    """Return False when exactly this version stands at ``path``; RegistryError when anything else does."""
    found = problems(storage, path, wanted)
    if found:
        raise RegistryError(
            f"{path}: stands there, and is not {version}: {'; '.join(found[:3])}",
            "Remove it, or export to a folder of its own for each model.",
        )
    return False


def _take_away(storage: Storage, base: str, number: int) -> None:
    """Rename to a name that no server looks at, then delete: a server never meets half a version."""
    aside = f"{base}/.removed-{number}-{secrets.token_hex(4)}"
    with contextlib.suppress(PathMissing):  # somebody else was faster
        storage.rename(f"{base}/{number}", aside)
        storage.delete(aside, recursive=True)


def _clear_stale(storage: Storage, base: str, staging: str) -> None:
    """Remove what exports left that died more than a day ago, by the file system's own clock."""
    now = storage.status(staging).modified
    for status in storage.list(base):
        if status.name.startswith((".staging-", ".removed-")) and now - status.modified > STALE:
            with contextlib.suppress(StorageError):
                storage.delete(status.path, recursive=True)
