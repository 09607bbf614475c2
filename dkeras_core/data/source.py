"""The raw input as a DataFrame: CSV, Parquet or a Spark SQL file; what can be seen without reading all rows is checked.

CSV is read with every column as text, so that a value that is no number can be named with its column and row instead
of turning into a null.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline
from dkeras_core.config_file import meant
from dkeras_core.data.fingerprint import identity_of_path, identity_of_query
from dkeras_core.errors import DataError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from dkeras_core.storage import FileStatus, Storage

CORRUPT = "__corrupt"
HEAD = 1 << 20
_DECOMPRESS = {".gz": gzip.open, ".bz2": bz2.open}
_DAMAGE = (
    "FAILED_READ_FILE",
    "CANNOT_READ_FILE",
    "UNABLE_TO_INFER_SCHEMA",
    "MERGE_SCHEMA",
    "is not a Parquet file",
    "EOFException",
    "ZipException",
    "ParquetDecodingException",
    "incorrect header check",
    "invalid block type",
)


@dataclass(frozen=True)
class Source:
    """The raw rows: their DataFrame, the names of the columns, and whether a line that does not fit is kept whole.

    ``name`` is what messages call the input; ``files`` are the CSV files, empty for other formats.
    """

    name: str
    frame: DataFrame
    header: list[str]
    files: tuple[str, ...] = ()


def identity(spark: SparkSession, pipeline: Pipeline, storage: Storage) -> str:
    """Return the identity of the input's data, without reading them.

    Raises
    ------
    DataError : the input does not exist, or the query is wrong.
    """
    path = pipeline.input_path
    _existing(storage, path)
    if pipeline.input.format == "sql":
        text = _sql(storage, path)
        with reading(path):
            return identity_of_query(storage, text, _query(spark, text, path).inputFiles())
    return identity_of_path(storage, path)


def open_source(spark: SparkSession, pipeline: Pipeline, storage: Storage) -> Source:
    """Return the input of a pipeline.

    Raises
    ------
    DataError : no such path, empty, not a text or Parquet file, headers that differ, or a query that is wrong.
    """
    path = pipeline.input_path
    if pipeline.input.format == "sql":
        with reading(path):
            frame = _query(spark, _sql(storage, path), path)
        return Source(path, frame, frame.columns)
    return open_files(spark, storage, path, pipeline.input.format)


def open_files(spark: SparkSession, storage: Storage, path: str, kind: str) -> Source:
    """Return the rows of a file or folder, ``kind`` "csv" or "parquet".

    Raises
    ------
    DataError : no such path, empty, not a text or Parquet file, or headers that differ.
    """
    files = data_files(storage, path)
    # A site's settings may say that damaged and missing files are skipped in silence.
    reader = spark.read.options(ignoreCorruptFiles=False, ignoreMissingFiles=False)
    if kind == "parquet":
        _check_parquet(storage, files)
        with reading(path):
            frame = reader.parquet(path)
        return Source(path, frame, frame.columns)
    header = _common_header(storage, files)
    schema = ", ".join(f"`{name.replace('`', '``')}` STRING" for name in (*_distinct(header), CORRUPT))
    # Without pruning the parser sees all columns, so it finds lines with the wrong number of them.
    frame = reader.option("columnPruning", False).csv(
        path,
        schema=schema,
        header=True,
        mode="PERMISSIVE",
        columnNameOfCorruptRecord=CORRUPT,
        ignoreLeadingWhiteSpace=True,
        ignoreTrailingWhiteSpace=True,
    )
    return Source(path, frame, header, tuple(file.path for file in files))


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn Spark's errors about damaged files and wrong queries into DataError; other errors pass."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import AnalysisException, ParseException, PySparkException

    try:
        yield
    except (AnalysisException, ParseException) as error:
        raise DataError(
            f"{where}: {_first_line(error)}", "correct the query, or the tables and columns that it names"
        ) from error
    except (PySparkException, Py4JJavaError) as error:
        text = str(error)
        if "FileNotFoundException" in text or "FILE_NOT_EXIST" in text:
            raise DataError(
                f"{where} was changed or deleted while it was read", "start again when nothing writes to it"
            ) from error
        if not any(sign in text for sign in _DAMAGE):
            raise
        causes = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Caused by")]
        raise DataError(
            f"{where} is damaged, cut off or in another format than input.format says: "
            f"{causes[-1] if causes else _first_line(error)}",
            "copy the file again from its source, or correct input.format",
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:500]


def _existing(storage: Storage, path: str) -> FileStatus:
    status = storage.status(path)
    if status is None:
        folder, name = posixpath.split(path.rstrip("/"))
        there = storage.status(folder)
        beside = [child.name for child in storage.list(folder)] if there and there.is_dir else []
        near = meant(name, beside) or (f"; {folder} holds {', '.join(beside[:10])}" if beside else "")
        raise DataError(f"input {path} does not exist{near}", "copy the data there, or correct input.path")
    return status


def data_files(storage: Storage, path: str) -> list[FileStatus]:
    """Return the files that Spark will read: all below the path whose names do not begin with '_' or '.'."""
    status = _existing(storage, path)
    if not status.is_dir:
        files = [status]
    else:
        base = len(status.path) + 1
        files = [
            file
            for file in storage.walk(path)
            if not any(part.startswith(("_", ".")) for part in file.path[base:].split("/"))
        ]
    if not any(file.size for file in files):
        what = "is empty" if files else "holds no data files"
        raise DataError(f"input {path} {what}", "copy the data again from their source, or correct input.path")
    return [file for file in files if file.size]


def _check_parquet(storage: Storage, files: list[FileStatus]) -> None:
    with storage.open(files[0].path) as stream:
        begin = stream.read(4)
    if begin != b"PAR1":
        raise DataError(
            f"{files[0].path} is not a Parquet file: it begins with {begin!r}",
            "set input.format to what it is (csv, parquet or sql), or copy the file again",
        )


def _common_header(storage: Storage, files: list[FileStatus]) -> list[str]:
    header = _header(storage, files[0])
    for file in files[1:]:
        other = _header(storage, file)
        if other != header:
            differs = next((f"{b!r} instead of {a!r}" for a, b in zip(header, other, strict=False) if a != b), None)
            raise DataError(
                f"{file.path} has another header than {files[0].path}: "
                f"{differs or f'{len(other)} columns instead of {len(header)}'}",
                "give all files of one input the same columns in the same order",
            )
    return header


def _header(storage: Storage, file: FileStatus) -> list[str]:
    """Return the names in the first line of a CSV file, and make sure that its beginning is text with a second line."""
    try:
        with storage.open(file.path) as raw:
            opened = _DECOMPRESS.get(posixpath.splitext(file.path)[1], lambda stream: stream)(raw)
            head = opened.read(HEAD)
    except (EOFError, gzip.BadGzipFile, OSError) as error:
        raise DataError(
            f"{file.path} cannot be unpacked, it is damaged or cut off: {error}", "copy the file again from its source"
        ) from error
    if b"\0" in head or head.startswith(b"PAR1"):
        what = "is a Parquet file" if head.startswith(b"PAR1") else f"holds binary data (at byte {head.find(0):,})"
        raise DataError(
            f"{file.path} {what}, it is not CSV; it begins with {head[:16]!r}",
            "set input.format to what it is (csv, parquet or sql), or copy the file again",
        )
    first, newline, rest = head.lstrip(b"\r\n").partition(b"\n")
    try:
        names = next(csv.reader(io.StringIO(first.decode("utf-8-sig").rstrip("\r"))), [])
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.path} is not UTF-8 text: its first line begins with {first[:40]!r}",
            "convert the file to UTF-8, or copy it again from its source",
        ) from error
    if not newline or not rest.strip():
        raise DataError(f"{file.path} holds a header and no rows", "copy the file again from its source")
    return names


def _distinct(header: list[str]) -> list[str]:
    """Return names under which Spark can read even a header with duplicates, which the schema check then refuses."""
    seen = [name.lower() for name in header]
    return [f"{name}#{i}" if seen.index(name.lower()) != i else name for i, name in enumerate(header)]


def _sql(storage: Storage, path: str) -> str:
    _existing(storage, path)
    try:
        text = storage.read_bytes(path).decode("utf-8").strip().rstrip(";").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a SQL text in UTF-8", "set input.format to what it is") from error
    if not text:
        raise DataError(f"{path} holds no query", "write one SELECT statement into it")
    return text


def _query(spark: SparkSession, text: str, path: str) -> DataFrame:
    frame = spark.sql(text)
    if not frame.columns:
        raise DataError(f"{path} is not a query: it returns no columns", "write one SELECT statement into it")
    return frame


def locate(storage: Storage, source: Source, record: str, limit: int = 1 << 28) -> tuple[str, bool]:
    """Return "file:line" of a record of a CSV source and whether it is the last line of that file.

    In packed files and ones larger than ``limit`` bytes it is not looked for: the answer is the source's name.
    """
    wanted = record.encode()
    for path in source.files:
        status = storage.status(path)
        if status is None or status.size > limit or posixpath.splitext(path)[1] in _DECOMPRESS:
            continue
        with storage.open(path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.rstrip(b"\r\n") == wanted:
                    return f"{path}:{number}", not stream.readline()
    return source.name, False
