"""Find the registry that a path means, for Python: in a job, on an edge node, on a laptop."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from dkeras_core.errors import ConfigError
from dkeras_core.registry.registry import Registry
from dkeras_core.storage import Storage, open_storage
from dkeras_core.storage.paths import split_uri

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = "/dkeras"


def open_registry(root: str | None = None, spark: SparkSession | None = None) -> Registry:
    """Return the registry below ``root``.

    Parameters
    ----------
    root : str, optional
        Default ``$DKERAS_ROOT``, else ``/dkeras``. ``file:///folder`` is a folder of this machine. Everything else is
        in HDFS: through the JVM of ``spark`` or of the active session when that is on a cluster, else by WebHDFS to the
        cluster that HADOOP_CONF_DIR names, else to the bundle's single node.

    Raises
    ------
    ConfigError
        There is no cluster to ask.
    """
    root = root or os.environ.get("DKERAS_ROOT") or ROOT
    return Registry(_storage(root, spark), root)


def _storage(root: str, spark: SparkSession | None) -> Storage:
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    if split_uri(root)[0] == "file":
        return open_storage(root)
    spark = spark or _session_on_a_cluster()
    if spark is not None:
        return open_storage(root, spark=spark)
    if os.environ.get("HADOOP_CONF_DIR") or os.environ.get("YARN_CONF_DIR"):
        return open_storage(root, hadoop=HadoopConfig.load())
    from dkeras_core.singlenode import SingleNode

    node = SingleNode()
    if not node.status().ready:
        raise ConfigError(
            f"{root}: HADOOP_CONF_DIR is not set, and the bundle's single node is down",
            "Set HADOOP_CONF_DIR, or give the root as file:///folder when the registry is on this machine.",
        )
    return open_storage(root, hadoop=HadoopConfig.load(node.conf_dir))


def _session_on_a_cluster() -> SparkSession | None:
    """Return the active session when there is one and its file system is not this machine's."""
    if "pyspark.sql" not in sys.modules:
        return None
    session = sys.modules["pyspark.sql"].SparkSession.getActiveSession()
    if session is None:
        return None
    default = session.sparkContext._jsc.hadoopConfiguration().get("fs.defaultFS")
    return None if default.startswith("file:") else session
