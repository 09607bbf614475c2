"""Local copies of versions, keyed by the SHA-256 of their manifest, for processes that load the same model again.

::

    $XDG_CACHE_HOME/dkeras/models/<digest>/          a whole version, as it stands in the registry
    $XDG_CACHE_HOME/dkeras/models/.<digest>.lock     flock: shared while the copy is read, exclusive while it changes
    $XDG_CACHE_HOME/dkeras/models/.<digest>.….tmp    being fetched or removed

The manifest holds the hash of every file, so its own hash names the content: a copy can be wrong only by damage, and
that is looked for, byte by byte, on every use.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dkeras_core.errors import ConfigError, PathMissing, RegistryError
from dkeras_core.registry.manifest import MANIFEST, Manifest
from dkeras_core.registry.verify import problems
from dkeras_core.storage.local import LocalStorage

if TYPE_CHECKING:
    from dkeras_core.registry.registry import Version

LIMIT_GB = 10.0
WAIT = 600.0
"""Seconds to wait for another process that fetches the same version."""

_ATTEMPTS = 5
_LOGGER = logging.getLogger(__name__)


class Cache:
    """A folder of verified versions that many processes share.

    Parameters
    ----------
    folder : Path, optional
        Default ``$XDG_CACHE_HOME/dkeras/models``, or ``~/.cache/dkeras/models``. Made when it is not there; where it
        cannot be made or locked, versions are fetched to temporary folders, with a warning in the log.
    limit : int, optional
        Bytes of all copies together; default ``$DKERAS_CACHE_GB`` (10). The copies that were used longest ago go
        first; one that is in use stays, however large.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None):
        self.folder = Path(folder).absolute() if folder is not None else _default_folder()
        self.limit = _default_limit() if limit is None else limit

    @contextlib.contextmanager
    def held(self, version: Version, expected: str | None = None) -> Iterator[Path]:
        """Give the local copy of a version, whole, for the time of a ``with`` block; nobody removes it meanwhile.

        Parameters
        ----------
        version : Version
        expected : str, optional
            The SHA-256 (hex) that its manifest must have, as the alias's pointer says it.

        Raises
        ------
        RegistryError
            The version is damaged (the files are named), its manifest is not the expected one, or of a later format.
        """
        digest = checked_digest(version, expected)
        entry = self.folder / digest
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                stack.enter_context(self._locked(digest, fcntl.LOCK_SH))
            except OSError as error:
                why = str(error)
            else:
                why = f"others removed {digest[:12]}… as often as it was fetched"
                for _ in range(_ATTEMPTS):
                    if is_whole(entry, digest):
                        os.utime(entry)
                        yield entry
                        return
                    stack.close()
                    try:
                        self._fetch(version, digest)
                        stack.enter_context(self._locked(digest, fcntl.LOCK_SH))
                    except TimeoutError as error:
                        why = str(error)
                        break
            _LOGGER.warning(
                "%s: no cache of models (%s); %s is fetched to a temporary folder", self.folder, why, version
            )
            stack.close()
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="dkeras-"))
            yield _fetched(version, Path(temporary, "version"), digest)

    def _fetch(self, version: Version, digest: str) -> None:
        """Put a whole copy in place, unless another process just did."""
        entry = self.folder / digest
        with self._locked(digest, fcntl.LOCK_EX):
            if is_whole(entry, digest):
                return
            if entry.exists():
                _LOGGER.warning("%s: was damaged on this machine; %s is fetched again", entry, version)
                self._remove(entry)
            for left in self.folder.glob(f".{digest}.*.tmp"):  # whoever made it held this lock, and is gone
                shutil.rmtree(left, ignore_errors=True)
            _fetched(version, entry, digest)
            self._make_room(entry)

    def _make_room(self, keep: Path) -> None:
        """Remove the copies that were used longest ago until the rest is within the limit."""
        entries = [path for path in self.folder.iterdir() if not path.name.startswith(".") and path != keep]
        entries.sort(key=_last_used)
        total = _size(keep) + sum(map(_size, entries))
        for entry in entries:
            if total <= self.limit:
                return
            with contextlib.suppress(OSError), self._locked(entry.name, fcntl.LOCK_EX | fcntl.LOCK_NB) as lock:
                total -= _size(entry)
                self._remove(entry)
                lock.unlink()

    def _remove(self, entry: Path) -> None:
        """Take an entry's name away in one step, then delete: what stands under the name is never half of it."""
        aside = entry.with_name(f".{entry.name}.{secrets.token_hex(4)}.tmp")
        entry.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self, digest: str, kind: int) -> Iterator[Path]:
        """Hold the lock of one digest. The kernel releases it when the process dies, however that happens.

        TimeoutError when another process holds it for longer than WAIT: it was stopped, or its download hangs.
        """
        path, deadline = self.folder / f".{digest}.lock", time.monotonic() + WAIT
        while True:
            with path.open("a") as file:
                while True:
                    try:
                        fcntl.flock(file, kind | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        if kind & fcntl.LOCK_NB:
                            raise
                        if time.monotonic() > deadline:
                            raise TimeoutError(f"another process has held {path} for {WAIT:g} s") from None
                        time.sleep(0.05)
                # Whoever made room may have removed the file since it was opened: then another one is the lock now.
                if _identity(path) == _identity(file.fileno()):
                    yield path
                    return


def checked_digest(version: Version, expected: str | None = None) -> str:
    """Return the SHA-256 (hex) of a version's manifest; RegistryError when it is not ``expected``, or unreadable."""
    path = f"{version.path}/{MANIFEST}"
    try:
        data = version.storage.read_bytes(path)
    except PathMissing as error:
        raise RegistryError(f"{path}: every version has one", "Use another version.") from error
    digest = hashlib.sha256(data).hexdigest()
    if expected is not None and digest != expected:
        raise RegistryError(
            f"{path}: was changed since {version} was promoted: its SHA-256 is {digest[:12]}…, not {expected[:12]}…",
            "Do not use this version; promote another one.",
        )
    Manifest.from_bytes(data, path)
    return digest


def is_whole(folder: Path, digest: str) -> bool:
    """Whether a local folder holds exactly the version whose manifest has this SHA-256: every byte is read."""
    return local_digest(folder) == digest and not problems(LocalStorage(), str(folder))


def local_digest(folder: Path) -> str | None:
    """Return the SHA-256 (hex) of a local folder's manifest, None when it has none."""
    try:
        return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    except OSError:
        return None


def _fetched(version: Version, local: Path, digest: str) -> Path:
    version.fetch(local)
    if local_digest(local) != digest:
        shutil.rmtree(local, ignore_errors=True)
        raise RegistryError(f"{version} [{version.path}] was changed while it was fetched", "Do not use this version.")
    return local


def _identity(path: Path | int) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(folder: Path) -> int:
    """Return the bytes below a folder, as far as another process does not remove it meanwhile."""
    total = 0
    for base, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(base, name)).st_size
    return total


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0  # just removed


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base, "dkeras", "models").expanduser().absolute()


def _default_limit() -> int:
    text = os.environ.get("DKERAS_CACHE_GB") or str(LIMIT_GB)
    try:
        return int(float(text) * 1e9)
    except ValueError as error:
        raise ConfigError(f"DKERAS_CACHE_GB={text}: is not a number", "Give gigabytes, such as 10.") from error
