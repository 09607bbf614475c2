"""Rows without Spark: a Table in memory, or Parquet files read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dkeras_core.errors import DataError

_BATCH_ROWS = 10_000
_BUFFER = 1 << 16  # bytes of a column read at a time; without it whole row groups would be in memory


class Rows:
    """The rows of a ``pyarrow.Table``, of a Parquet file, or of a folder of such files in the order of their names.

    Attributes
    ----------
    names : list of str
        Columns.
    count : int

    Raises
    ------
    DataError
        The file or folder is missing, damaged, or holds no Parquet; files with other columns than the first.
    """

    def __init__(self, source: pa.Table | str | Path):
        self._table = source if isinstance(source, pa.Table) else None
        self._files = [] if self._table is not None else _parquet_files(Path(source))
        if self._table is not None:
            self.schema, self.count = self._table.schema, self._table.num_rows
            return
        opened = [_opened(file) for file in self._files]
        self.schema, self.count = opened[0].schema_arrow, sum(file.metadata.num_rows for file in opened)
        for path, file in zip(self._files, opened, strict=True):
            if file.schema_arrow != self.schema:
                raise DataError(
                    f"{path} has other columns or types than {self._files[0].name}",
                    "write all files of the folder from one table",
                )

    @property
    def names(self) -> list[str]:
        return self.schema.names

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield all rows of some columns in pieces, each of a few megabytes at most for rows of usual width.

        Raises DataError for a damaged file.
        """
        if self._table is not None:
            yield from self._table.select(list(columns)).to_batches(max_chunksize=_BATCH_ROWS)
            return
        for path in self._files:
            try:
                yield from _opened(path).iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise _damaged(path, error) from error


def _parquet_files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(f"{path} does not exist", "name a Parquet file, or a folder of such files")
    if path.is_file():
        return [path]
    files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith(("_", ".")))
    if not files:
        raise DataError(f"{path} holds no Parquet files", "name a Parquet file, or a folder of files *.parquet")
    return files


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "write that file again")
