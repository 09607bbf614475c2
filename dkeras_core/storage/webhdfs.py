"""HDFS by its REST interface, for machines without Java: edge nodes, Airflow workers, notebooks.

Built on the `hdfs` package, with what it leaves open: every request has deadlines and ignores proxy settings of the
environment, a rename is the one that never overwrites and never nests (facts of HDFS: the plain RENAME does nest), and
a rename whose answer was lost is recognised by the inode number, which moves with the file.
"""

from __future__ import annotations

import io
import logging
import os
import posixpath
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import requests
from hdfs import HdfsError, InsecureClient
from hdfs.client import _Request
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from dkeras_core.errors import AccessDenied, PathExists, PathMissing, StorageError
from dkeras_core.storage.access import symbolic
from dkeras_core.storage.base import CHUNK, FileStatus, Progress, Storage
from dkeras_core.storage.body import Body, chunks
from dkeras_core.storage.paths import clean
from dkeras_core.storage.refusals import refusal, without_acls

# The client logs as errors what it also raises; people should read the bundle's message alone.
logging.getLogger("hdfs.client").setLevel(logging.CRITICAL)

_NOT_PERFORMED = ("StandbyException", "RetriableException")
_NO_ANSWER = (requests.exceptions.ConnectionError, requests.exceptions.ReadTimeout)
# Refusals of a block (quota, full DataNodes) when the file has been created: the empty file is this writer's own.
_AFTER_CREATION = ("DSQuotaExceededException", "QuotaByStorageTypeExceededException", "IOException")

_check_access = _Request("GET").to_method("CHECKACCESS")  # which the client does not bring


