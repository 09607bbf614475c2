"""Parquet files as Arrow batches in bounded memory, dealt out to workers without Spark."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dkeras_core.errors import DataError, PathMissing

BATCH_ROWS = 10_000
BUFFER = 1 << 16  # bytes of a column read at a time; without it whole row groups would be in memory


def parquet_files(path: str | Path) -> list[Path]:
    """The Parquet file, or those in a folder in the order of their names.

    Raises
    ------
    PathMissing
        There is nothing.
    DataError
        The folder holds no Parquet file.
    """
    path = Path(path)
    if not path.exists():
        raise PathMissing(f"{path} does not exist", "name a Parquet file, or a folder of such files")
    if path.is_file():
        return [path]
    files = sorted(file for file in path.glob("*.parquet") if not file.name.startswith(("_", ".")))
    if not files:
        raise DataError(f"{path} holds no Parquet files", "name a Parquet file, or a folder of files *.parquet")
    return files


def parquet_rows(path: str | Path) -> int:
    """Number of rows, from the files' footers."""
    return sum(_opened(file).metadata.num_rows for file in parquet_files(path))


def parquet_batches(
    path: str | Path, columns: Sequence[str], worker: int = 0, workers: int = 1, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one worker: of all rows each ``workers``-th, beginning with row ``worker``.

    So workers differ by one row at most, and get a fair mixture of rows that are sorted. Each reads all of the files,
    which is cheap beside training.

    Parameters
    ----------
    path : a Parquet file or a folder of them
    columns : sequence of str
    worker, workers : int
    batch_rows : int
        Rows read at a time.

    Raises
    ------
    PathMissing, DataError
        Nothing there; a column is missing; a file is damaged.
    """
    row = 0
    for place in parquet_files(path):
        file = _opened(place)
        names = file.schema_arrow.names
        missing = [name for name in columns if name not in names]
        if missing:
            raise DataError(
                f"{place} has no column {missing[0]!r}; it has {', '.join(names)}", "name one of these columns"
            )
        try:
            for batch in file.iter_batches(batch_rows, columns=list(columns), use_threads=False):
                first = (worker - row) % workers
                row += batch.num_rows
                yield batch if workers == 1 else batch.take(pa.array(np.arange(first, batch.num_rows, workers)))
        except (pa.ArrowException, OSError) as error:
            raise _damaged(place, error) from error


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}", "write that file again")
