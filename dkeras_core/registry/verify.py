"""Does a version hold exactly what its manifest says? The same answer for a folder in HDFS and on this machine."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

from dkeras_core.errors import PathMissing, RegistryError
from dkeras_core.registry.manifest import MANIFEST, SEAL, Manifest, hash_file, seal
from dkeras_core.storage.base import FileStatus, Storage

_READERS = 4


def read_manifest(storage: Storage, folder: str) -> Manifest:
    """Return the manifest of the version in ``folder``.

    Raises
    ------
    RegistryError
        There is none, it is damaged (its seal does not match), or its format is one to come.
    """
    return read_sealed(storage, folder)[1]


def manifest_digest(storage: Storage, folder: str) -> str:
    """Return the SHA-256 (hex) of the manifest of the version in ``folder``; errors as ``read_manifest``."""
    return hashlib.sha256(read_sealed(storage, folder)[0]).hexdigest()


def read_sealed(storage: Storage, folder: str) -> tuple[bytes, Manifest]:
    """Return the bytes of the manifest, whose SHA-256 is the version's digest, too; errors as ``read_manifest``."""
    path = f"{folder}/{MANIFEST}"
    try:
        data = storage.read_bytes(path)
        sealed = storage.read_bytes(f"{folder}/{SEAL}")
    except PathMissing as error:
        raise RegistryError(f"{error.what}: every version has one", "Publish the version again.") from error
    manifest = Manifest.from_bytes(data, path)  # first: one of the future may be sealed in another way
    if sealed != seal(data):
        raise RegistryError(f"{path}: does not match {SEAL}: one of them was changed", "Publish the version again.")
    return data, manifest


def problems(storage: Storage, folder: str, manifest: Manifest | None = None) -> list[str]:
    """Return what is wrong with a version, one line for each file, naming it; empty when nothing is.

    Every file is read and hashed. ``manifest`` is the one to compare with, when it need not be read from the folder.
    """
    try:
        manifest = manifest or read_manifest(storage, folder)
    except RegistryError as error:
        return [error.what]
    folder = storage.clean(folder)
    there = {status.path[len(folder) + 1 :]: status for status in storage.walk(folder)}
    names = sorted({*manifest.files, *there} - {MANIFEST, SEAL})
    with ThreadPoolExecutor(_READERS) as readers:
        return [line for line in readers.map(lambda name: _problem(storage, manifest, name, there), names) if line]


def _problem(storage: Storage, manifest: Manifest, name: str, there: dict[str, FileStatus]) -> str | None:
    expected, status = manifest.files.get(name), there.get(name)
    if status is None:
        return f"{name}: is missing"
    if expected is None:
        return f"{name}: is not in the manifest"
    if status.size != expected.size:
        return f"{name}: has {status.size} bytes instead of {expected.size}"
    with storage.open(status.path) as stream:
        found = hash_file(stream)
    return None if found == expected else f"{name}: its content was changed (SHA-256 {found.sha256[:12]}...)"
