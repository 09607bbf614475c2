"""A submission that fails, or is interrupted, leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from dkeras_core.cli.place import Place
from dkeras_core.errors import ClusterError, StorageError
from dkeras_core.paths import Layout
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.submission import run_tag


@contextlib.contextmanager
def cleaned_up(found: Place, root: str, run_id: str) -> Iterator[None]:
    """Leave nothing of the run, neither in HDFS nor in YARN, when the block fails."""
    folder = Layout(root).run(run_id)
    there = found.storage.exists(folder)
    try:
        yield
    except BaseException:
        withdraw(found, root, run_id)
        if not there:
            with contextlib.suppress(StorageError):
                found.storage.delete(folder, recursive=True)
        raise


def withdraw(found: Place, root: str, run_id: str) -> None:
    """End an application that the run may have by now, and remove what was staged for it."""
    with contextlib.suppress(ClusterError):
        for app in found.rm.apps(tags=[run_tag(run_id)], states=LIVE_STATES):
            found.rm.kill(app.id)
    with contextlib.suppress(StorageError):
        found.storage.delete(Layout(root).staging(run_id), recursive=True)
