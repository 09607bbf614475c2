"""Small files on any file system that Hadoop knows, through the JVM of a Spark session."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dkeras_core.storage.refusals import refusal


def write(spark, path: str, data: bytes) -> None:
    """Write a file, in the place of one that is there already. StorageError when the file system refuses."""
    with _file(spark, path) as (system, target), tempfile.TemporaryDirectory(prefix="dkeras-") as folder:
        # By a file of this machine: py4j would send the bytes as text
        local = Path(folder, "data")
        local.write_bytes(data)
        system.copyFromLocalFile(False, True, _local(spark, local), target)


def read(spark, path: str) -> bytes:
    """Return the content of a file. PathMissing or another StorageError when there is none."""
    with _file(spark, path) as (system, source), tempfile.TemporaryDirectory(prefix="dkeras-") as folder:
        local = Path(folder, "data")
        system.copyToLocalFile(False, source, _local(spark, local), True)
        return local.read_bytes()


def exists(spark, path: str) -> bool:
    with _file(spark, path) as (system, target):
        return system.exists(target)


def _local(spark, path: Path):
    return spark.sparkContext._jvm.org.apache.hadoop.fs.Path(path.as_uri())


@contextmanager
def _file(spark, path: str) -> Iterator[tuple]:
    """The file system of a path and the path; what it refuses becomes a StorageError."""
    from py4j.protocol import Py4JJavaError
    from pyspark.errors import IllegalArgumentException

    context = spark.sparkContext
    try:
        target = context._jvm.org.apache.hadoop.fs.Path(path)
        yield target.getFileSystem(context._jsc.hadoopConfiguration()), target
    except IllegalArgumentException as error:  # Spark turns this one Java class into its own
        raise refusal(path, "IllegalArgumentException", str(error), "Hadoop") from error
    except Py4JJavaError as error:
        java = error.java_exception
        raise refusal(path, java.getClass().getName(), str(java.toString()), "Hadoop") from error
