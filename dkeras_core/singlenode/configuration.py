"""Hadoop's configuration files, generated from the templates in deploy/hadoop/conf.

``<home>/conf`` is for clients (it becomes HADOOP_CONF_DIR), NameNode, DataNode and ResourceManager; each NodeManager
has ``<home>/nodemanager-<i>/conf``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from dkeras_core.singlenode.jars import DEPLOY

FILES = ("core-site.xml", "hdfs-site.xml", "yarn-site.xml", "capacity-scheduler.xml")
MIB = 1024 * 1024


@dataclass(frozen=True)
class NodeResources:
    """What one NodeManager offers: memory in MiB, and virtual cores."""

    memory_mb: int
    vcores: int


def host_memory_mb() -> int:
    """Return the memory of this host in MiB, or the limit of the control group around this process if that is less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):  # not this version of control groups, or "max"
            continue
    return memory // MIB


def node_resources(memory_mb: int, cores: int) -> NodeResources:
    """Return what a node offers of a host with ``memory_mb`` MiB and ``cores`` cores.

    60 % of the memory up to 10 GiB, 45 % beyond: the rest is for the daemons (about 1 GiB), the shell, the tests
    and the page cache. Cores are counted by the default scheduler, not enforced.
    """
    share = max(min(0.6 * memory_mb, 10 * 1024), 0.45 * memory_mb)
    return NodeResources(max(1024, int(share) // 256 * 256), max(1, cores))


def write(home: Path, ports: dict[str, int], resources: NodeResources, *, nodemanager: str | None = None) -> None:
    """Write the client's configuration, or that of one NodeManager.

    Parameters
    ----------
    home : Path
        The folder of the cluster, absolute.
    ports : dict
        Port by "<daemon>.<name>".
    nodemanager : str, optional
        "nodemanager-1", …
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(DEPLOY / "conf"), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    folder = home / nodemanager if nodemanager else home
    (folder / "conf").mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = templates.get_template(f"{name}.j2").render(
            home=home, home_uri=quote(str(home)), folder=folder, ports=ports, nodemanager=nodemanager,
            memory_mb=resources.memory_mb, vcores=resources.vcores,
        )  # fmt: skip
        (folder / "conf" / name).write_text(text)