class WebHdfsStorage(Storage):
    """HDFS through the NameNode's web address.

    Parameters
    ----------
    url : str
        "http://host:port"; of a pair for high availability both, separated by ";".
    user : str, optional
        Whom to act as (a cluster without Kerberos believes it); default $HADOOP_USER_NAME, as Hadoop's own
        clients do, then this process's user.
    timeout : (float, float)
        Seconds to connect, and seconds between two pieces of an answer.
    authority : str, optional
        The authority of fs.defaultFS, against which hdfs:// paths are checked.
    kerberos : bool
        Authenticate by the Kerberos ticket of this process instead.
    failover : float
        How long to try again, in seconds, while no NameNode of the cluster is ready or active.
    """

    def __init__(
        self,
        url: str,
        user: str | None = None,
        timeout: tuple[float, float] = (5.0, 60.0),
        *,
        authority: str | None = None,
        kerberos: bool = False,
        failover: float = 30.0,
    ):
        self.url, self.authority, self._failover = url, authority, failover
        session = requests.Session()
        session.trust_env = False
        # What never reached the server, and what only reads, may be sent again; a rename whose answer was lost may not.
        retry = Retry(total=3, connect=0, read=2, redirect=0, status=0, allowed_methods={"GET"}, backoff_factor=0.2)
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=16, max_retries=retry))
        if kerberos:
            self._client = _kerberos_client(url, timeout, session)
        else:
            user = user or os.environ.get("HADOOP_USER_NAME")
            self._client = InsecureClient(url, user=user, timeout=timeout, session=session)

    def __repr__(self) -> str:
        return f"WebHdfsStorage({self.url!r})"

    def clean(self, path: str) -> str:
        return clean(path, "hdfs", self.authority)

    @contextmanager
    def _errors(self, path: str) -> Iterator[None]:
        """Turn what the client raises into the bundle's errors."""
        try:
            yield
        except HdfsError as error:
            if "Authentication failure" in str(error.message):
                raise StorageError(
                    f"{path}: {self.url} asks for authentication (401)",
                    "Get a ticket (kinit), and ask for Kerberos in the configuration.",
                ) from error
            raise refusal(path, error.exception, str(error.message), self.url) from error
        except requests.exceptions.SSLError as error:
            raise StorageError(
                f"{path}: the certificate of {self.url} is not trusted ({error})", "Install the site's certificate."
            ) from error
        except (requests.exceptions.ConnectTimeout, requests.exceptions.ReadTimeout) as error:
            raise refusal(path, "ConnectTimeoutException", _address(error), self.url) from error
        except requests.exceptions.ConnectionError as error:
            raise refusal(path, "ConnectException", _address(error), self.url) from error
        except (requests.exceptions.RequestException, HTTPError) as error:
            raise refusal(path, None, str(error), self.url) from error

    def _call(self, operation: str, path: str, **parameters) -> requests.Response:
        """Send one request, again while the NameNodes say that they did not perform it.

        Of a pair it is sent again when one does not answer, too: the active one has died, the other is still standby,
        and which of the two the client speaks of is chance. The client itself has asked both, so nothing that must not
        be done twice comes here (``_move`` knows a rename that has happened).
        """
        deadline, pause = time.monotonic() + self._failover, 0.2
        with self._errors(path):
            while True:
                try:
                    if operation == "_check_access":
                        return _check_access(self._client, path, **parameters)
                    return getattr(self._client, operation)(path, **parameters)
                except (HdfsError, *_NO_ANSWER) as error:
                    if isinstance(error, HdfsError):
                        waits = error.exception in _NOT_PERFORMED
                    else:
                        waits = ";" in self.url and not isinstance(error, requests.exceptions.SSLError)
                    if not waits or time.monotonic() + pause > deadline:
                        raise
                    time.sleep(pause)
                    pause = min(2 * pause, 5.0)

    def _inode(self, path: str) -> tuple[FileStatus, int] | None:
        try:
            found = self._call("_get_file_status", path).json()["FileStatus"]
        except PathMissing:
            return None
        return _file_status(path, found), found.get("fileId", 0)

    def status(self, path: str) -> FileStatus | None:
        found = self._inode(self.clean(path))
        return found[0] if found else None

    def list(self, path: str) -> list[FileStatus]:
        path = self.clean(path)
        found = self._call("_list_status", path).json()["FileStatuses"]["FileStatus"]
        if len(found) == 1 and not found[0]["pathSuffix"]:
            raise StorageError(f"{path}: is a file, not a folder [{self.url}]", "Check the path.")
        base = path.rstrip("/")
        return sorted((_file_status(f"{base}/{s['pathSuffix']}", s) for s in found), key=lambda status: status.path)

    def open(self, path: str) -> BinaryIO:
        path = self.clean(path)
        return io.BufferedReader(Body(self._errors, path, self._call("_open", path)), CHUNK)

    def write_bytes(self, path: str, data: bytes, *, overwrite: bool = False, mode: int | None = None) -> None:
        self._create(self.clean(path), data, overwrite, mode)

    def _create(self, path: str, data: bytes | Iterable[bytes], overwrite: bool, mode: int | None) -> None:
        there = self.status(path)
        if there is not None and (there.is_dir or not overwrite):
            raise PathExists(f"{path}: stands there already [{self.url}]", "Choose another name.")
        answer = self._call("_create", path, overwrite=str(overwrite).lower())
        with self._errors(path):
            sent = self._client._request(method="PUT", url=answer.headers["location"], data=data)
            if not sent:
                error = _remote_error(sent)
                if error.exception in _AFTER_CREATION:
                    self._discard(path)
                raise error
        if mode is not None:
            self.set_mode(path, mode)

    def mkdirs(self, path: str, mode: int | None = None) -> None:
        path = self.clean(path)
        new = mode is not None and not self.exists(path)
        self._call("_mkdirs", path)
        if new:
            self.set_mode(path, mode)

    def rename(self, src: str, dst: str) -> None:
        self._move(self.clean(src), self.clean(dst), "NONE")

    def replace(self, src: str, dst: str) -> None:
        src, dst = self.clean(src), self.clean(dst)
        if self._needed(src).is_dir:
            raise StorageError(f"{src}: only a file can replace another in one step", "Rename the folder instead.")
        self._move(src, dst, "OVERWRITE")

    def _move(self, src: str, dst: str, option: str) -> None:
        moving = self._inode(src)
        if moving is None:
            raise PathMissing(f"{src}: does not exist [{self.url}]", "Check the path.")
        try:
            self._call("_rename", src, destination=dst, renameoptions=option)
        except StorageError as error:
            # The first answer may have been lost and the client have asked again: then the file has moved already.
            try:
                arrived = self._inode(dst)
            except StorageError:
                raise error from None
            if arrived is not None and arrived[1] == moving[1] != 0:
                return
            if isinstance(error, PathExists):
                raise PathExists(f"{dst}: stands there already [{self.url}]", "Choose another name.") from error
            if isinstance(error, PathMissing) and self.exists(src):
                folder = posixpath.dirname(dst)
                raise PathMissing(f"{folder}: does not exist [{self.url}]", "Make the folder first.") from error
            raise

    def delete(self, path: str, recursive: bool = False) -> bool:
        path = self.clean(path)
        return self._call("_delete", path, recursive=str(recursive).lower()).json()["boolean"]

    def set_mode(self, path: str, mode: int) -> None:
        self._call("_set_permission", self.clean(path), permission=f"{mode:o}")

    def set_owner(self, path: str, *, owner: str | None = None, group: str | None = None) -> None:
        given = {key: value for key, value in (("owner", owner), ("group", group)) if value is not None}
        self._call("_set_owner", self.clean(path), **given)

    def acl(self, path: str) -> list[str] | None:
        try:
            return self._call("_get_acl_status", self.clean(path)).json()["AclStatus"]["entries"]
        except StorageError as error:
            if without_acls(error):
                return None
            raise

    def add_acl(self, path: str, entries: Sequence[str]) -> None:
        self._call("_modify_acl_entries", self.clean(path), aclspec=",".join(entries))

    def allows(self, path: str, action: str) -> bool:
        try:
            self._call("_check_access", self.clean(path), fsaction=symbolic(action))
        except AccessDenied:
            return False
        return True

    def _put_file(self, local: Path, path: str, overwrite: bool, mode: int | None, progress: Progress | None) -> None:
        try:
            with Path(local).open("rb") as stream:
                self._create(path, chunks(stream, progress), overwrite, mode)
        except PathExists:
            raise
        except BaseException:
            self._discard(path)
            raise

    def _get_file(self, path: str, local: Path) -> None:
        with self.open(path) as source, Path(local).open("wb") as target:
            while chunk := source.read(CHUNK):
                target.write(chunk)

    def _checksum(self, status: FileStatus) -> str:
        if status.size == 0:
            return "empty"
        found = self._call("_get_file_checksum", status.path).json()["FileChecksum"]
        return f"{found['algorithm']}:{found['bytes'][: 2 * found['length']]}"


