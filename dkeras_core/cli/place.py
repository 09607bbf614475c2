"""Which cluster a command talks to: the one HADOOP_CONF_DIR names, else the bundle's single node."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dkeras_core.errors import ClusterError
from dkeras_core.storage.base import Storage
from dkeras_core.yarn.answers import Application
from dkeras_core.yarn.container_logs import ContainerLogs
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager

BUILD = Path(__file__).resolve().parents[2] / "build"
"""Everything generated on this machine."""


@dataclass(frozen=True)
class Place:
    """A cluster as commands use it; ``container_logs`` is the folder of its containers' output on this machine."""

    config: HadoopConfig
    rm: ResourceManager
    storage: Storage
    container_logs: Path | None = None

    @property
    def single_node(self) -> bool:
        """Whether the daemons listen on loopback, so that their containers run on this machine."""
        urls = (*self.config.namenode_urls, *self.config.resourcemanager_urls)
        return all(urlsplit(url).hostname in ("127.0.0.1", "localhost") for url in urls)

    def logs(self, app: Application) -> ContainerLogs:
        return ContainerLogs(app, self.container_logs, self.rm.session)


def is_named() -> bool:
    """Whether the environment names a cluster; otherwise the bundle's single node is meant."""
    return bool(os.environ.get("HADOOP_CONF_DIR") or os.environ.get("YARN_CONF_DIR"))


def find(root: str, start: bool = False, progress: Callable[[str], None] | None = None) -> Place:
    """Return the cluster; the single node is started or mended when ``start`` is true.

    Parameters
    ----------
    root : str
        The bundle's root folder: decides the file system.

    Raises
    ------
    ConfigError
        When HADOOP_CONF_DIR names something that is not a configuration.
    ClusterError
        When the single node is meant and is down, or cannot be started.
    """
    if is_named():
        return _place(HadoopConfig.load(), root)
    from dkeras_core.singlenode import SingleNode

    node = SingleNode()
    if start:
        node.up(progress=progress)
    elif not node.status().ready:
        raise ClusterError(
            "no cluster: HADOOP_CONF_DIR is not set, and the bundle's single node is down",
            "set HADOOP_CONF_DIR, or start the single node with `dkeras cluster up`",
        )
    return _place(HadoopConfig.load(node.conf_dir), root)


def _place(config: HadoopConfig, root: str) -> Place:
    from dkeras_core.singlenode import SingleNode
    from dkeras_core.storage import open_storage

    logs = None
    if (config.conf_dir.parent / "logs").is_dir():  # the home of a single node, also when HADOOP_CONF_DIR names it
        logs = SingleNode(config.conf_dir.parent).container_logs
    return Place(config, ResourceManager.of(config), open_storage(root, hadoop=config), logs)
