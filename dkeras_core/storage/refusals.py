"""What HDFS answers when it refuses, in words: the Java exception's name becomes a cause and a next step.

WebHDFS names the exception in its JSON answer, Spark's JVM throws it; both come here, so a person reads the same
message whichever way the request went.
"""

from __future__ import annotations

import re

from dkeras_core.errors import AccessDenied, PathExists, PathMissing, StorageError

_CLASS = re.compile(r"\b([A-Z]\w*(?:Exception|InvalidToken))\b")

# Exception (simple name): its kind, the cause, the next step.
_CAUSES: dict[str, tuple[type[StorageError], str, str]] = {
    "FileNotFoundException": (
        PathMissing,
        "does not exist",
        "Check the path, and that what writes it has run.",
    ),
    "FileAlreadyExistsException": (
        PathExists,
        "stands there already",
        "Choose another name, or ask to overwrite it.",
    ),
    "AccessControlException": (
        AccessDenied,
        "permission denied",
        "Ask for write permission (hdfs dfs -chmod or -setfacl on the folder), or set another user or root folder.",
    ),
    "AclException": (
        StorageError,
        "the access control list is refused",
        "Set dfs.namenode.acls.enabled on the NameNode, or use the group of the folder instead.",
    ),
    "NSQuotaExceededException": (
        StorageError,
        "the quota of names (files and folders) is exceeded",
        "Delete what is not needed, or ask an administrator to raise it (hdfs dfsadmin -setQuota).",
    ),
    "DSQuotaExceededException": (
        StorageError,
        "the space quota is exceeded",
        "Delete what is not needed, or ask an administrator to raise it (hdfs dfsadmin -setSpaceQuota).",
    ),
    "SafeModeException": (
        StorageError,
        "the NameNode is in safe mode and accepts no change",
        "Wait until it has heard of its blocks; if it stays so: hdfs dfsadmin -safemode get, and its web page.",
    ),
    "StandbyException": (
        StorageError,
        "no NameNode is active (each one answered that it is standby)",
        "Wait for the failover to end; look at it with hdfs haadmin -getAllServiceState.",
    ),
    "RetriableException": (
        StorageError,
        "the NameNode is not ready yet",
        "Try again in a minute; if it stays so, look at the NameNode's web page.",
    ),
    "ParentNotDirectoryException": (
        StorageError,
        "a file stands where a folder is needed",
        "Check the path.",
    ),
    "PathIsNotEmptyDirectoryException": (
        StorageError,
        "the folder is not empty",
        "Delete its content too (recursive).",
    ),
    "AlreadyBeingCreatedException": (
        PathExists,
        "is being written by another process",
        "Wait for it to end, or choose another name.",
    ),
    "SnapshotException": (
        StorageError,
        "the folder holds a snapshot and cannot be moved or deleted",
        "Delete the snapshot first (hdfs dfs -deleteSnapshot).",
    ),
    "InvalidPathException": (
        StorageError,
        "HDFS does not allow this name",
        "Choose a name without ':' and control characters.",
    ),
    "PathComponentTooLongException": (
        StorageError,
        "HDFS does not allow a name as long as this",
        "Choose a shorter name (255 bytes by default).",
    ),
    "InvalidToken": (
        StorageError,
        "the delegation token has expired or is not known",
        "Log in again (kinit), or submit with a principal and keytab.",
    ),
    "UnknownHostException": (
        StorageError,
        "the host of the file system is not known",
        "Check fs.defaultFS and the addresses in HADOOP_CONF_DIR.",
    ),
    "ConnectException": (
        StorageError,
        "the connection was refused",
        "Start HDFS (dkeras cluster up for the local one), or check the addresses in HADOOP_CONF_DIR.",
    ),
    "ConnectTimeoutException": (
        StorageError,
        "no answer came in time",
        "Check that HDFS is up and that no firewall stands between.",
    ),
}
_SAME = {
    "PathExistsException": "FileAlreadyExistsException",
    "PathNotFoundException": "FileNotFoundException",
    "AuthorizationException": "AccessControlException",
    "SecurityException": "AccessControlException",
    "QuotaByStorageTypeExceededException": "DSQuotaExceededException",
    "NoRouteToHostException": "ConnectException",
    "SocketTimeoutException": "ConnectTimeoutException",
}


def without_acls(error: StorageError) -> bool:
    """Tell whether a refusal says that the NameNode keeps no access control lists."""
    return "dfs.namenode.acls.enabled" in error.what


def refusal(path: str, exception: str | None, message: str, where: str) -> StorageError:
    """Return the error to raise for a Java exception.

    Parameters
    ----------
    path : str
        What the request was about.
    exception : str, optional
        Its class name, simple or full; a general IOException is searched for the name of the one it wraps.
    message : str
        Its message; the first line is shown.
    where : str
        The file system, for the reader ("http://namenode:9870", "hdfs://site").
    """
    names = [exception.rsplit(".", 1)[-1].rsplit("$", 1)[-1]] if exception else []
    names += _CLASS.findall(message)
    first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")[:500]
    if "is in safe mode" in message.lower():
        names.insert(0, "SafeModeException")
    elif "is not a valid DFS filename" in message:
        names.insert(0, "InvalidPathException")
    elif "must both be directories" in message:  # a file renamed to the name of a folder, without a class of its own
        names.insert(0, "FileAlreadyExistsException")
    for name in names:
        found = _CAUSES.get(_SAME.get(name, name))
        if found:
            kind, cause, next_step = found
            detail = "" if kind in (PathExists, PathMissing) else f" ({first})"
            return kind(f"{path}: {cause} [{where}]{detail}", next_step)
    said = f"{names[0]}: {first}" if names else first
    return StorageError(f"{path}: the file system failed [{where}]: {said}", "Look at the NameNode's log and web page.")
