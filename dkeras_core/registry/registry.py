"""The registry as callers see it; the layout is docs/registry.md, what changes it stands in the modules beside."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dkeras_core.errors import PathExists, PathMissing, RegistryError
from dkeras_core.paths import Layout
from dkeras_core.registry import names
from dkeras_core.registry.audit import Entry, Event, history
from dkeras_core.registry.catalog import tombstone
from dkeras_core.registry.manifest import Lineage, Manifest
from dkeras_core.registry.pointer import Pointer
from dkeras_core.registry.promote import ANY, Expected, promote, rollback
from dkeras_core.registry.publish import publish
from dkeras_core.registry.verify import manifest_digest, problems, read_manifest
from dkeras_core.storage.base import Storage
from dkeras_core.storage.local import LocalStorage


@dataclass(frozen=True)
class Version:
    """One published version: immutable, so that what was read of it stays true."""

    name: str
    number: int
    path: str
    storage: Storage = field(repr=False, compare=False)

    def manifest(self) -> Manifest:
        """Read its manifest; RegistryError when that is missing, damaged or of a format to come."""
        return read_manifest(self.storage, self.path)

    def digest(self) -> str:
        """Return the SHA-256 (hex) of its manifest.json; RegistryError when that is damaged."""
        return manifest_digest(self.storage, self.path)

    def verify(self) -> list[str]:
        """Read and hash every file; return what is wrong, one line a file, empty when nothing is."""
        return problems(self.storage, self.path)

    def fetch(self, local: Path) -> Path:
        """Download to exactly ``local``, verified; RegistryError naming the damaged files.

        The folder appears whole or not at all; PathExists when something stands there.
        """
        local = Path(local).absolute()
        if local.exists():
            raise PathExists(f"{local}: stands there already", "Choose another folder, or delete it.")
        temporary = local.with_name(f".{local.name}.{secrets.token_hex(4)}.tmp")
        try:
            self.storage.download(self.path, temporary)
            found = problems(LocalStorage(), str(temporary))
            if found:
                raise RegistryError(f"{self} [{self.path}] is damaged: {'; '.join(found)}", "Use another version.")
            LocalStorage().rename(str(temporary), str(local))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return local

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"


class Registry:
    """The models below ``<root>/models`` of a file system."""

    def __init__(self, storage: Storage, root: str):
        self.storage, self.layout = storage, Layout(storage.clean(root))

    def models(self) -> list[str]:
        """Return the names of all models, sorted."""
        return [name for name in self._children(f"{self.layout.root}/models") if names.is_model(name)]

    def versions(self, name: str) -> list[int]:
        """Return the numbers of all versions of a model, ascending; empty when it has none."""
        found = map(names.version_number, self._children(self.layout.versions(names.model_name(name))))
        return sorted(number for number in found if number is not None)

    def _children(self, folder: str) -> list[str]:
        try:
            return [status.name for status in self.storage.list(folder) if status.is_dir]
        except PathMissing:
            return []

    def version(self, name: str, which: int | str) -> Version:
        """Return a version by number or alias; RegistryError, saying what there is, when it does not exist."""
        number = which if isinstance(which, int) else names.version_number(which)
        if number is None:
            number = self.alias(name, str(which))
            if number is None:
                there = ", ".join(self._aliases(name)) or "none"
                raise RegistryError(f"{name} has no alias {which!r}", f"Its aliases: {there}.")
        version = self.at(names.model_name(name), number)
        status = self.storage.status(version.path)
        if status is None or not status.is_dir:
            gone = tombstone(self, name, number)
            if gone is not None and gone.deleted is not None:
                said = f"{gone.deleted.time:%Y-%m-%d %H:%M:%S} UTC by {gone.deleted.user}: {gone.deleted.reason}"
                raise RegistryError(f"{version} was deleted at {said}", "See dkeras models list.")
            there = self.versions(name)
            said = f"the newest of its {len(there)} versions is {there[-1]}" if there else "it has no version"
            raise RegistryError(f"{name} has no version {number} [{version.path}]: {said}", "See dkeras models list.")
        return version

    def at(self, name: str, number: int) -> Version:
        """Return the version that stands, or would stand, at a number; does not look whether it does."""
        return Version(name, number, f"{self.layout.versions(name)}/{number}", self.storage)

    def _aliases(self, name: str) -> list[str]:
        try:
            found = [status.name for status in self.storage.list(self.layout.aliases(names.model_name(name)))]
        except PathMissing:
            return []
        return [alias for alias in found if not alias.startswith(".")]

    def aliases(self, name: str) -> dict[str, int]:
        """Return all aliases of a model and the numbers they name."""
        found = {alias: self.alias(name, alias) for alias in self._aliases(name)}
        return {alias: number for alias, number in found.items() if number is not None}

    def alias(self, name: str, alias: str) -> int | None:
        """Return the number that an alias names, None when there is no such alias; RegistryError when unreadable."""
        pointer = self.pointer(name, alias)
        return pointer.number if pointer else None

    def pointer(self, name: str, alias: str) -> Pointer | None:
        """Return what an alias holds, None when there is no such alias; RegistryError when unreadable."""
        path = self.layout.alias(names.model_name(name), names.alias_name(alias))
        try:
            return Pointer.from_bytes(self.storage.read_bytes(path), path)
        except PathMissing:
            return None

    def production(self, name: str) -> Version | None:
        """Return the version that production runs, None when no version was promoted yet."""
        return self.version(name, "production") if self.alias(name, "production") is not None else None

    def latest(self, name: str) -> Version | None:
        """Return the version with the highest number, None when there is none."""
        there = self.versions(name)
        return self.at(name, there[-1]) if there else None

    def digest(self, name: str, number: int) -> str:
        """Return the SHA-256 (hex) of a version's manifest.json, which stands for all its bytes.

        RegistryError when there is no such version, or its manifest is damaged.
        """
        return self.version(name, number).digest()

    def promote(
        self,
        name: str,
        number: int,
        alias: str,
        *,
        expected: Expected = ANY,
        digest: str | None = None,
        reason: str | None = None,
        forced: bool = False,
        checks: Sequence[Mapping[str, Any]] = (),
        **timing: float,
    ) -> Entry:
        """Let an alias name a version, in one step; the gates are registry/promotion.py's.

        Parameters
        ----------
        number : int
            The version. Archived and deleted ones are refused.
        expected : int, str, Pointer, None or ANY
            What the caller believes that the alias names now (None: nothing). ANY: what it names at this moment. The id
            of an entry of the audit, and a pointer (``pointer``), are that very state: who moved the alias away and
            back has changed it.
        digest : str, optional
            SHA-256 (hex) that the version's manifest must have: what was checked is what is promoted.
        reason, forced, checks
            Go into the audit.
        timing : float
            ``duration`` and ``wait`` of the lease, in seconds.

        Returns
        -------
        Entry
            The audit's. When the alias names the version already, whatever was expected, it is the entry of that time,
            and nothing changes: so a promotion may be repeated.

        Raises
        ------
        Conflict
            The alias names another version than expected; nothing was changed.
        RegistryError
            No such version, or it has another digest; a name against the rule; others held the lease for too long.
        """
        return promote(
            self, name, number, alias,
            expected=expected, digest=digest, reason=reason, forced=forced, checks=checks, **timing,
        )  # fmt: skip

    def rollback(
        self,
        name: str,
        alias: str,
        *,
        to: int | None = None,
        expected: Expected = ANY,
        reason: str | None = None,
        **timing: float,
    ) -> Entry:
        """Let an alias name the version again that it named before its last promotion, or ``to``.

        Rolled back twice, it goes two promotions back. Parameters and errors are those of ``promote``; RegistryError
        also when the version is not what it was when the alias named it.
        """
        return rollback(self, name, alias, to=to, expected=expected, reason=reason, **timing)

    def history(self, name: str, alias: str | None = None, limit: int | None = None) -> list[Event]:
        """Return the audit of a model, newest first, each entry with whether it took effect."""
        return history(self, names.model_name(name), alias, limit)

    def verify(self, version: Version) -> list[str]:
        """See Version.verify."""
        return version.verify()

    def fetch(self, version: Version, local: Path) -> Path:
        """See Version.fetch."""
        return version.fetch(local)

    def publish(
        self,
        name: str,
        folder: Path,
        *,
        run_id: str,
        lineage: Lineage | Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> Version:
        """Publish a local folder as the next version of a model.

        Parameters
        ----------
        name : str
            The model (``names.py`` says which names there are).
        folder : Path
            What the version shall hold; registry/export.py assembles it.
        run_id : str
            The run that made it. A run has one version: published again, it gives the version that it has.
        lineage, metrics : mapping, optional
            Go into the manifest. ``code`` is filled in.

        Raises
        ------
        RegistryError
            A name against the rule, an empty folder, or the file system does not hold what was written to it.
        StorageError
            The file system refused; what was staged is removed again, and publishing once more is safe.
        """
        return publish(self, name, Path(folder), run_id, lineage, metrics)
