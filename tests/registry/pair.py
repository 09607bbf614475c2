"""Two NameNodes with high availability and a DataNode, of the bundle's own jars; the edits are shared by a folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from dkeras_core.singlenode.daemons import JAVA_OPTIONS
from dkeras_core.singlenode.jars import ensure_jars
from dkeras_core.singlenode.java import clean_environment, find_java
from dkeras_core.singlenode.ports import pick

HDFS = "org.apache.hadoop.hdfs"
NAMES = ("nn1", "nn2")


class Pair:
    """``conf_dir`` is the clients' configuration, nn1 is active at first."""

    def __init__(self, home: Path):
        self._home, self.conf_dir, self._running = home, home / "conf", {}
        self._java, self._classpath = find_java(), ensure_jars().classpath
        self._ports = pick([*NAMES, *(f"{name} rpc" for name in NAMES), "", "http.", "ipc."])
        (home / "shared").mkdir(parents=True)
        settings = self._settings()
        for name in (*NAMES, None):
            folder = home / f"conf-{name}" if name else self.conf_dir
            folder.mkdir()
            own = {"dfs.ha.namenode.id": name} if name else {}
            _write(folder / "core-site.xml", {"fs.defaultFS": "hdfs://pair", "hadoop.tmp.dir": home / "tmp"})
            _write(folder / "hdfs-site.xml", settings | own)
            _write(folder / "yarn-site.xml", {})

    def _settings(self) -> dict:
        home, ports = self._home, self._ports
        return {
            "dfs.nameservices": "pair",
            "dfs.ha.namenodes.pair": ",".join(NAMES),
            **{f"dfs.namenode.rpc-address.pair.{name}": f"127.0.0.1:{ports[f'{name} rpc']}" for name in NAMES},
            **{f"dfs.namenode.http-address.pair.{name}": f"127.0.0.1:{ports[name]}" for name in NAMES},
            **{f"dfs.namenode.name.dir.pair.{name}": f"file://{home}/{name}" for name in NAMES},
            "dfs.namenode.shared.edits.dir": f"file://{home}/shared",
            "dfs.client.failover.proxy.provider.pair": f"{HDFS}.server.namenode.ha.ConfiguredFailoverProxyProvider",
            "dfs.ha.fencing.methods": "shell(/bin/true)",
            "dfs.ha.tail-edits.period": "1s",
            **{f"dfs.datanode.{kind}address": f"127.0.0.1:{ports[kind]}" for kind in ("", "http.", "ipc.")},
            "dfs.datanode.hostname": "127.0.0.1",
            "dfs.datanode.data.dir": f"file://{home}/datanode",
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
            "dfs.replication": 1,
            "dfs.heartbeat.interval": 1,
            "dfs.namenode.safemode.extension": 0,
            "dfs.namenode.safemode.min.datanodes": 1,
        }

    def up(self) -> None:
        self._once("nn1", f"{HDFS}.server.namenode.NameNode", "-format", "-nonInteractive")
        self._start("nn1", f"{HDFS}.server.namenode.NameNode")
        _until(lambda: self.state("nn1"))
        self._once("nn2", f"{HDFS}.server.namenode.NameNode", "-bootstrapStandby", "-nonInteractive")
        self._start("nn2", f"{HDFS}.server.namenode.NameNode")
        self._start("datanode", f"{HDFS}.server.datanode.DataNode")
        _until(lambda: self.state("nn2"))
        self.activate("nn1")
        _until(lambda: self._bean("nn1", "FSNamesystemState")["NumLiveDataNodes"] == 1)
        _until(lambda: not self._bean("nn1", "NameNodeInfo")["Safemode"])

    def activate(self, name: str) -> None:
        """Make a standby the active one; the other is dead, or standby."""
        self._once(None, f"{HDFS}.tools.DFSHAAdmin", "-ns", "pair", "-transitionToActive", "--forceactive", name)
        _until(lambda: self.state(name) == "active")

    def kill(self, name: str) -> None:
        process = self._running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def down(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def state(self, name: str) -> str | None:
        """``active`` or ``standby``; None while it does not answer."""
        with contextlib.suppress(OSError, LookupError):
            return self._bean(name, "NameNodeStatus")["State"]

    def _bean(self, name: str, bean: str) -> dict:
        url = f"http://127.0.0.1:{self._ports[name]}/jmx?qry=Hadoop:service=NameNode,name={bean}"
        return json.load(urllib.request.urlopen(url, timeout=5))["beans"][0]

    def _command(self, conf: str | None, main: str, *arguments: str) -> list[str]:
        folder = self._home / f"conf-{conf}" if conf in NAMES else self.conf_dir
        classpath = f"{folder}{os.pathsep}{self._classpath}"
        return [
            str(self._java.binary),
            "-Xmx256m",
            *JAVA_OPTIONS,
            f"-Dhadoop.log.dir={self._home}",
            "-cp",
            classpath,
            main,
            *arguments,
        ]

    def _once(self, conf: str | None, main: str, *arguments: str) -> None:
        command = self._command(conf, main, *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=clean_environment())
        assert done.returncode == 0, done.stderr[-2000:]

    def _start(self, name: str, main: str) -> None:
        with (self._home / f"{name}.log").open("w") as log:
            self._running[name] = subprocess.Popen(
                self._command(name, main), stdout=log, stderr=subprocess.STDOUT, env=clean_environment()
            )


@contextlib.contextmanager
def pair(home: Path) -> Iterator[Pair]:
    made = Pair(home)
    try:
        made.up()
        yield made
    finally:
        made.down()


def _write(path: Path, settings: dict) -> None:
    rows = "".join(f"<property><name>{key}</name><value>{value}</value></property>" for key, value in settings.items())
    path.write_text(f"<configuration>{rows}</configuration>")


def _until(condition, seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
