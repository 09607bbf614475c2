"""Which daemons a single-node Hadoop consists of, and how each is started."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.singlenode import processes
from dkeras_core.singlenode.jars import DEPLOY, Jars
from dkeras_core.singlenode.java import Java, clean_environment
from dkeras_core.singlenode.processes import Process

HEAP_MB = 512

#: Hadoop reaches into these packages of Java 17; the rest keeps small daemons small and quick to start.
JAVA_OPTIONS = (
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-exports=java.base/sun.net.dns=ALL-UNNAMED",
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "-Djava.net.preferIPv4Stack=true",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
)


@dataclass(frozen=True)
class Daemon:
    """One kind of daemon, or one NodeManager of several.

    Parameters
    ----------
    name : str
        "namenode", "nodemanager-1": also the name of its log and of its folder.
    main_class : str
        Its Java class.
    ports : tuple of str
        What its ports are called; "http" is the web page.
    """

    name: str
    main_class: str
    ports: tuple[str, ...]

    @property
    def port_names(self) -> list[str]:
        return [f"{self.name}.{port}" for port in self.ports]

    @property
    def is_nodemanager(self) -> bool:
        return self.name.startswith("nodemanager-")


NAMENODE = Daemon("namenode", "org.apache.hadoop.hdfs.server.namenode.NameNode", ("rpc", "http"))
DATANODE = Daemon("datanode", "org.apache.hadoop.hdfs.server.datanode.DataNode", ("data", "ipc", "http"))
RESOURCEMANAGER = Daemon(
    "resourcemanager",
    "org.apache.hadoop.yarn.server.resourcemanager.ResourceManager",
    ("rpc", "scheduler", "tracker", "admin", "http"),
)


def nodemanager(number: int) -> Daemon:
    """The ``number``-th NodeManager, counted from 1."""
    return Daemon(
        f"nodemanager-{number}",
        "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
        ("rpc", "localizer", "http"),
    )


def daemons(nodes: int) -> list[Daemon]:
    """All daemons of a cluster with ``nodes`` NodeManagers, in the order in which they are listed."""
    return [NAMENODE, DATANODE, RESOURCEMANAGER, *(nodemanager(number) for number in range(1, nodes + 1))]


def command(daemon: Daemon, *arguments: str, home: Path, conf: Path, jars: Jars, java: Java) -> list[str]:
    """Return the command line of a daemon. The two ``-Ddkeras`` marks are what :func:`running` looks for."""
    logs = home / "logs"
    return [
        str(java.binary), *_marks(daemon.name, home), f"-Xmx{HEAP_MB}m", *JAVA_OPTIONS,
        f"-Dlog4j.configuration=file:{DEPLOY / 'log4j.properties'}",
        f"-Ddkeras.log={logs / daemon.name}.log",
        f"-Dhadoop.log.dir={logs}", f"-Dyarn.log.dir={logs}",
        f"-XX:ErrorFile={logs}/{daemon.name}-crash.txt",
        "-cp", f"{conf}{os.pathsep}{jars.classpath}",
        daemon.main_class, *arguments,
    ]  # fmt: skip


def environment(java: Java, client_conf: Path) -> dict[str, str]:
    """Return the environment of a daemon. Containers inherit JAVA_HOME and HADOOP_CONF_DIR from the NodeManager's."""
    return clean_environment(JAVA_HOME=str(java.home), HADOOP_CONF_DIR=str(client_conf))


def running(home: Path) -> dict[str, Process]:
    """Return the daemons of ``home`` that live, by name.

    They are found by the marks on their command lines, so a number of another process can never be taken for a
    daemon's, and one whose starter was killed before it could note the number is found all the same.
    """
    mark = _marks("", home)[0]
    found = {}
    for process in processes.every():
        arguments = process.command()
        if mark in arguments[1:3]:
            found[arguments[2].removeprefix("-Ddkeras.daemon=")] = process
    return found


def _marks(name: str, home: Path) -> tuple[str, str]:
    return f"-Ddkeras.home={home}", f"-Ddkeras.daemon={name}"
