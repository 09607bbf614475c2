"""What all tests share: the root of the checkout, and real clusters for those that need one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT / "tests/shared"))  # modules that test files import

# A test run that a shell started in the background ignores SIGINT, and so would every process that a test starts and
# means to interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Spark in local mode: the workers' Python is this one, and nothing binds to an address of the network.
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

# Temporary files of the tests, and of all that they start and kill, stand in one folder that is removed at the end.
TEMPORARY = ROOT / "build" / f"test-tmp-{os.getpid()}"
TEMPORARY.mkdir(parents=True, exist_ok=True)
os.environ["TMPDIR"] = tempfile.tempdir = str(TEMPORARY)


def pytest_unconfigure(config) -> None:
    shutil.rmtree(TEMPORARY, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from scheduling import LongestFirst

    return LongestFirst(config, log) if config.option.dist == "loadfile" else None


def pytest_terminal_summary(terminalreporter) -> None:
    from scheduling import slowest

    reports = [one for kind in terminalreporter.stats.values() for one in kind if hasattr(one, "duration")]
    if sum(one.duration for one in reports) > 60:
        terminalreporter.section("what took longest")
        terminalreporter.write_line("\n".join(slowest(reports, ROOT)))


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def hadoop() -> Iterator:
    """A single-node Hadoop of this test session alone, up. Tests leave it as they find it."""
    with _cluster("shared") as node:
        node.up()
        yield node


@pytest.fixture(scope="module")
def spare_hadoop() -> Iterator:
    """A second cluster, not started: for the tests of one module which stop or break daemons."""
    with _cluster("spare") as node:
        yield node


@pytest.fixture(scope="session")
def spark(tmp_path_factory) -> Iterator:
    """Spark on two local cores, one session for all rooms."""
    from pyspark.sql import SparkSession

    before = SparkSession.getActiveSession()
    folder = tmp_path_factory.mktemp("spark")
    session = (
        SparkSession.builder.master("local[2]")
        .appName("tests")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(folder))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.codegen.wholeStage", "false")
        .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
        # These jobs take milliseconds: optimising their byte code costs more than it gives.
        .config("spark.driver.extraJavaOptions", "-XX:TieredStopAtLevel=1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("OFF")
    yield session
    if before is None:
        session.stop()


@pytest.fixture(scope="session")
def webhdfs(hadoop):
    """The cluster's HDFS by WebHDFS."""
    from dkeras_core.storage.webhdfs import WebHdfsStorage

    return WebHdfsStorage(hadoop.namenode_http, timeout=(5, 30), failover=5)


@pytest.fixture(scope="module")
def jvm(hadoop) -> Iterator:
    """The cluster's HDFS through the JVM of a local Spark session, whose file system is put back afterwards."""
    from pyspark.sql import SparkSession

    from dkeras_core.storage.hadoop import HadoopStorage
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    before = SparkSession.getActiveSession()
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    spark = builder.getOrCreate()
    conf, site = spark.sparkContext._jsc.hadoopConfiguration(), HadoopConfig.load(hadoop.conf_dir).properties
    kept = {name: conf.get(name) for name in site if name.startswith(("fs.", "dfs."))}
    for name in kept:
        conf.set(name, site[name])
    try:
        yield HadoopStorage(spark)
    finally:
        for name, value in kept.items():
            conf.unset(name) if value is None else conf.set(name, value)
        if before is None:
            spark.stop()


@contextlib.contextmanager
def _cluster(name: str) -> Iterator:
    """A new cluster that is gone afterwards, on Ctrl-C and TERM too; what a killed session left is removed first."""
    from dkeras_core.singlenode import SingleNode

    for left in (ROOT / "build").glob("test-cluster-*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), (left / "session").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held as long as its session lives
            _remove(SingleNode(left))
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = SingleNode(ROOT / "build" / f"test-cluster-{name}-{os.getpid()}")
    node.home.mkdir(parents=True)
    try:
        with (node.home / "session").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield node
    finally:
        _remove(node)


def _remove(node) -> None:
    try:
        node.down()
    finally:
        shutil.rmtree(node.home, ignore_errors=True)
