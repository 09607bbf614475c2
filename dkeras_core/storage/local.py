"""Folders of this machine, with the same atomic operations as HDFS.

``rename`` without overwrite is one system call on Linux (renameat2 with RENAME_NOREPLACE). Where the kernel or the
file system lacks it, a file is hard-linked to its new name and a folder's new name is claimed by mkdir first, which a
rename may then replace because it is empty: both refuse what stands there in one step, but in the second case a
reader may see the new name as an empty folder for an instant.
"""

from __future__ import annotations

import ctypes
import errno
import grp
import hashlib
import os
import pwd
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dkeras_core.errors import AccessDenied, PathExists, PathMissing, StorageError
from dkeras_core.storage.base import CHUNK, FileStatus, Progress, Storage
from dkeras_core.storage.paths import clean

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1
_NEXT_STEPS = {
    errno.EACCES: "Ask the owner of the folder for permission, or choose another one.",
    errno.EPERM: "Ask the owner of the folder for permission, or choose another one.",
    errno.ENOSPC: "Free space on this disk, or choose another one.",
    errno.EDQUOT: "Free space within your quota, or ask for a larger one.",
    errno.EROFS: "This disk is mounted read-only: choose another one.",
    errno.ENOTDIR: "A file stands where a folder is needed: check the path.",
    errno.EISDIR: "A folder stands where a file is needed: check the path.",
    errno.ENOTEMPTY: "Delete its content too (recursive).",
    errno.EXDEV: "The two paths are on different disks: choose a place on the same one.",
}


@contextmanager
def _errors(path: str) -> Iterator[None]:
    """Turn the operating system's errors into the bundle's, naming the path."""
    try:
        yield
    except StorageError:
        raise
    except FileExistsError as error:
        raise PathExists(f"{path}: stands there already", "Choose another name, or ask to overwrite it.") from error
    except FileNotFoundError as error:
        raise PathMissing(f"{path}: does not exist", "Check the path, and that what writes it has run.") from error
    except OSError as error:
        kind = AccessDenied if isinstance(error, PermissionError) else StorageError
        raise kind(f"{path}: {error.strerror or error}", _NEXT_STEPS.get(error.errno)) from error


