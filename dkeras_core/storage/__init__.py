"""File systems behind one protocol: WebHDFS, Hadoop through Spark's JVM, local folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkeras_core.errors import StorageError
from dkeras_core.storage.base import FileStatus, Storage
from dkeras_core.storage.paths import split_uri

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from dkeras_core.yarn.hadoop_config import HadoopConfig

__all__ = ["FileStatus", "Storage", "open_storage"]


def open_storage(path: str, spark: SparkSession | None = None, hadoop: HadoopConfig | None = None) -> Storage:
    """Return the file system that ``path`` is on.

    Parameters
    ----------
    path : str
        Absolute path or URI. ``file://`` is local; a plain path is on the cluster's file system when there is one.
    spark : SparkSession, optional
        Inside a job: go through its JVM, with its tokens.
    hadoop : HadoopConfig, optional
        On an edge node: go by WebHDFS to the NameNode that the configuration names.

    Raises
    ------
    StorageError
        An hdfs:// path without a session or configuration, or a scheme that is not supported.
    """
    scheme, authority, _ = split_uri(path)
    if scheme not in ("", "file", "hdfs", "webhdfs"):
        raise StorageError(f"{path}: {scheme}:// is not supported", "Use a path in HDFS or on this machine.")
    if scheme != "file" and spark is not None:
        default = spark.sparkContext._jsc.hadoopConfiguration().get("fs.defaultFS")
        if scheme or not default.startswith("file:"):
            from dkeras_core.storage.hadoop import HadoopStorage

            return HadoopStorage(spark)
    elif scheme != "file" and hadoop is not None:
        from dkeras_core.storage.webhdfs import WebHdfsStorage

        return WebHdfsStorage(
            ";".join(hadoop.namenode_urls), authority=split_uri(hadoop.default_fs)[1], kerberos=hadoop.secured
        )
    elif scheme in ("hdfs", "webhdfs"):
        raise StorageError(
            f"{path}: which cluster {authority or 'that'} is cannot be told",
            "Set HADOOP_CONF_DIR to the folder of its core-site.xml and hdfs-site.xml.",
        )
    from dkeras_core.storage.local import LocalStorage

    return LocalStorage()
