"""Which daemons a single-node Hadoop consists of, how each is started, and which of them run."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from dkeras_core.singlenode import processes
from dkeras_core.singlenode.home import Home
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
    """One daemon of a cluster.

    Parameters
    ----------
    name : str
        "namenode", "nodemanager-1": also the name of its log and of its folder.
    main_class : str
        Its Java class.
    ports : tuple of str
        The purposes of its ports; "http" is the web page.
    """

    name: str
    main_class: str
    ports: tuple[str, ...]

    @property
    def port_names(self) -> list[str]:
        return [f"{self.name}.{purpose}" for purpose in self.ports]

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
    """Return the ``number``-th NodeManager, counted from 1."""
    return Daemon(
        f"nodemanager-{number}",
        "org.apache.hadoop.yarn.server.nodemanager.NodeManager",
        ("rpc", "localizer", "http"),
    )


def cluster(nodes: int) -> list[Daemon]:
    """Return all daemons of a cluster with ``nodes`` NodeManagers, in the order in which they are listed."""
    return [NAMENODE, DATANODE, RESOURCEMANAGER, *(nodemanager(number) for number in range(1, nodes + 1))]


def start(daemon: Daemon, *, home: Home, jars: Jars, java: Java) -> Process:
    """Start a daemon detached from this process. The two ``-Ddkeras`` marks are what :func:`running` looks for."""
    conf = home.folder(daemon.name) / "conf" if daemon.is_nodemanager else home.conf
    temporary = home.temporary(daemon.name)
    shutil.rmtree(temporary, ignore_errors=True)  # a daemon that was killed leaves its unpacked web pages
    temporary.mkdir(parents=True)
    command = [
        str(java.binary), *_marks(daemon.name, home), f"-Xmx{HEAP_MB}m", *JAVA_OPTIONS,
        f"-Dlog4j.configuration=file:{DEPLOY / 'log4j.properties'}", f"-Ddkeras.log={home.log(daemon.name)}",
        f"-Dhadoop.log.dir={home.logs}", f"-Dyarn.log.dir={home.logs}", f"-Djava.io.tmpdir={temporary}",
        f"-XX:ErrorFile={home.logs}/{daemon.name}-crash.txt",
        "-cp", f"{conf}{os.pathsep}{jars.classpath}", daemon.main_class,
    ]  # fmt: skip
    return processes.start(
        command, environment=environment(java, home), folder=home.root, output=home.output(daemon.name)
    )


def environment(java: Java, home: Home) -> dict[str, str]:
    """Return the environment of a daemon. Containers inherit JAVA_HOME and HADOOP_CONF_DIR from their NodeManager's."""
    return clean_environment(JAVA_HOME=str(java.home), HADOOP_CONF_DIR=str(home.conf))


def running(home: Home) -> dict[str, Process]:
    """Return the daemons of ``home`` that live, by name.

    They are found by the marks on their command lines, not by a remembered process number: a number that was given
    to another process cannot mislead, and a daemon whose starter was killed before noting it is found all the same.
    """
    mark = _marks("", home)[0]
    found = {}
    for process in processes.every():
        arguments = process.command()
        if mark in arguments[1:2]:
            found[arguments[2].removeprefix("-Ddkeras.daemon=")] = process
    return found


def _marks(name: str, home: Home) -> tuple[str, str]:
    return f"-Ddkeras.home={home.root}", f"-Ddkeras.daemon={name}"