def _renameat2():
    """Return the C library's renameat2, None where there is none (macOS, old glibc)."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return function


def rename_without_overwrite(src: str, dst: str) -> None:
    """Rename, or raise FileExistsError when anything stands at ``dst``, in one step."""
    function = _renameat2()
    if function is not None:
        if function(_AT_FDCWD, os.fsencode(src), _AT_FDCWD, os.fsencode(dst), _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(code, os.strerror(code), src if code == errno.ENOENT else dst)
        if os.path.isdir(src) and os.path.commonpath([src, dst]) == src:
            raise OSError(errno.EINVAL, "a folder cannot be moved into itself", dst)
    claim_and_rename(src, dst)


def claim_and_rename(src: str, dst: str) -> None:
    """The same by POSIX means alone: link a file, claim a folder's name by mkdir (see the module's first lines)."""
    if not os.path.isdir(src):
        os.link(src, dst)
        os.unlink(src)
        return
    os.mkdir(dst)
    try:
        os.rename(src, dst)
    except OSError:
        os.rmdir(dst)
        raise


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


class LocalStorage(Storage):
    """The file systems mounted on this machine."""

    def clean(self, path: str) -> str:
        return clean(path, "file")

    def _status(self, path: str) -> FileStatus:
        found = os.stat(path)
        is_dir = os.path.isdir(path)
        size = 0 if is_dir else found.st_size
        mode = found.st_mode & 0o7777
        return FileStatus(path, is_dir, size, found.st_mtime, _user(found.st_uid), mode, _group(found.st_gid))

    def status(self, path: str) -> FileStatus | None:
        path = self.clean(path)
        with _errors(path):
            try:
                return self._status(path)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, path: str) -> list[FileStatus]:
        path, children = self.clean(path), []
        with _errors(path):
            names = sorted(os.listdir(path))
        for name in names:
            status = self.status(f"{path.rstrip('/')}/{name}")
            if status is not None:  # gone since the listing: another process deleted or renamed it
                children.append(status)
        return children

    def open(self, path: str) -> BinaryIO:
        path = self.clean(path)
        with _errors(path):
            return open(path, "rb")

    def write_bytes(self, path: str, data: bytes, *, overwrite: bool = False, mode: int | None = None) -> None:
        def write(temporary: str) -> None:
            Path(temporary).write_bytes(data)

        self._create(self.clean(path), write, overwrite, mode)

    def _create(self, path: str, write, overwrite: bool, mode: int | None) -> None:
        """Let ``write`` fill a temporary file beside ``path``, then give it its name in one step."""
        folder, name = os.path.split(path)
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
        with _errors(path):
            os.makedirs(folder, exist_ok=True)
            if not overwrite and os.path.lexists(path):
                raise FileExistsError(path)
            try:
                write(temporary)
                if mode is not None:
                    os.chmod(temporary, mode)
                if overwrite:
                    os.replace(temporary, path)
                else:
                    rename_without_overwrite(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)

    def mkdirs(self, path: str, mode: int | None = None) -> None:
        path = self.clean(path)
        with _errors(path):
            if not os.path.isdir(path):
                os.makedirs(path, exist_ok=True)
                if mode is not None:
                    os.chmod(path, mode)

    def rename(self, src: str, dst: str) -> None:
        src, dst = self.clean(src), self.clean(dst)
        self._needed(src)
        with _errors(dst):
            if not os.path.isdir(os.path.dirname(dst)):
                raise PathMissing(f"{os.path.dirname(dst)}: does not exist", "Make the folder first.")
            rename_without_overwrite(src, dst)

    def replace(self, src: str, dst: str) -> None:
        src, dst = self.clean(src), self.clean(dst)
        if self._needed(src).is_dir:
            raise StorageError(f"{src}: only a file can replace another in one step", "Rename the folder instead.")
        with _errors(dst):
            os.replace(src, dst)

    def delete(self, path: str, recursive: bool = False) -> bool:
        path = self.clean(path)
        with _errors(path):
            try:
                if not os.path.isdir(path) or os.path.islink(path):
                    os.unlink(path)
                elif recursive:
                    shutil.rmtree(path)
                else:
                    os.rmdir(path)
            except FileNotFoundError:
                return False
        return True

    def set_mode(self, path: str, mode: int) -> None:
        path = self.clean(path)
        with _errors(path):
            os.chmod(path, mode)

    def set_owner(self, path: str, *, owner: str | None = None, group: str | None = None) -> None:
        path = self.clean(path)
        with _errors(path):
            try:
                shutil.chown(path, owner, group)
            except LookupError as error:
                raise StorageError(f"{path}: {error}", "Name a user or group of this machine.") from error

    def acl(self, path: str) -> list[str] | None:
        self._needed(path)
        return None

    def add_acl(self, path: str, entries: Sequence[str]) -> None:
        raise StorageError(
            f"{path}: dkeras sets access control lists in HDFS only", "Use the file's group, or setfacl."
        )

    def allows(self, path: str, action: str) -> bool:
        path = self._needed(path).path
        return os.access(path, sum({"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[right] for right in action))

    def _put_file(self, local: Path, path: str, overwrite: bool, mode: int | None, progress: Progress | None) -> None:
        def write(temporary: str) -> None:
            shutil.copyfile(local, temporary)

        self._create(path, write, overwrite, mode)
        if progress is not None:
            progress(local.stat().st_size)

    def _get_file(self, path: str, local: Path) -> None:
        with _errors(path):
            shutil.copyfile(path, local)

    def _checksum(self, status: FileStatus) -> str:
        digest = hashlib.sha256()
        with self.open(status.path) as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()
