"""The folder of scored rows: it appears whole, under its name, or not at all; an earlier one is replaced or kept.

Rows are written into ``_building-<run>-<hex>`` beside the place of the result, a name that readers of the parent
folder skip. One rename without overwrite gives it its own name. HDFS cannot swap two folders in one step, so replacing
an earlier scoring takes two renames: the earlier one becomes ``_replaced-<name>``, the new one takes its place. In
between, for some milliseconds, nothing stands there; who dies in that moment leaves the earlier one aside, and
:func:`recover`, which every scoring of this folder begins with, puts it back.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
from collections.abc import Iterator

from dkeras_core.data.staging import PREFIX, Staging
from dkeras_core.errors import ConfigError, PathExists, PathMissing, StorageError
from dkeras_core.scoring import REQUEST, RUNS
from dkeras_core.storage.base import Storage
from dkeras_core.storage.paths import split_uri

METADATA = "_dkeras.json"
ASIDE = "_replaced-"


class Output:
    """A result to be made at ``target`` (path or URI) by the run ``run``."""

    def __init__(self, storage: Storage, target: str, run: str, overwrite: bool = False):
        self.storage, self.run, self.overwrite = storage, run, overwrite
        self.path = storage.clean(target)
        scheme, authority, _ = split_uri(target)
        # What Spark needs in front of a path of this file system: "file://" or nothing.
        self._prefix = f"{scheme}://{authority}" if scheme else ""
        self._on_this_machine = scheme == "file"
        self.parent, self.name = posixpath.split(self.path)
        if not self.name:
            raise ConfigError(f"{target} cannot be an output", "name a folder below it")
        self._aside = posixpath.join(self.parent, f"{ASIDE}{self.name}")

    def uri(self, path: str) -> str:
        """Return a path of this file system as Spark understands it."""
        return f"{self._prefix}{self.storage.clean(path)}"

    def check(self, source: str, storage: Storage) -> None:
        """Refuse a place that is taken, or that lies within the input or around it (``source`` in ``storage``).

        Raises
        ------
        ConfigError
            Input and output overlap.
        PathExists
            Something stands there and is not to be replaced, or is not what a scoring made.
        """
        source = storage.clean(source)
        if type(storage) is type(self.storage) and posixpath.commonpath([source, self.path]) in (source, self.path):
            raise ConfigError(f"the output {self.path} and the input {source} overlap", "choose another output folder")
        status = self.storage.status(self.path)
        if status is None:
            return
        if not self.overwrite:
            raise PathExists(
                f"{self.path}: stands there already", "choose another folder, or replace a scoring with --overwrite"
            )
        # A mistyped folder must not cost anybody their data.
        if not status.is_dir or not (self._is_scoring(self.path) or not self.storage.list(self.path)):
            raise PathExists(
                f"{self.path}: holds no {METADATA}, so no scoring made it, and --overwrite leaves it alone",
                "choose another folder, or delete it yourself",
            )

    def _is_scoring(self, folder: str) -> bool:
        return self.storage.exists(f"{folder}/{METADATA}")

    def recover(self) -> None:
        """End what an overwrite that died between its two renames has begun: the earlier scoring stands there again."""
        if not self.storage.exists(self._aside) or not self._is_scoring(self._aside):
            return
        if self.storage.exists(self.path):
            self.storage.delete(self._aside, recursive=True)
        else:
            with contextlib.suppress(PathExists, PathMissing):  # another one was faster
                self.storage.rename(self._aside, self.path)

    @contextlib.contextmanager
    def building(self) -> Iterator[Staging]:
        """Yield the folder to write into; what it holds is deleted unless :meth:`commit` was called."""
        with Staging(self.storage, self.parent, self.run) as staging:
            staging.clean_leftovers(RUNS)  # the folder is the user's: nothing of another kind is touched
            yield staging

    def commit(self, staging: Staging) -> None:
        """Give the built folder its name; PathExists when something else stands there by now."""
        self._drop_checksums(staging.path)
        staging.close()
        if not self.overwrite or not self.storage.exists(self.path):
            staging.commit(self.path)
            return
        self.recover()
        if not self._is_scoring(self.path):
            self.storage.delete(self.path)  # an empty folder; one with content is not deleted so
            staging.commit(self.path)
            return
        self.storage.rename(self.path, self._aside)
        try:
            staging.commit(self.path)
        except BaseException:
            with contextlib.suppress(StorageError):
                self.storage.rename(self._aside, self.path)
            raise
        with contextlib.suppress(StorageError):  # the next scoring of this folder removes it
            self.storage.delete(self._aside, recursive=True)

    def _drop_checksums(self, folder: str) -> None:
        """Remove the file that Hadoop leaves beside each one on a disk of this machine."""
        if self._on_this_machine:
            for file in list(self.storage.walk(folder)):
                if file.name.startswith(".") and file.name.endswith(".crc"):
                    self.storage.delete(file.path)

    def tidy(self) -> None:
        """Remove what this run left here when it was killed, and put back what it had moved aside."""
        with contextlib.suppress(PathMissing):
            for child in self.storage.list(self.parent):
                if child.name.startswith(f"{PREFIX}{self.run}-"):
                    self.storage.delete(child.path, recursive=True)
        self.recover()


def tidy_run(storage: Storage, folder: str) -> None:
    """Tidy the output of the scoring whose run's folder this is; nothing happens for a run of another kind."""
    with contextlib.suppress(StorageError, ValueError, KeyError):
        asked = json.loads(storage.read_bytes(f"{folder}/{REQUEST}"))
        Output(storage, asked["output"], posixpath.basename(folder)).tidy()
