"""Paths of the bundle's file systems: plain and absolute, or URIs."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from dkeras_core.errors import StorageError


def split_uri(path: str) -> tuple[str, str, str]:
    """Return (scheme, authority, absolute path) of a path or URI; the first two are empty for a plain path."""
    text = str(path)
    scheme, authority, rest = "", "", text
    if "://" in text or text.startswith("file:/"):
        parts = urlsplit(text)
        # An HDFS path may hold '?' and '#', which only a web address gives a meaning.
        scheme, authority = parts.scheme, parts.netloc
        rest = text.split(":", 1)[1].removeprefix("//" + authority) if authority else text.split(":", 1)[1]
        rest = "/" + rest.lstrip("/")
        if scheme == "file":
            rest = unquote(rest)
    return scheme, authority, rest


def clean(path: str, scheme: str, authority: str | None = None) -> str:
    """Return ``path`` as a plain absolute path, without trailing or doubled slashes.

    Parameters
    ----------
    path : str
        Absolute path or URI.
    scheme : str
        The only scheme a URI may carry here ("hdfs" or "file").
    authority : str, optional
        The authority of this file system; None when unknown, then any is accepted.

    Raises
    ------
    StorageError
        Relative path, a ``..`` or NUL within, or a URI of another file system.
    """
    found, where, rest = split_uri(path)
    if found and found not in (scheme, "webhdfs" if scheme == "hdfs" else scheme):
        raise StorageError(
            f"{path}: a {found}:// path given to a {scheme} file system", "Use a path of that file system."
        )
    if where and authority and where != authority:
        raise StorageError(
            f"{path}: names the file system {where}, but this is {authority}",
            "Leave the authority out, or set HADOOP_CONF_DIR to the configuration of that cluster.",
        )
    if not rest.startswith("/"):
        raise StorageError(f"{path!r}: a path here must be absolute", "Begin it with '/'.")
    parts = [part for part in rest.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in rest:
        raise StorageError(f"{path!r}: a path may hold neither '..' nor NUL", "Write the path without them.")
    return "/" + "/".join(parts)
