"""HDFS through the JVM of a Spark session: for the driver of a job, with the job's own tokens and configuration."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dkeras_core.errors import AccessDenied, PathExists, PathMissing, StorageError
from dkeras_core.storage.access import symbolic
from dkeras_core.storage.base import FileStatus, Progress, Storage
from dkeras_core.storage.paths import clean, split_uri
from dkeras_core.storage.refusals import refusal, without_acls

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_BY_GATEWAY = 1 << 20  # bytes beyond which a temporary local file is faster than py4j, which sends text (7 MB/s)


class HadoopStorage(Storage):
    """The default file system (fs.defaultFS) of a Spark session.

    Renames go through FileContext, because FileSystem.rename nests into a folder that stands at the target.
    """

    def __init__(self, spark: SparkSession):
        context = spark.sparkContext
        self._gateway, self._conf = context._gateway, context._jsc.hadoopConfiguration()
        jvm = context._jvm
        self._jvm, self._hadoop = jvm, jvm.org.apache.hadoop.fs
        self.url = self._conf.get("fs.defaultFS")
        self.authority = split_uri(self.url)[1] or None
        with self._errors("/"):
            self._fs = self._hadoop.FileSystem.get(self._conf)
            self._context = self._hadoop.FileContext.getFileContext(self._conf)
            self._local = self._hadoop.FileSystem.getLocal(self._conf).getRawFileSystem()

    def __repr__(self) -> str:
        return f"HadoopStorage({self.url!r})"

    def clean(self, path: str) -> str:
        return clean(path, "hdfs", self.authority)

    def _path(self, path: str):
        # The three-part constructor takes the name as it is; Path(String) would read a colon as a scheme.
        return self._hadoop.Path(None, None, path)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        from py4j.protocol import Py4JError, Py4JJavaError
        from pyspark.errors import IllegalArgumentException

        try:
            yield
        except IllegalArgumentException as error:  # Spark turns this one Java class into its own
            raise refusal(path, "IllegalArgumentException", str(error), self.url) from error
        except Py4JJavaError as error:
            java = error.java_exception
            name = java.getClass().getName()
            if name.endswith("RemoteException"):
                name = java.getClassName()
            raise refusal(path, name, str(java.toString()), self.url) from error
        except (Py4JError, ConnectionError) as error:
            raise StorageError(
                f"{path}: the Spark session does not answer ({error})", "Look at the driver's log: its JVM has ended."
            ) from error

    def _file_status(self, found) -> FileStatus:
        is_dir = found.isDirectory()
        return FileStatus(
            found.getPath().toUri().getPath(),
            is_dir,
            0 if is_dir else found.getLen(),
            found.getModificationTime() / 1000,
            found.getOwner(),
            found.getPermission().toShort(),
            found.getGroup(),
        )

    def status(self, path: str) -> FileStatus | None:
        path = self.clean(path)
        try:
            with self._errors(path):
                return self._file_status(self._fs.getFileStatus(self._path(path)))
        except PathMissing:
            return None

    def list(self, path: str) -> list[FileStatus]:
        path = self.clean(path)
        with self._errors(path):
            children = [self._file_status(found) for found in self._fs.listStatus(self._path(path))]
        if len(children) == 1 and children[0].path == path:
            raise StorageError(f"{path}: is a file, not a folder [{self.url}]", "Check the path.")
        return sorted(children, key=lambda status: status.path)

    def open(self, path: str) -> BinaryIO:
        """See Storage.open; a large file is copied to a temporary one of this machine first."""
        status = self._needed(path)
        if status.size > _BY_GATEWAY:
            handle = tempfile.NamedTemporaryFile(prefix="dkeras-")  # noqa: SIM115 - the caller closes it
            try:
                self._get_file(status.path, Path(handle.name))
            except BaseException:
                handle.close()
                raise
            return handle
        with self._errors(path):
            stream = self._fs.open(self._path(status.path))
            try:
                return io.BytesIO(stream.readNBytes(_BY_GATEWAY))
            finally:
                stream.close()

    def write_bytes(self, path: str, data: bytes, *, overwrite: bool = False, mode: int | None = None) -> None:
        path = self.clean(path)
        if len(data) > _BY_GATEWAY:
            with tempfile.TemporaryDirectory(prefix="dkeras-") as folder:
                local = Path(folder, "data")
                local.write_bytes(data)
                self._put_file(local, path, overwrite, mode, None)
            return
        self._refuse_folder(path)
        with self._errors(path):
            stream = self._fs.create(self._path(path), overwrite)
            try:
                stream.write(bytearray(data))
                stream.close()
            except BaseException:
                self._discard(path)
                raise
        if mode is not None:
            self.set_mode(path, mode)

    def _refuse_folder(self, path: str) -> None:
        # FileUtil.copy would put the file inside the folder.
        found = self.status(path)
        if found is not None and found.is_dir:
            raise PathExists(f"{path}: a folder stands there [{self.url}]", "Choose another name.")

    def mkdirs(self, path: str, mode: int | None = None) -> None:
        path = self.clean(path)
        there = mode is not None and self.exists(path)
        with self._errors(path):
            self._fs.mkdirs(self._path(path))
        if mode is not None and not there:
            self.set_mode(path, mode)

    def rename(self, src: str, dst: str) -> None:
        self._move(self.clean(src), self.clean(dst), "NONE")

    def replace(self, src: str, dst: str) -> None:
        src = self.clean(src)
        if self._needed(src).is_dir:
            raise StorageError(f"{src}: only a file can replace another in one step", "Rename the folder instead.")
        self._move(src, self.clean(dst), "OVERWRITE")

    def _move(self, src: str, dst: str, option: str) -> None:
        kind = getattr(self._hadoop, "Options$Rename")
        options = self._gateway.new_array(kind, 1)
        options[0] = kind.valueOf(option)
        try:
            with self._errors(src):
                self._context.rename(self._path(src), self._path(dst), options)
        except PathExists as error:
            raise PathExists(f"{dst}: stands there already [{self.url}]", "Choose another name.") from error
        except PathMissing as error:
            if self.exists(src):
                folder = os.path.dirname(dst)
                raise PathMissing(f"{folder}: does not exist [{self.url}]", "Make the folder first.") from error
            raise

    def delete(self, path: str, recursive: bool = False) -> bool:
        path = self.clean(path)
        with self._errors(path):
            return self._fs.delete(self._path(path), recursive)

    def set_mode(self, path: str, mode: int) -> None:
        path = self.clean(path)
        with self._errors(path):
            permission = self._jvm.org.apache.hadoop.fs.permission.FsPermission(f"{mode:o}")
            self._fs.setPermission(self._path(path), permission)

    def set_owner(self, path: str, *, owner: str | None = None, group: str | None = None) -> None:
        path = self.clean(path)
        with self._errors(path):
            self._fs.setOwner(self._path(path), owner, group)

    def acl(self, path: str) -> list[str] | None:
        path = self.clean(path)
        try:
            with self._errors(path):
                found = self._fs.getAclStatus(self._path(path)).getEntries()
                # Hadoop 3.5 cannot write an empty list.
                return [] if found.isEmpty() else self._acl_entry.aclSpecToString(found).split(",")
        except StorageError as error:
            if without_acls(error):
                return None
            raise

    def add_acl(self, path: str, entries: Sequence[str]) -> None:
        path = self.clean(path)
        with self._errors(path):
            self._fs.modifyAclEntries(self._path(path), self._acl_entry.parseAclSpec(",".join(entries), True))

    @property
    def _acl_entry(self):
        return self._hadoop.permission.AclEntry

    def allows(self, path: str, action: str) -> bool:
        path = self.clean(path)
        try:
            with self._errors(path):
                self._fs.access(self._path(path), self._hadoop.permission.FsAction.getFsAction(symbolic(action)))
        except AccessDenied:
            return False
        return True

    def _put_file(self, local: Path, path: str, overwrite: bool, mode: int | None, progress: Progress | None) -> None:
        self._refuse_folder(path)
        try:
            self._copy(path, self._local, os.path.abspath(local), self._fs, path, overwrite)
        except PathExists:
            raise
        except BaseException:
            self._discard(path)
            raise
        if mode is not None:
            self.set_mode(path, mode)
        if progress is not None:
            progress(local.stat().st_size)

    def _get_file(self, path: str, local: Path) -> None:
        # The raw local file system, because the other one leaves a .crc file beside each.
        self._copy(path, self._fs, path, self._local, os.path.abspath(local), True)

    def _copy(self, path: str, source, source_path: str, target, target_path: str, overwrite: bool) -> None:
        """Copy one file within the JVM; ``path`` is the one that errors name."""
        paths = self._path(source_path), self._path(target_path)
        with self._errors(path):
            self._hadoop.FileUtil.copy(source, paths[0], target, paths[1], False, overwrite, self._conf)

    def _checksum(self, status: FileStatus) -> str:
        if status.size == 0:
            return "empty"
        with self._errors(status.path):
            found = self._fs.getFileChecksum(self._path(status.path))
            return f"{found.getAlgorithmName()}:{bytes(found.getBytes()).hex()}"
