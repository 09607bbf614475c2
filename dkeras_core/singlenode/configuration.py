"""Hadoop's configuration files, generated from the templates in deploy/hadoop/conf.

``<home>/conf`` is for clients (it becomes HADOOP_CONF_DIR), NameNode, DataNode and ResourceManager; each NodeManager
has ``<home>/nodemanager-<i>/conf``.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from dkeras_core.singlenode.home import Home
from dkeras_core.singlenode.jars import DEPLOY

FILES = ("core-site.xml", "hdfs-site.xml", "yarn-site.xml", "capacity-scheduler.xml")
NODE_RECOVERY = platform.machine() == "x86_64"
"""A NodeManager remembers in LevelDB alone, whose jar has no library for other machines."""


@dataclass(frozen=True)
class NodeResources:
    """What one NodeManager offers: memory in MiB, and virtual cores."""

    memory_mb: int
    vcores: int


def node_resources(memory_mb: int, cores: int) -> NodeResources:
    """Return what a node offers of a host with ``memory_mb`` MiB and ``cores`` cores.

    60 % of the memory up to 10 GiB, 45 % beyond: the rest is for the daemons (about 1 GiB), the shell, the tests
    and the page cache. Cores are counted by the default scheduler, not enforced.
    """
    share = max(min(0.6 * memory_mb, 10 * 1024), 0.45 * memory_mb)
    return NodeResources(max(1024, int(share) // 256 * 256), max(1, cores))


def write(home: Home, ports: dict[str, int], resources: NodeResources, *, nodemanager: str | None = None) -> None:
    """Write the client's configuration, or that of the named NodeManager ("nodemanager-1").

    Parameters
    ----------
    home : Home
        The folder of the cluster.
    ports : dict
        Port by "<daemon>.<purpose>".
    resources : NodeResources
        What every node offers; also the largest container.
    nodemanager : str, optional
        The NodeManager whose configuration to write; default: the client's.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(DEPLOY / "conf"), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    folder = home.folder(nodemanager) if nodemanager else home.root
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = templates.get_template(f"{name}.j2").render(
            home=home.root, folder=folder, ports=ports, nodemanager=nodemanager,
            memory_mb=resources.memory_mb, vcores=resources.vcores, node_recovery=NODE_RECOVERY,
        )  # fmt: skip
        (folder / "conf" / name).write_text(text)
