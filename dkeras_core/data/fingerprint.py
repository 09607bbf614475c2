"""The fingerprint of a data set: equal fingerprints mean equal data and settings, so that the result can be reused."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from dkeras_core.config import Pipeline, Split
from dkeras_core.errors import StorageError

if TYPE_CHECKING:
    from dkeras_core.storage import Storage

CODE_VERSION = 2
"""Raised by whoever changes what the preprocessing writes for the same input and settings."""


def fingerprint(pipeline: Pipeline, data: str) -> str:
    """Return the fingerprint (16 hex digits) of the input's identity and of all settings that shape the result.

    These are the format and the sections schema, split and features. Not among them is what only changes how fast
    it goes (executors, workers), so that a run with more workers reuses the same data set.
    """
    parts = {
        "code": CODE_VERSION,
        "data": data,
        "format": pipeline.input.format,
        **{
            name: getattr(pipeline, attribute).model_dump(mode="json")
            for name, attribute in (("schema", "schema_"), ("features", "features"))
        },
        "split": _split(pipeline.split),
    }
    return _digest(parts)[:16]


def _split(split: Split) -> dict[str, Any]:
    """The settings that draw the split: folds have no test share, and what has no folds is what it was before them."""
    return split.model_dump(mode="json", exclude_none=True, exclude={"test"} if split.folds else None)


def identity_of_path(storage: Storage, path: str) -> str:
    """Return the identity of a file or folder: path, names, sizes and the checksums that the file system keeps."""
    return _digest([path, storage.fingerprint(path)])


def identity_of_query(storage: Storage, text: str, files: Iterable[str]) -> str:
    """Return the identity of a query by its text and the files it reads.

    A query whose files cannot be told (a table that is no file, another file system) gets an identity of its own
    each time: it is computed again rather than wrongly reused.
    """
    files = sorted(files)
    try:
        return _digest([text, [[name, storage.fingerprint(unquote(name))] for name in files] or secrets.token_hex(16)])
    except StorageError:
        return secrets.token_hex(32)


def _digest(value) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