def _file_status(path: str, found: dict) -> FileStatus:
    is_dir = found["type"] == "DIRECTORY"
    modified = found["modificationTime"] / 1000
    mode = int(found["permission"], 8)
    return FileStatus(path, is_dir, found["length"], modified, found["owner"], mode, found["group"])


def _remote_error(response: requests.Response) -> HdfsError:
    """Return the error that a DataNode answered, in the client's own type."""
    try:
        remote = response.json()["RemoteException"]
    except (ValueError, KeyError, TypeError):
        return HdfsError(f"{response.status_code} {response.reason}: {response.text[:300]}")
    return HdfsError(remote["message"].replace("%", "%%"), exception=remote["exception"])


def _address(error: requests.exceptions.RequestException) -> str:
    """Name the host that did not answer: it may be a DataNode, which the reader did not ask for by name."""
    address = requests.utils.urlparse(error.request.url).netloc if error.request is not None else "the server"
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return f"{address}: {str(reason).rsplit('>: ', 1)[-1]}"


def _kerberos_client(url: str, timeout: tuple[float, float], session: requests.Session):
    try:
        from hdfs.ext.kerberos import KerberosClient
    except ImportError as error:
        raise StorageError(
            f"{url}: Kerberos is asked for, but the Python package for it is not installed ({error.name})",
            "Install it: pip install 'hdfs[kerberos]' (needs gcc and libkrb5-dev), then kinit.",
        ) from error
    return KerberosClient(url, mutual_auth="REQUIRED", timeout=timeout, session=session)
