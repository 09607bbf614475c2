"""Publish a folder as the next version, so that no reader ever sees a part of one.

1. Stage: upload below ``.staging-<run>-<hex>`` beside the versions, and read back every byte.
2. Claim: rename without overwrite to ``.ready-<run>``, the one name that only one publisher of a run can hold.
3. Number: rename without overwrite to ``<n>``; when that number was taken in between, to the next. The commit point.

A run has one version. That is looked up while the claim is held: whoever held it before has either got a number, which
is then seen, or is gone. Names that begin with a dot are no versions to any reader, so a publisher that dies at any
point leaves the versions as they were. The number of a version that was deleted is never used again.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkeras_core.errors import AccessDenied, PathExists, RegistryError, StorageError
from dkeras_core.registry import names
from dkeras_core.registry.audit import current_user
from dkeras_core.registry.catalog import Catalog, Summary, tombstones
from dkeras_core.registry.manifest import MANIFEST, SEAL, Lineage, Manifest, code_version, describe, seal
from dkeras_core.registry.readonly import lock, remove
from dkeras_core.registry.verify import problems

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Registry, Version

STALE = 24 * 3600.0  # seconds after which a staging folder belongs to a publisher that died
ADOPT = 5.0  # seconds to wait for another publisher of the same run, which needs milliseconds, before taking over


def publish(
    registry: Registry,
    name: str,
    folder: Path,
    run_id: str,
    lineage: Lineage | Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
) -> Version:
    """See Registry.publish."""
    names.model_name(name), names.run_id(run_id)
    files = describe(folder) if folder.is_dir() else {}
    if not files:
        raise RegistryError(f"{folder}: holds no file to publish", "Check the path.")
    lineage = lineage if isinstance(lineage, Lineage) else Lineage(**(lineage or {}))
    manifest = Manifest(
        name=name,
        run=run_id,
        created=datetime.now(UTC).replace(microsecond=0),
        user=current_user(),
        files=files,
        lineage=lineage.model_copy(update={"code": lineage.code or code_version()}),
        metrics=dict(metrics or {}),
    )
    return _Publication(registry, manifest).run(folder)


class _Publication:
    """One attempt to publish: the paths it uses, and what it knows of other versions."""

    def __init__(self, registry: Registry, manifest: Manifest):
        self._registry, self._storage, self._manifest = registry, registry.storage, manifest
        self._base = registry.layout.versions(manifest.name)
        self._staging = f"{self._base}/.staging-{manifest.run}-{secrets.token_hex(4)}"
        self._ready = f"{self._base}/.ready-{manifest.run}"
        self._catalog = Catalog(registry, manifest.name)
        self._numbers: set[int] = set()  # of the versions that stood there at the last look

    def run(self, folder: Path) -> Version:
        content = self._manifest.to_bytes()
        published = self._published()
        if published is not None:
            return published
        claimed = False
        try:
            self._stage(folder, content)
            claimed = self._claim()
            version = self._number()
        except BaseException:
            if claimed:
                self._give_up()
            raise
        finally:
            self._remove(self._staging)
        self._list(version.number)
        return version

    def _stage(self, folder: Path, content: bytes) -> None:
        """Upload, then read back: nothing gets a number that the file system does not hold as it was made."""
        try:
            self._storage.upload(folder, self._staging)
        except AccessDenied as error:
            raise self._explained(error) from error
        self._clear_stale()
        # A folder that was fetched from a registry brings the two along; this version has its own.
        self._storage.write_bytes(f"{self._staging}/{MANIFEST}", content, overwrite=True)
        self._storage.write_bytes(f"{self._staging}/{SEAL}", seal(content), overwrite=True)
        found = problems(self._storage, self._staging)
        if found:
            raise RegistryError(f"{self._staging}: is not what was written: {'; '.join(found)}", "Publish again.")
        # Before anybody can see it; a rename asks for permission in the folder above alone.
        lock(self._storage, self._staging)

    def _explained(self, error: AccessDenied) -> AccessDenied:
        """Say what a publisher does who may not make the folder of a new model."""
        name = self._manifest.name
        if self._storage.exists(self._base):
            return error
        return AccessDenied(error.what, f"Ask an operator to run `dkeras models init {name}`.")

    def _of_another(self, error: StorageError) -> StorageError:
        """Say what to do when a dead publisher's claim cannot be taken over, because it is another user's."""
        claim = self._storage.status(self._ready) if isinstance(error, AccessDenied) else None
        if claim is None:
            return error
        said = f"run {self._manifest.run} was being published by {claim.owner}, who stopped at this point"
        return AccessDenied(
            f"{error.what}; {said}", f"Let {claim.owner} publish it again, or an administrator delete {self._ready}."
        )

    def _claim(self) -> bool:
        """Rename to the run's claim; False when another publisher of this run holds it and has stopped there."""
        deadline = time.monotonic() + ADOPT
        while True:
            try:
                self._storage.rename(self._staging, self._ready)
                return True
            except PathExists:
                # What it claimed is whole; if it died there, that is published in its place.
                if self._published() is not None or time.monotonic() > deadline:
                    return False
            time.sleep(0.1)

    def _number(self) -> Version:
        """Rename to the next free number."""
        published = self._published()
        if published is not None:
            self._give_up()
            return published
        number = max([0, *self._numbers, *tombstones(self._registry, self._manifest.name)]) + 1
        while True:
            version = self._registry.at(self._manifest.name, number)
            try:
                self._storage.rename(self._ready, version.path)
            except PathExists:
                number += 1
                continue
            except StorageError as error:
                # Renamed by another publisher of this run, or the answer was lost: the versions tell.
                published = self._published()
                if published is None:
                    raise self._of_another(error) from error
                version = published
            if not self._is_dead(version.number):
                return version
            # While this process slept, another one published this number, and gc deleted it.
            self._storage.rename(version.path, self._ready)
            number += 1

    def _is_dead(self, number: int) -> bool:
        try:
            return self._storage.exists(self._registry.layout.tombstone(self._manifest.name, number))
        except StorageError:
            return False  # published it is, and nearly certainly for good

    def _published(self) -> Version | None:
        """Return the version that this run has, None while it has none."""
        name, there = self._manifest.name, self._catalog.look("versions")
        self._numbers = set(there)
        found = [n for n, seen in there.items() if isinstance(seen, Summary) and seen.run == self._manifest.run]
        gone = tombstones(self._registry, name) if found else ()
        for number in sorted(found):
            version = self._registry.at(name, number)
            # The catalog is a cache; what it says of a run is true when the manifest says so too.
            with contextlib.suppress(RegistryError):
                if number not in gone and version.manifest().run == self._manifest.run:
                    return version
        return None

    def _list(self, number: int) -> None:
        """Add the version to the catalog, for the listings to come; that it is published does not depend on it."""
        with contextlib.suppress(StorageError):
            self._catalog.add(number)
            self._catalog.save()

    def _clear_stale(self) -> None:
        """Remove what publishers left that died more than a day ago, by the file system's own clock."""
        now = self._storage.status(self._staging).modified
        for status in self._storage.list(self._base):
            if status.name.startswith((".staging-", ".ready-")) and now - status.modified > STALE:
                self._remove(status.path)

    def _give_up(self) -> None:
        """Take the claim away in one step: who waits for it must not take over what is half deleted."""
        aside = f"{self._base}/.staging-{self._manifest.run}-{secrets.token_hex(4)}"
        with contextlib.suppress(StorageError):
            self._storage.rename(self._ready, aside)
            remove(self._storage, aside)

    def _remove(self, path: str) -> None:
        with contextlib.suppress(StorageError):
            remove(self._storage, path)
