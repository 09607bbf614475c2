"""HDFS as the storage tests reach it: by WebHDFS, and through the JVM of a local Spark session."""

import pytest

from dkeras_core.storage.webhdfs import WebHdfsStorage


@pytest.fixture(scope="session")
def webhdfs(hadoop):
    return WebHdfsStorage(hadoop.namenode_http, timeout=(5, 30), failover=5)


@pytest.fixture(scope="module")
def jvm(hadoop):
    """HadoopStorage of a session whose default file system is the test cluster's, put back afterwards."""
    from pyspark.sql import SparkSession

    from dkeras_core.storage.hadoop import HadoopStorage
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    default_fs = HadoopConfig.load(hadoop.conf_dir).default_fs
    before = SparkSession.getActiveSession()
    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
    )
    spark = builder.config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    changed = {"fs.defaultFS": default_fs, "dfs.replication": "1"}
    kept = {name: conf.get(name) for name in changed}
    for name, value in changed.items():
        conf.set(name, value)
    yield HadoopStorage(spark)
    for name, value in kept.items():
        conf.set(name, value) if value is not None else conf.unset(name)
    if before is None:
        spark.stop()
