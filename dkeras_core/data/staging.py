"""A folder that appears whole or not at all: built under a temporary name beside its place, then renamed.

While it is being built, a thread touches a file in it. A folder whose file has not been touched for a while belongs
to a run that is dead, and the next run deletes it. Times are compared with each other only, as the file system
recorded them, so clocks of different machines do not matter.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dkeras_core.errors import StorageError
from dkeras_core.storage.refusals import refusal

if TYPE_CHECKING:
    from dkeras_core.storage import Storage

PREFIX = "_building-"
ALIVE = "_alive"
TOUCH_SECONDS = 20.0
DEAD_SECONDS = 300.0
_REFUSALS = ("QuotaExceededException", "AccessControlException", "SafeModeException", "No space left on device")


@contextlib.contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn what Spark says when the file system refuses to be written into StorageError; other errors pass."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JJavaError) as error:
        said = [line.strip() for line in str(error).splitlines() if any(sign in line for sign in _REFUSALS)]
        if not said:
            raise
        raise refusal(path, None, said[0], "written by Spark") from error


class Staging:
    """Use as a context manager; ``path`` is the temporary folder, deleted at the end unless it was committed.

    Parameters
    ----------
    storage : the file system.
    parent : folder in which the result will stand; it is made if needed.
    name : part of the temporary folder's name, for people who look.
    """

    def __init__(self, storage: Storage, parent: str, name: str):
        self._storage, self._parent = storage, parent
        self.path = f"{parent}/{PREFIX}{name}-{secrets.token_hex(4)}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="staging-alive", daemon=True)
        self._committed = False

    def __enter__(self) -> Staging:
        try:
            self._touch()
        except BaseException:
            self.__exit__()
            raise
        self._thread.start()
        return self

    def commit(self, target: str) -> None:
        """Give the folder its name in one step; PathExists when something stands there (it is left alone)."""
        self.close()
        self._storage.rename(self.path, target)
        self._committed = True

    def close(self) -> None:
        """Take out of the folder what says that it is alive; ``commit`` does so too, before it renames."""
        self._end_thread()
        self._storage.delete(f"{self.path}/{ALIVE}")

    def __exit__(self, *_) -> None:
        self._end_thread()
        if not self._committed:
            # What failed is being reported already; the next run cleans up what cannot be deleted now.
            with contextlib.suppress(StorageError):
                self._storage.delete(self.path, recursive=True)

    def clean_leftovers(self, name: str = "") -> list[str]:
        """Delete the temporary folders of dead runs beside this one, whose names begin so; return their paths."""
        now = self._touched(self.path)
        dead = [
            child.path
            for child in self._storage.list(self._parent)
            if child.name.startswith(f"{PREFIX}{name}")
            and now - self._touched(child.path, child.modified) > DEAD_SECONDS
        ]
        for path in dead:
            self._storage.delete(path, recursive=True)
        return dead

    def _touched(self, folder: str, otherwise: float = 0.0) -> float:
        status = self._storage.status(f"{folder}/{ALIVE}")
        return status.modified if status else otherwise

    def _touch(self) -> None:
        self._storage.write_bytes(f"{self.path}/{ALIVE}", b"", overwrite=True)

    def _keep_alive(self) -> None:
        while not self._stop.wait(TOUCH_SECONDS):
            # One failed touch is no reason to fail the work; DEAD_SECONDS allows for many.
            with contextlib.suppress(StorageError):
                self._touch()

    def _end_thread(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=TOUCH_SECONDS)
