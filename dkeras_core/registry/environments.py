"""The Python that a version was trained with: the packed environment of its lineage, unpacked once on this machine.

::

    $XDG_CACHE_HOME/dkeras/envs/<key>/        an unpacked archive, whole
    $XDG_CACHE_HOME/dkeras/envs/.<key>-….tmp  being unpacked

Processes may unpack the same archive side by side: the first to finish renames its folder into place, the others
throw theirs away. Environments that were not used for 30 days are removed when a new one comes (1.5 GB each).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.errors import DkerasError, EnvironmentBuildError, PathExists, PathMissing, StorageError
from dkeras_core.registry.registry import Registry
from dkeras_core.storage.local import LocalStorage

UNUSED = 30 * 24 * 3600.0  # seconds
_UNPACKING = threading.Lock()  # the versions of one comparison mostly have the same environment
_KEY = re.compile(r"[0-9a-zA-Z]{1,64}")


@dataclass(frozen=True)
class Environment:
    """An interpreter to try a version with, and in words which one it is."""

    python: str
    said: str


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "dkeras", "envs").absolute()


def find(
    registry: Registry, key: str | None, *, packaged: bool = True, progress: Callable[[str], None] | None = None
) -> Environment:
    """Return the interpreter of the environment ``key``.

    The archive ``<root>/envs/train-<key>.tar.gz`` is unpacked unless it was before. When that cannot be had, or when
    ``packaged`` is false, the running interpreter is taken, provided that it has TensorFlow; ``said`` tells why.

    Raises
    ------
    EnvironmentBuildError
        Neither can be had; both reasons are named.
    """
    here, why = Path(sys.prefix), "as asked for"
    if packaged:
        if key and here == cache_folder() / key:
            return Environment(sys.executable, f"environment {key}")
        try:
            with _UNPACKING:
                folder = _unpacked(registry, key, progress)
            return Environment(str(folder / "bin/python"), f"environment {key}")
        except (DkerasError, OSError) as error:
            why = getattr(error, "what", None) or str(error)
    # Found, not imported: that takes seconds, and this process does not need it.
    if importlib.util.find_spec("tensorflow") is None:
        raise EnvironmentBuildError(
            f"no environment to try the version with: {why}; and this Python has no TensorFlow ({sys.executable})",
            "Upload the archive (dkeras env upload), or install the training libraries here.",
        )
    return Environment(sys.executable, f"the running Python, not the packed environment ({why})")


def _unpacked(registry: Registry, key: str | None, progress: Callable[[str], None] | None) -> Path:
    """Return the folder of an environment, unpacked now or before."""
    if not key:
        raise PathMissing("the version's lineage names no environment")
    if not _KEY.fullmatch(key):
        raise StorageError(f"{key[:80]!a} is not the key of an environment")
    folder, archive = cache_folder() / key, registry.layout.env_archive(key)
    if folder.is_dir():
        os.utime(folder)  # it is in use
        return folder
    status = registry.storage.status(archive)
    if status is None:
        raise PathMissing(f"{archive} does not exist")
    if progress:
        progress(f"unpacking the environment {key} ({status.size / 1e6:,.0f} MB, once on this machine)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{key}-{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        _unpack(registry, archive, temporary)
        with contextlib.suppress(PathExists):
            LocalStorage().rename(str(temporary), str(folder))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _clear_unused(folder)
    return folder


def _unpack(registry: Registry, archive: str, folder: Path) -> None:
    """Let tar read the archive while it comes: nothing of it is kept twice."""
    command = ["tar", "-xz", "--no-same-owner", "-C", str(folder)]
    with (
        registry.storage.open(archive) as stream,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as tar,
    ):
        try:
            with contextlib.suppress(BrokenPipeError), tar.stdin:  # tar says why it ended
                shutil.copyfileobj(stream, tar.stdin, 1 << 20)
        except BaseException:
            tar.kill()
            raise
        said = tar.stderr.read().decode(errors="replace").strip()
    if tar.returncode:
        raise EnvironmentBuildError(f"{archive} does not unpack: {said.splitlines()[0] if said else tar.returncode}")
    if not (folder / "bin/python").exists():
        raise EnvironmentBuildError(f"{archive} holds no bin/python")


def _clear_unused(used: Path) -> None:
    for other in used.parent.iterdir():
        with contextlib.suppress(OSError):
            if other != used and time.time() - other.stat().st_mtime > UNUSED:
                # Under another name first, so that nobody takes a half-removed one for whole.
                gone = other.with_name(f".{other.name.strip('.')}-{secrets.token_hex(4)}.tmp")
                other.rename(gone)
                shutil.rmtree(gone, ignore_errors=True)
