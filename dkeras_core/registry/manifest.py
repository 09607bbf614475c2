"""What a version says of itself: every file with size and SHA-256, where it comes from, how good it is.

The manifest does not hold the version's number. The number is allotted by the rename that publishes the folder, after
the manifest was written and verified, so only the folder's name can say it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from dkeras_core.errors import RegistryError

FORMAT = 1
MANIFEST = "manifest.json"
SEAL = "manifest.sha256"
_CHUNK = 1 << 20


class FileEntry(BaseModel):
    """Size in bytes and SHA-256 (hex) of one file."""

    model_config = ConfigDict(frozen=True)

    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Lineage(BaseModel):
    """Where a version comes from; None where it is not known.

    ``parent`` is the number of the version it was compared with (the champion when it was trained); ``environment`` is
    the key of the packed environment, ``code`` the hash of the package's sources.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    pipeline: str | None = None
    data_path: str | None = None
    data_fingerprint: str | None = None
    environment: str | None = None
    code: str | None = None
    parent: int | None = None
    application: str | None = None


class Manifest(BaseModel):
    """The content of manifest.json, format 1 (docs/registry.md)."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")  # not null: to_bytes refuses them

    format: int = FORMAT
    name: str
    run: str
    created: AwareDatetime
    user: str
    files: dict[str, FileEntry]
    lineage: Lineage = Lineage()
    metrics: dict[str, Any] = {}

    def to_bytes(self) -> bytes:
        """Return the file's bytes: UTF-8 JSON with sorted keys, the same for the same content."""
        value = self.model_dump(mode="json")
        try:
            text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
        except ValueError as error:
            raise RegistryError(f"the metrics of {self.name} hold NaN or infinity", "Train again.") from error
        return f"{text}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes, path: str) -> Manifest:
        """Read a manifest; RegistryError, naming ``path``, when it is damaged or of a format to come."""
        try:
            value = json.loads(data)
            found = value["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise RegistryError(f"{path}: is not a manifest ({error!r})", "Publish the version again.") from error
        if not isinstance(found, int) or found > FORMAT:
            raise RegistryError(
                f"{path}: is of format {found!r}; this dkeras reads formats up to {FORMAT}", "Use a newer dkeras."
            )
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RegistryError(f"{path}: {place}: {first['msg']}", "Publish the version again.") from error


def seal(manifest: bytes) -> bytes:
    """Return the content of manifest.sha256: what ``sha256sum -c`` reads."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def hash_file(stream) -> FileEntry:
    """Read a binary stream to its end; return its size and hash."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return FileEntry(size=size, sha256=digest.hexdigest())


def describe(folder: Path) -> dict[str, FileEntry]:
    """Return size and hash of every file below a local folder, the manifest's own two files left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in (MANIFEST, SEAL):
            with path.open("rb") as stream:
                found[name] = hash_file(stream)
    return found


@functools.cache
def code_version() -> str:
    """Return a hash (16 hex digits) of the package's Python sources, also when it is imported from a zip."""
    digest = hashlib.sha256()

    def visit(folder, prefix: str) -> None:
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                visit(entry, f"{name}/")
            elif name.endswith(".py"):
                digest.update(f"{name}\0".encode() + hashlib.sha256(entry.read_bytes()).digest())

    visit(package_files("dkeras_core"), "")
    return digest.hexdigest()[:16]
