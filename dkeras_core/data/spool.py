"""A worker's share of the rows on its own disk: written once from Arrow batches, then memory-mapped for every epoch."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dkeras_core.data.arrow import to_rows
from dkeras_core.data.columns import Column
from dkeras_core.data.sparse import SparseRows
from dkeras_core.errors import DataError, StorageError

__all__ = ["Column", "Spool"]


class Spool:
    """Append-only columns, sealed into read-only memory maps: arrays, and for sparse columns SparseRows.

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
        self._bytes = {part: os.fstat(file.fileno()).st_size for part, file in files.items()}
        self._maps: list[mmap.mmap] = []
        self._arrays: dict[str, np.ndarray | SparseRows] | None = None

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
            for part in (part for column in columns for part in _parts(column)):
                files[part] = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 (closed by the spool)
                if part[1:] == ("offsets",):
                    _write_all(files[part], np.zeros(1, np.int64))
        except OSError as error:
            for file in files.values():
                file.close()
            raise _storage_error(error, folder, 0) from error
        return cls(Path(folder), columns, files)

    @property
    def nbytes(self) -> int:
        """Bytes on disk."""
        return sum(self._bytes.values())

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
                for part, array in zip(_parts(column), self._as_written(column, block), strict=True):
                    _write_all(self._files[part], array)
                    self._bytes[part] += array.nbytes
        except OSError as error:
            raise _storage_error(error, self.folder, self.nbytes) from error
        self.rows += batch.num_rows
        return batch.num_rows

    def _as_written(self, column: Column, block) -> tuple[np.ndarray, ...]:
        if not column.sparse:
            return (block,)
        stored = self._bytes[column.name, "indices"] // block.indices.itemsize
        return block.offsets[1:] + stored, block.indices, block.values

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
        for part, file in self._files.items():
            if (length := os.fstat(file.fileno()).st_size) != self._bytes[part]:
                raise DataError(f"spooled column {part!r} has {length} bytes for {self.rows} rows")
        self._arrays = {column.name: self._mapped(column) for column in self.columns}
        return self

    def _mapped(self, column: Column) -> np.ndarray | SparseRows:
        if not column.sparse:
            return self._map(column.name, column.dtype).reshape(self.rows, *column.shape)
        return SparseRows(*map(self._map, _parts(column), ("int64", "int32", column.dtype)), column.width)

    def _map(self, part, dtype: str) -> np.ndarray:
        if self._bytes[part] == 0:
            return np.empty(0, dtype)
        mapped = mmap.mmap(self._files[part].fileno(), self._bytes[part], access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return np.frombuffer(mapped, dtype)

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
        for mapped in self._maps:
            mapped.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Free the disk space; arrays that are still in use stay valid until they are dropped."""
        self._arrays, self._maps = None, []
        for file in self._files.values():
            file.close()
        self._files = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


def _parts(column: Column) -> tuple:
    """Keys of the files of a column; of a sparse one in the order of SparseRows."""
    return tuple((column.name, part) for part in ("offsets", "indices", "values")) if column.sparse else (column.name,)


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
