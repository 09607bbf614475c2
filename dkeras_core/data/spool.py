"""A worker's share of the rows on its own disk: written once from Arrow batches, then memory-mapped for every epoch."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dkeras_core.data.columns import to_rows
from dkeras_core.errors import DataError, StorageError


@dataclass(frozen=True)
class Column:
    """One spooled column: an array ``dtype[rows, *shape]``, row after row in C order."""

    name: str
    dtype: str = "float32"
    shape: tuple[int, ...] = ()

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class Spool:
    """Append-only columns of fixed width, sealed into read-only memory maps.

    The files have no name in the folder from the moment they are made, so nothing is left behind however the process
    ends; their space is freed when the spool is closed and the last array over its maps is gone. Memory is bounded
    by one Arrow batch while writing. Used as a context manager, it closes itself.

    >>> with Spool.create(folder, [Column("features", shape=(30,)), Column("label")]) as spool:
    ...     for batch in batches:
    ...         spool.append(batch)
    ...     spool.seal()
    ...     spool.arrays["features"]      # float32[rows, 30]

    Attributes
    ----------
    rows : int
        Rows appended so far.
    """

    def __init__(self, folder: Path, columns: Sequence[Column], files: dict):
        self.folder = folder
        self.columns = tuple(columns)
        self.rows = 0
        self._files = files
        self._maps: dict[str, mmap.mmap] = {}
        self._arrays: dict[str, np.ndarray] | None = None

    @classmethod
    def create(cls, folder: str | Path, columns: Sequence[Column]) -> Spool:
        """Open an empty spool in ``folder``, which must exist; a column that is given twice is kept once.

        Raises
        ------
        StorageError
            The folder is missing or cannot be written.
        """
        columns = tuple(dict.fromkeys(columns))  # the label of an autoencoder is its input
        names = [column.name for column in columns]
        if not names or len(set(names)) != len(names):
            raise DataError(f"a spool needs columns with names of their own, got {names}")
        files = {}
        try:
            for name in names:
                files[name] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by the spool)
        except OSError as error:
            for file in files.values():
                file.close()
            raise _storage_error(error, folder, 0) from error
        return cls(Path(folder), columns, files)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return self.rows * sum(column.row_bytes for column in self.columns)

    def append(self, batch) -> int:
        """Append the spool's columns of a pyarrow.RecordBatch and return its number of rows; other columns are ignored.

        Raises
        ------
        DataError
            A column is missing, or a row of it is null, ragged, not finite, or does not fit the spooled type; column
            and row (counted from the first row of the spool) are named. Nothing of the batch is kept.
        StorageError
            The disk is full or failed; the spool should be closed.
        """
        if self._arrays is not None:
            raise DataError("the spool is sealed: no rows can be appended")
        blocks = [to_rows(batch, column, self.rows) for column in self.columns]
        try:
            for column, block in zip(self.columns, blocks, strict=True):
                _write_all(self._files[column.name], block)
        except OSError as error:
            raise _storage_error(error, self.folder, self.nbytes) from error
        self.rows += batch.num_rows
        return batch.num_rows

    def seal(self, expected_rows: int | None = None) -> Spool:
        """End writing and map the columns.

        Raises
        ------
        DataError
            Another number of rows than ``expected_rows`` was appended, or a file has another length than its rows.
        """
        if expected_rows is not None and expected_rows != self.rows:
            raise DataError(
                f"{self.rows} rows were spooled, {expected_rows} were announced", "the input changed while it was read"
            )
        arrays = {}
        for column in self.columns:
            file, shape = self._files[column.name], (self.rows, *column.shape)
            length = os.fstat(file.fileno()).st_size
            if length != self.rows * column.row_bytes:
                raise DataError(f"spooled column {column.name!r} has {length} bytes for {self.rows} rows")
            if length == 0:
                arrays[column.name] = np.empty(shape, column.dtype)
                continue
            self._maps[column.name] = mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ)
            arrays[column.name] = np.frombuffer(mapped, column.dtype).reshape(shape)
        self._arrays = arrays
        return self

    @property
    def arrays(self):
        """Read-only mapping of column name to array, once sealed."""
        if self._arrays is None:
            raise DataError("the spool has no arrays before it is sealed (or after it is closed)")
        return MappingProxyType(self._arrays)

    def release(self) -> None:
        """Give the pages read so far back to the system, so that the process stays small over a large map.

        YARN counts mapped pages as memory of the container. The data stay, and are read again when touched.
        """
        for mapped in self._maps.values():
            mapped.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Free the disk space; arrays that are still in use stay valid until they are dropped."""
        self._arrays, self._maps = None, {}
        for file in self._files.values():
            file.close()
        self._files = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _write_all(file, block: np.ndarray) -> None:
    view = memoryview(block).cast("B") if block.size else memoryview(b"")
    while view:
        view = view[file.write(view) :]  # a raw write stops short when the disk fills up


def _storage_error(error: OSError, folder, written: int) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"disk full: the spool in {folder} stopped after {written / 1e6:.1f} MB ({error.strerror})",
            "free space there, use more executors, or point yarn.nodemanager.local-dirs at a larger disk",
        )
    return StorageError(
        f"the spool cannot be written in {folder}: {error.strerror or error}", "check that folder and its disk"
    )
