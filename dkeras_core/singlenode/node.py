"""The single-node Hadoop as one object: up, down, status, logs."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode import configuration, daemons, filesystem, health, host, ports, processes
from dkeras_core.singlenode.daemons import NAMENODE, RESOURCEMANAGER, Daemon
from dkeras_core.singlenode.home import Home, Started, State
from dkeras_core.singlenode.jars import PROJECT_ROOT, Jars, ensure_jars
from dkeras_core.singlenode.java import Java, find_java
from dkeras_core.singlenode.locks import locked
from dkeras_core.singlenode.logs import explain, tail
from dkeras_core.singlenode.processes import Process
from dkeras_core.singlenode.status import Status, observe, started

DEFAULT_HOME = PROJECT_ROOT / "build" / "cluster"
START_SECONDS = 120.0
STOP_SECONDS = 15.0
#: A NodeManager leaves the cluster and ends its containers at once, but then waits for the deletions of old logs it
#: has planned, a week ahead. What it remembers is in a database with a journal, which a hard end does not damage.
NODEMANAGER_STOP_SECONDS = 3.0
CONTAINER_STOP_SECONDS = 3.0
LOCK_SECONDS = 300.0
MAXIMUM_NODES = 8

Progress = Callable[[str], None]


def _silent(line: str) -> None:
    pass


class SingleNode:
    """HDFS and YARN of real daemons on 127.0.0.1; everything they write stands below one folder.

    Parameters
    ----------
    home : Path
        Data, configuration, ports, process numbers and logs of this cluster. Two homes are two clusters, which run
        side by side.

    Raises
    ------
    ClusterError
        Hadoop cannot work below this path (blanks, commas and the like).
    """

    def __init__(self, home: Path | str = DEFAULT_HOME):
        self.home = Path(home).resolve()
        self._home = Home(self.home)

    @property
    def conf_dir(self) -> Path:
        """The client's configuration: what HADOOP_CONF_DIR should name."""
        return self._home.conf

    @property
    def container_logs(self) -> Path:
        """The folder of container logs: ``<application>/<container>/{stdout,stderr}``."""
        return self._home.container_logs

    @property
    def namenode_http(self) -> str:
        """The address of NameNode and WebHDFS; ClusterError before the first start."""
        return self._url("namenode.http")

    @property
    def resourcemanager_http(self) -> str:
        """The address of the ResourceManager's pages and REST interface; ClusterError before the first start."""
        return self._url("resourcemanager.http")

    def up(self, nodes: int | None = None, progress: Progress = _silent) -> Status:
        """Start what does not run, and return when files and applications are welcome.

        Parameters
        ----------
        nodes : int, optional
            How many NodeManagers there shall be; more are started, those too many are stopped. Default: as many as
            there were, at first 1.
        progress : callable, optional
            Told what happens, one line at a time.

        Raises
        ------
        ClusterError
            Java or Maven is missing, a port is taken by another process, or a daemon failed or was not ready in
            time (with the end of its log). What this call started is stopped again.
        """
        progress = progress or _silent
        if nodes is not None and not 1 <= nodes <= MAXIMUM_NODES:
            raise ClusterError(f"a cluster of {nodes} nodes cannot be started", f"ask for 1 to {MAXIMUM_NODES}")
        host.check()
        java, jars = find_java(), ensure_jars(progress)
        with self._locked(progress):
            state = State.load(self._home.state)
            state.nodes = nodes or state.nodes or 1
            wanted = daemons.cluster(state.nodes)
            running = self._stop_unwanted(wanted, state, progress)
            missing = [daemon for daemon in wanted if daemon.name not in running]
            state.daemons = started(state, running)
            self._settle_ports(missing, state, all_down=not running, progress=progress)
            try:
                self._start(missing, state, jars, java, progress)
                self._wait(state, progress)
                self._make_folders(state)
            except BaseException:
                self._stop(daemon.name for daemon in missing)
                state.daemons = started(state, running)
                state.save(self._home.state)
                raise
        return self.status()

    def down(self, progress: Progress = _silent) -> None:
        """Stop all daemons and every container that is left; data and configuration stay.

        Raises
        ------
        ClusterError
            Another command has been at work on this cluster for minutes.
        """
        progress = progress or _silent
        if not self.home.is_dir() and not daemons.running(self._home):
            return
        with self._locked(progress):
            names = daemons.running(self._home).keys() | {
                daemons.nodemanager(number).name for number in range(1, MAXIMUM_NODES + 1)
            }
            self._stop(names, progress)
            state = State.load(self._home.state)
            state.daemons.clear()
            state.save(self._home.state)

    def status(self) -> Status:
        """Return what runs, where, and whether it is ready. Never waits for another command."""
        return observe(self._home)

    def logs(self, name: str, lines: int = 50) -> list[str]:
        """Return the last ``lines`` of a daemon's log.

        Raises
        ------
        ClusterError
            There is no such log.
        """
        if not self._home.log(name).is_file():
            known = sorted(file.stem for file in self._home.logs.glob("*.log"))
            raise ClusterError(
                f"no log of {name!r} in {self._home.logs}",
                f"choose one of {', '.join(known)}" if known else "start the cluster first: dkeras cluster up",
            )
        return tail(self._home.log(name), lines)

    def run(self, main_class: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one of Hadoop's command-line tools against this cluster and return its result, output included.

        Parameters
        ----------
        main_class : str
            For example ``org.apache.hadoop.hdfs.tools.DFSAdmin`` or ``org.apache.hadoop.fs.FsShell``.
        timeout : float
            Seconds.

        Raises
        ------
        ClusterError
            It did not end in time.
        """
        java, jars = find_java(), ensure_jars()
        command = [
            str(java.binary), "-Xmx256m", *daemons.JAVA_OPTIONS, "-cp", f"{self.conf_dir}:{jars.classpath}",
            main_class, *arguments,
        ]  # fmt: skip
        try:
            return subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                env=daemons.environment(java, self._home),
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise ClusterError(
                f"{main_class} {' '.join(arguments)} did not end within {timeout:.0f} s",
                "see whether the host is overloaded, and `dkeras cluster status`",
            ) from error

    def _stop_unwanted(self, wanted: list[Daemon], state: State, progress: Progress) -> dict[str, Process]:
        """Stop nodes that are too many, and everything when its ports were forgotten; return what runs on."""
        running = daemons.running(self._home)
        known = {daemon.name for daemon in wanted if state.ports.keys() >= set(daemon.port_names)}
        forgotten = any(daemon.name in running and daemon.name not in known for daemon in wanted)
        if forgotten:
            progress("daemons run whose ports are not remembered: all are started anew")
        self._stop([name for name in running if forgotten or name not in known], progress)
        return daemons.running(self._home)

    def _settle_ports(self, missing: list[Daemon], state: State, *, all_down: bool, progress: Progress) -> None:
        """Give every daemon that is about to start its ports, and write its configuration."""
        for daemon in missing:
            for name in daemon.port_names:
                port = state.ports.get(name)
                if port is None or ports.is_left(port):
                    continue
                taken = f"port {port} ({name.replace('.', ' ')}) is taken by {ports.holder(port)}"
                if not (all_down or daemon.is_nodemanager):  # daemons run that know this port
                    raise ClusterError(taken, "end that process; or `dkeras cluster down`, then `up`, for new ports")
                progress(f"{taken}: another is chosen")
                del state.ports[name]
        new = [name for daemon in missing for name in daemon.port_names if name not in state.ports]
        state.ports |= ports.pick(new, avoid=state.ports.values())
        state.save(self._home.state)
        resources = configuration.node_resources(host.memory_mb(), host.cores())
        if all_down:
            configuration.write(self._home, state.ports, resources)
        for daemon in missing:
            if daemon.is_nodemanager:
                configuration.write(self._home, state.ports, resources, nodemanager=daemon.name)

    def _start(self, missing: list[Daemon], state: State, jars: Jars, java: Java, progress: Progress) -> None:
        self.container_logs.mkdir(parents=True, exist_ok=True)
        # Of a NodeManager that crashed: the ResourceManager writes its containers off, but they run on.
        self._end_containers(daemon.name for daemon in missing)
        nodes = [name for name in daemons.running(self._home) if name.startswith("nodemanager-")]
        if RESOURCEMANAGER in missing and not nodes:
            # No container lives, yet an application recovered would pass for alive until its master is missed.
            shutil.rmtree(self._home.applications, ignore_errors=True)
        # HDFS last: the first time it must be formatted, and meanwhile the others load their classes.
        for daemon in sorted(missing, key=lambda daemon: daemon.name.endswith("node")):
            if daemon == NAMENODE and not self._home.namenode.is_dir():
                progress("formatting HDFS")
                filesystem.make(self._home, self.run)
            progress(f"starting {daemon.name}")
            process = daemons.start(daemon, home=self._home, jars=jars, java=java)
            state.daemons[daemon.name] = Started(process.pid, process.started, time.time())
            state.save(self._home.state)

    def _wait(self, state: State, progress: Progress) -> None:
        deadline = time.monotonic() + START_SECONDS
        told = ""
        while True:
            running = daemons.running(self._home)
            for name in state.daemons:
                if name not in running:
                    raise self._failure(name, "ended while the cluster started")
            reasons = health.waiting_for(state.ports, state.daemons)
            if not reasons:
                return
            if time.monotonic() > deadline:
                name, reason = next(iter(reasons.items()))
                raise self._failure(name, f"was not ready after {START_SECONDS:.0f} s ({reason})")
            if (line := f"waiting for {', '.join(reasons)}") != told:
                progress(told := line)
            time.sleep(0.2)

    def _failure(self, name: str, what: str) -> ClusterError:
        log, output = self._home.log(name), self._home.output(name)
        return ClusterError(f"{name} {what}:\n{explain((log, output))}", f"read {log} and {output.name} beside it")

    def _make_folders(self, state: State) -> None:
        for path, mode in (("/tmp", "1777"), (f"/user/{host.user()}", "755")):
            try:
                health.make_folder(state.ports, path, user=host.user(), mode=mode)
            except OSError as error:
                raise self._failure(NAMENODE.name, f"could not make the folder {path}: {error}") from error

    def _stop(self, names: Iterable[str], progress: Progress = _silent) -> None:
        """Stop daemons: first the NodeManagers, which end their containers while they can; then what these left."""
        names = set(names)
        running = {name: process for name, process in daemons.running(self._home).items() if name in names}
        nodes = {name: process for name, process in running.items() if name.startswith("nodemanager-")}
        others = {name: process for name, process in running.items() if name not in nodes}
        for group, seconds in ((nodes, NODEMANAGER_STOP_SECONDS), (others, STOP_SECONDS)):
            if group:
                progress(f"stopping {', '.join(group)}")
            killed = processes.end(group.values(), seconds=seconds)
            for name in [name for name in others if others[name] in killed]:
                progress(f"{name} did not end within {seconds:.0f} s and was killed")
        self._end_containers(names)

    def _end_containers(self, names: Iterable[str]) -> None:
        for name in names:
            if name.startswith("nodemanager-") and (local := self._home.local(name)).is_dir():
                processes.end(processes.containers_below(local), seconds=CONTAINER_STOP_SECONDS)

    def _locked(self, progress: Progress) -> AbstractContextManager:
        what = f"the cluster in {self.home}"
        return locked(self._home.lock, what=what, timeout=LOCK_SECONDS, progress=progress)

    def _url(self, key: str) -> str:
        port = State.load(self._home.state).ports.get(key)
        if port is None:
            raise ClusterError(f"the cluster in {self.home} was never started", "start it: dkeras cluster up")
        return f"http://{ports.HOST}:{port}"
