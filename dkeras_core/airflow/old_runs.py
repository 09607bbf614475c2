"""Removes the folders of runs that are long over; what was published stands on its own in the registry."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from dkeras_core.cli.place import Place
from dkeras_core.errors import PathMissing, StorageError
from dkeras_core.paths import Layout
from dkeras_core.storage.base import Storage
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.submission import run_tag

LEAST = timedelta(days=1)
"""However little is kept, younger runs stay: one may wait for an approval, or for its next task."""


def remove_old_runs(
    found: Place, root: str, older_than: timedelta, *, dry_run: bool = False, say: Callable[[str], None] = print
) -> list[str]:
    """Delete the runs in whose folder nothing has changed for ``older_than``; return their ids.

    A run with a live application stays however old it is. A run that cannot be deleted is told of, and the others are
    deleted all the same.

    Parameters
    ----------
    found : Place
        The cluster.
    root : str
        The bundle's root folder.
    older_than : timedelta
        At least :data:`LEAST`.
    dry_run : bool
        Only tell.

    Raises
    ------
    StorageError
        When some could not be deleted, after the others.
    """
    layout, storage = Layout(root), found.storage
    # The clock of HDFS decides, not this machine's.
    try:
        folders = [one for one in storage.list(layout.runs()) if one.is_dir]
    except PathMissing:
        return []
    now = clock(storage, layout)
    live = {tag for app in found.rm.apps(tags=["dkeras"], states=LIVE_STATES) for tag in app.tags}
    idle = [one for one in folders if run_tag(one.name) not in live]
    with ThreadPoolExecutor(8) as readers:
        changed = dict(zip(idle, readers.map(lambda one: _changed(storage, one), idle), strict=True))
    limit = now - max(older_than, LEAST).total_seconds()
    removed, refused = [], []
    for folder, moment in changed.items():
        if moment > limit:
            continue
        days = (now - moment) / 86400
        say(f"{'would remove' if dry_run else 'removing'} {folder.path}, unchanged for {days:.0f} days")
        try:
            if not dry_run:
                storage.delete(folder.path, recursive=True)
            removed.append(folder.name)
        except StorageError as error:
            refused.append(error.what)
    say(f"{len(removed)} of {len(folders)} runs {'would go' if dry_run else 'removed'}, {len(live)} tags are live")
    if refused:
        raise StorageError(
            f"{len(refused)} runs could not be removed: {'; '.join(refused[:5])}", "Look at their owner."
        )
    return removed


def _changed(storage, folder) -> float:
    """When something last changed in a run's folder or directly below it, Unix seconds."""
    try:
        return max([folder.modified, *(one.modified for one in storage.list(folder.path))])
    except PathMissing:
        return folder.modified


def clock(storage: Storage, layout: Layout) -> float:
    """Return the time by the clock of the file system, Unix seconds: this machine's may differ."""
    path = f"{layout.runs()}/.now"
    storage.write_bytes(path, b"", overwrite=True)
    try:
        return storage.status(path).modified
    finally:
        storage.delete(path)
