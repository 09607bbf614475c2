"""Versions are read-only: nobody changes a file of one by mistake, and who means to remove one says so first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dkeras_core.errors import AccessDenied

if TYPE_CHECKING:
    from dkeras_core.storage.base import FileStatus, Storage

FILE, FOLDER = 0o444, 0o555
_OPEN = 0o755
_SENDERS = 8


def lock(storage: Storage, folder: str) -> None:
    """Let everybody read all below a folder, and nobody write. Renaming the folder itself stays possible."""
    there = list(_tree(storage, folder))
    with ThreadPoolExecutor(_SENDERS) as senders:
        modes = senders.map(lambda status: storage.set_mode(status.path, FOLDER if status.is_dir else FILE), there)
        list(modes)  # raises what went wrong
    storage.set_mode(folder, FOLDER)


def unlock(storage: Storage, folder: str) -> None:
    """Let the owner of a folder change what is below it again: delete, add, replace. AccessDenied for others."""
    storage.set_mode(folder, _OPEN)
    for status in _tree(storage, folder):
        if status.is_dir:
            storage.set_mode(status.path, _OPEN)


def remove(storage: Storage, path: str) -> bool:
    """Delete a file or a tree, locked or not; False when nothing was there. AccessDenied for all but its owner.

    A folder that is not empty can only be deleted by who may write in it. Its owner lets himself, a superuser need not.
    """
    try:
        return storage.delete(path, recursive=True)
    except AccessDenied:
        found = storage.status(path)
        if found is None or not found.is_dir:
            raise
        unlock(storage, path)
        return storage.delete(path, recursive=True)


def _tree(storage: Storage, folder: str) -> Iterator[FileStatus]:
    """Yield all below a folder, parents before children."""
    for status in storage.list(folder):
        yield status
        if status.is_dir:
            yield from _tree(storage, status.path)
