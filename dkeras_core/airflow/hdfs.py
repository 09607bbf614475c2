"""Files as tasks and triggers see them: HDFS by the NameNodes that HADOOP_CONF_DIR names, or a local folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from dkeras_core.errors import ConfigError, PathMissing, StorageError
from dkeras_core.storage.base import Storage
from dkeras_core.storage.paths import split_uri


def storage_of(path: str) -> Storage:
    """Return the file system of a path or root folder; every NameNode of a highly available pair is tried.

    Raises
    ------
    ConfigError, ClusterError
        No cluster is named, or what names it is wrong.
    """
    if split_uri(path)[0] == "file":
        from dkeras_core.storage.local import LocalStorage

        return LocalStorage()
    from dkeras_core.cli import place

    return place.find(path).storage


def read_json(storage: Storage, path: str) -> dict[str, Any] | None:
    """Return the content of a JSON file, None where there is none; StorageError when it is damaged."""
    try:
        return json.loads(storage.read_bytes(path))
    except PathMissing:
        return None
    except ValueError as error:
        raise StorageError(f"{path}: is not JSON ({error})", "Run the step that writes it again.") from error


def look(path: str, flag: str | None = None, newer_than: datetime | None = None) -> dict[str, Any] | None:
    """Return what stands at ``path`` ({"path", "modified", "size"}), None when it is not there yet.

    Parameters
    ----------
    path : str
        File or folder.
    flag : str, optional
        Name of a file in the folder ``path`` that says that it is complete; a ``path`` that is a file needs none.
    newer_than : datetime, optional
        What is not younger than that does not count.

    Raises
    ------
    StorageError, ClusterError, ConfigError
        The file system cannot be asked, or refuses.
    """
    storage = storage_of(path)
    status = storage.status(path)
    if status is not None and status.is_dir and flag:
        status = storage.status(f"{path.rstrip('/')}/{flag}")
    if status is None or (newer_than is not None and status.modified <= newer_than.timestamp()):
        return None
    modified = datetime.fromtimestamp(status.modified, UTC).isoformat()
    return {"path": status.path, "modified": modified, "size": status.size}


def moment(text: str | None) -> datetime | None:
    """Return the point in time of an ISO text, UTC where no zone is named, or None; ConfigError for what is none."""
    if not text or not text.strip() or text.strip() == "None":
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ConfigError(f"{text!r} is no ISO date and time", "Write one such as 2026-11-23T02:00:00Z.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
