"""What every file system of the bundle can do: one contract, and the behaviour that follows from it.

A path is a plain absolute string, ``/dkeras/models/higgs``. A URI, ``hdfs://namenode:8020/dkeras``, is accepted
wherever a path is, and refused when it names another file system than the one it is given to.

The commit points of the whole bundle are two operations, so their meaning is fixed here and tested against every
implementation: ``rename`` never overwrites and never nests, ``replace`` swaps a file in one step. A reader sees the
state before or the state after, nothing between.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dkeras_core.errors import PathExists, PathMissing, StorageError

Progress = Callable[[int], None]
CHUNK = 1 << 20
_SENDERS = 4


@dataclass(frozen=True)
class FileStatus:
    """One file or folder as it stands: absolute path, size in bytes, time of change in Unix seconds, mode bits.

    Where there is an access control list, the group's bits in ``mode`` are its mask (HDFS and POSIX alike).
    """

    path: str
    is_dir: bool
    size: int
    modified: float
    owner: str
    mode: int
    group: str = ""

    @property
    def name(self) -> str:
        return posixpath.basename(self.path)


class Storage(ABC):
    """A file system; see the module for what paths are and which operations are atomic.

    Every method may raise StorageError (permission, quota, unreachable), with the cause and the next step.
    """

    @abstractmethod
    def clean(self, path: str) -> str:
        """Return the plain absolute path; StorageError when the path belongs elsewhere."""

    @abstractmethod
    def status(self, path: str) -> FileStatus | None:
        """Return what stands at ``path``, None when nothing does."""

    @abstractmethod
    def list(self, path: str) -> list[FileStatus]:
        """Return the children of a folder, sorted by name; PathMissing when it is not there."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """Open a file for streaming reads, to be used in a ``with`` block; PathMissing."""

    @abstractmethod
    def write_bytes(self, path: str, data: bytes, *, overwrite: bool = False, mode: int | None = None) -> None:
        """Create a file; parents are made. PathExists when one is there and ``overwrite`` is false.

        The check and the creation are one step: of two writers without overwrite exactly one succeeds. With
        overwrite, HDFS shows readers an empty file for a moment; use ``write_atomic`` where they must not see that.
        A refusal leaves no file; only a connection that breaks in the middle may leave one, empty or cut off.
        """

    @abstractmethod
    def mkdirs(self, path: str, mode: int | None = None) -> None:
        """Make a folder and its parents; a folder that stands there is left as it is."""

    @abstractmethod
    def rename(self, src: str, dst: str) -> None:
        """Move a file or folder in one step, never over and never into what stands at ``dst``.

        PathExists when anything stands at ``dst``, PathMissing when ``src`` or the parent of ``dst`` is not there.
        """

    @abstractmethod
    def replace(self, src: str, dst: str) -> None:
        """Move the file ``src`` over ``dst`` in one step: every reader finds the old bytes or the new ones."""

    @abstractmethod
    def delete(self, path: str, recursive: bool = False) -> bool:
        """Delete; False when nothing was there. A folder with content needs ``recursive``."""

    @abstractmethod
    def set_mode(self, path: str, mode: int) -> None:
        """Set the permission bits of one file or folder; AccessDenied for all but its owner and superusers."""

    @abstractmethod
    def set_owner(self, path: str, *, owner: str | None = None, group: str | None = None) -> None:
        """Give one file or folder to another user or group.

        AccessDenied: only superusers give to another user, and an owner only to a group that he or she is in.
        """

    @abstractmethod
    def acl(self, path: str) -> list[str] | None:
        """Return the access control list of one file or folder beyond its mode, such as ``group:operators:rwx``.

        Empty when there is none; None when this file system keeps none (a local folder, dfs.namenode.acls.enabled
        is false). PathMissing.
        """

    @abstractmethod
    def add_acl(self, path: str, entries: Sequence[str]) -> None:
        """Add entries to an access control list, or change them; StorageError where there are no lists."""

    @abstractmethod
    def allows(self, path: str, action: str) -> bool:
        """Tell whether this user has the rights ``action`` ("w", "rx", …) on one file or folder. PathMissing.

        Sticky bits do not count: they are about what stands in a folder.
        """

    @abstractmethod
    def _put_file(self, local: Path, path: str, overwrite: bool, mode: int | None, progress: Progress | None) -> None:
        """Upload one file to exactly ``path``."""

    @abstractmethod
    def _get_file(self, path: str, local: Path) -> None:
        """Download one file to exactly ``local``, whose parent exists."""

    @abstractmethod
    def _checksum(self, status: FileStatus) -> str:
        """Return an identity of one file's bytes, as cheap as this file system has it."""

    def exists(self, path: str) -> bool:
        return self.status(path) is not None

    def walk(self, path: str) -> Iterator[FileStatus]:
        """Yield all files below a folder, depth first and sorted by name; a file yields itself. PathMissing."""
        status = self._needed(path)
        if not status.is_dir:
            yield status
            return
        for child in self.list(path):
            if child.is_dir:
                yield from self.walk(child.path)
            else:
                yield child

    def read_bytes(self, path: str) -> bytes:
        """Return the whole content of a file; PathMissing."""
        with self.open(path) as stream:
            return stream.read()

    def write_atomic(self, path: str, data: bytes, mode: int | None = None) -> None:
        """Write a file in one step: under a temporary name beside it, then ``replace``."""
        path = self.clean(path)
        folder, name = posixpath.split(path)
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
        self.write_bytes(temporary, data, mode=mode)
        try:
            self.replace(temporary, path)
        except BaseException:
            self._discard(temporary)
            raise

    def upload(
        self,
        local: Path,
        path: str,
        *,
        overwrite: bool = False,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Upload a file or a folder with all below it, so that it stands at exactly ``path``.

        Parameters
        ----------
        local : Path
            File or folder on this machine; empty folders are kept.
        path : str
            Its new name (not the folder to put it in). PathExists when something stands there; with ``overwrite``
            files are written over, and files that only the target has are left alone.
        mode : int, optional
            Permission bits of each file.
        progress : callable, optional
            Called with the number of bytes sent since the last call; for a folder from several threads.
        """
        local, path = Path(local), self.clean(path)
        if local.is_file():
            self._put_file(local, path, overwrite, mode, progress)
            return
        if not local.is_dir():
            raise PathMissing(f"{local}: there is no such file or folder to upload", "Check the path.")
        if not overwrite and self.exists(path):
            raise PathExists(f"{path}: stands there already", "Choose another name, or ask to overwrite it.")
        self.mkdirs(path)
        files = []
        for found in sorted(local.rglob("*")):
            target = f"{path}/{found.relative_to(local).as_posix()}"
            if found.is_dir():
                self.mkdirs(target)
            else:
                files.append((found, target))
        # A small file is mostly waiting for answers, so a few travel side by side.
        with ThreadPoolExecutor(_SENDERS) as senders:
            sent = [senders.submit(self._put_file, *pair, overwrite, mode, progress) for pair in files]
            try:
                for future in sent:
                    future.result()
            finally:
                for future in sent:
                    future.cancel()

    def download(self, path: str, local: Path) -> None:
        """Download a file or folder so that it stands at exactly ``local``; files there are replaced. PathMissing."""
        local, status = Path(local), self._needed(path)
        if status.is_dir:
            local.mkdir(parents=True, exist_ok=True)
            for child in self.list(status.path):
                self.download(child.path, local / child.name)
            return
        if local.is_dir():
            raise StorageError(f"{local}: is a folder, but {path} is a file", "Name the file to write.")
        local.parent.mkdir(parents=True, exist_ok=True)
        temporary = local.with_name(f".{local.name}.{secrets.token_hex(4)}.tmp")
        try:
            self._get_file(status.path, temporary)
            temporary.replace(local)
        finally:
            temporary.unlink(missing_ok=True)

    def fingerprint(self, path: str) -> str:
        """Return a hex identity of a file or folder tree: names, sizes and checksums of all files below.

        HDFS keeps a checksum of every file, which costs one small request a file and no reading of data; local files
        are hashed. The same bytes give the same fingerprint on the same kind of file system (and block size), however
        often they were copied; owners, modes and times do not count. PathMissing.
        """
        base, digest = self.clean(path), hashlib.sha256()
        for status in self.walk(base):
            name = status.path[len(base) :].lstrip("/")
            digest.update(f"{name}\t{status.size}\t{self._checksum(status)}\n".encode())
        return digest.hexdigest()

    def _needed(self, path: str) -> FileStatus:
        status = self.status(path)
        if status is None:
            raise PathMissing(f"{path}: does not exist", "Check the path, and that what writes it has run.")
        return status

    def _discard(self, path: str) -> None:
        """Delete what a failed operation left, without hiding the failure that is being reported."""
        with contextlib.suppress(StorageError):
            self.delete(path, recursive=True)
