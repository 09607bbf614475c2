"""Removes what killed uploads have left in HDFS: files of the names that only an upload under way has."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from datetime import timedelta

from dkeras_core.airflow.old_runs import clock
from dkeras_core.errors import PathMissing, StorageError
from dkeras_core.paths import Layout
from dkeras_core.storage.base import FileStatus, Storage

DEAD = timedelta(days=1)
"""Nobody goes on with an upload of that age; HDFS dates a file by its beginning until it is closed."""

_DATA = re.compile(r".+\.partial-[A-Za-z0-9_.-]+-[0-9a-f]{8}")  # cli/sending.py
_ARCHIVE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # envs/builder/publish.py


def remove_dead_uploads(
    storage: Storage, root: str, *, dry_run: bool = False, say: Callable[[str], None] = print
) -> list[str]:
    """Delete unfinished uploads of data files and environments below ``root`` that are older than :data:`DEAD`.

    Returns their paths. One that cannot be deleted is told of, and the others are deleted all the same.

    Raises
    ------
    StorageError
        When some could not be deleted, after the others.
    """
    found = list(_unfinished(storage, Layout(root)))
    if not found:
        return []
    limit = clock(storage, Layout(root)) - DEAD.total_seconds()
    removed, refused = [], []
    for one in found:
        if one.modified > limit:
            say(f"{one.path} may still be going on")
            continue
        say(f"{'would remove' if dry_run else 'removing'} {one.path}, {one.size / 1e6:,.1f} MB of an upload that died")
        try:
            if not dry_run:
                storage.delete(one.path)
            removed.append(one.path)
        except StorageError as error:
            refused.append(error.what)
    if refused:
        raise StorageError(
            f"{len(refused)} files could not be removed: {'; '.join(refused[:5])}", "Look at their owner."
        )
    return removed


def _unfinished(storage: Storage, layout: Layout) -> Iterator[FileStatus]:
    for pipeline in _there(storage, posixpath.dirname(layout.raw("any"))):
        for folder in _there(storage, pipeline.path) if pipeline.is_dir else ():
            if folder.is_dir:
                yield from (one for one in _there(storage, folder.path) if not one.is_dir and _DATA.fullmatch(one.name))
    for one in _there(storage, posixpath.dirname(layout.env_archive("any"))):
        if not one.is_dir and _ARCHIVE.fullmatch(one.name):
            yield one


def _there(storage: Storage, folder: str) -> list[FileStatus]:
    try:
        return storage.list(folder)
    except PathMissing:
        return []
