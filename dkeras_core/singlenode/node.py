"""The single-node Hadoop as one object: up, down, status, logs."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode import configuration, daemons, health, ports, processes
from dkeras_core.singlenode.configuration import host_memory_mb, node_resources
from dkeras_core.singlenode.daemons import NAMENODE, Daemon
from dkeras_core.singlenode.jars import PROJECT_ROOT, Jars, ensure_jars
from dkeras_core.singlenode.java import Java, find_java
from dkeras_core.singlenode.locks import locked
from dkeras_core.singlenode.logs import explain, tail
from dkeras_core.singlenode.processes import Process
from dkeras_core.singlenode.state import Started, State
from dkeras_core.singlenode.status import DaemonStatus, Status

DEFAULT_HOME = PROJECT_ROOT / "build" / "cluster"
START_SECONDS = 120.0
STOP_SECONDS = 15.0
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
    """

    def __init__(self, home: Path | str = DEFAULT_HOME):
        self.home = Path(home).resolve()
        if sys.platform != "linux":
            raise ClusterError("the single-node Hadoop runs on Linux only", "set HADOOP_CONF_DIR to use a cluster")

    @property
    def conf_dir(self) -> Path:
        """The client's configuration: what HADOOP_CONF_DIR should name."""
        return self.home / "conf"

    @property
    def namenode_http(self) -> str:
        return self._url("namenode.http")

    @property
    def resourcemanager_http(self) -> str:
        return self._url("resourcemanager.http")

    @property
    def container_logs(self) -> Path:
        """The folder of container logs: ``<application>/<container>/{stdout,stderr}``."""
        return self.home / "logs" / "userlogs"

    def up(self, nodes: int | None = None, progress: Progress | None = None) -> Status:
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
            time (with the last lines of its log). What this call started is stopped again.
        """
        progress = progress or _silent
        if nodes is not None and not 1 <= nodes <= MAXIMUM_NODES:
            raise ClusterError(f"a cluster of {nodes} nodes cannot be started", f"ask for 1 to {MAXIMUM_NODES}")
        java, jars = find_java(), ensure_jars(progress)
        with self._locked(progress):
            state = self._state()
            running = daemons.running(self.home)
            state.nodes = nodes or state.nodes or 1
            wanted = daemons.daemons(state.nodes)
            self._end_nodes([name for name in running if name not in {daemon.name for daemon in wanted}], running)
            missing = [daemon for daemon in wanted if daemon.name not in running]
            self._settle_ports(state, wanted, missing, progress)
            self._forget_absent(state, wanted, running)
            started: list[Process] = []
            try:
                self._start(missing, state, started, jars, java, progress)
                self._wait(state, progress)
                self._folders(state)
            except BaseException:
                for daemon in missing:
                    state.daemons.pop(daemon.name, None)
                processes.end(started, seconds=STOP_SECONDS)
                self._end_containers(missing)
                state.save(self._state_file)
                raise
        return self.status()

    def down(self, progress: Progress | None = None) -> None:
        """Stop all daemons and every container that is left; data and configuration stay."""
        progress = progress or _silent
        if not self.home.is_dir():
            return
        with self._locked(progress):
            running = daemons.running(self.home)
            for name in running:
                progress(f"stopping {name}")
            nodes = [name for name in running if name.startswith("nodemanager-")]
            self._end_nodes(nodes, running)  # first: they end their containers while they still can
            stubborn = processes.end(
                [process for name, process in running.items() if name not in nodes], seconds=STOP_SECONDS
            )
            for process in stubborn:
                progress(f"process {process.pid} did not end within {STOP_SECONDS:.0f} s and was killed")
            self._end_containers(daemons.nodemanager(number) for number in range(1, MAXIMUM_NODES + 1))
            state = self._state()
            state.nodes = 0
            state.daemons.clear()
            state.save(self._state_file)

    def status(self) -> Status:
        """Return what runs, where, and whether it is ready. Never waits for a lock."""
        state = self._state()
        running = daemons.running(self.home)
        names = [daemon.name for daemon in daemons.daemons(max(state.nodes, 1))]
        reasons = health.waiting_for(state.ports, self._started(state, running)) if running else {}
        found = []
        for name in [*names, *(name for name in running if name not in names)]:
            process, before = running.get(name), state.daemons.get(name)
            if process:
                condition = reasons.get(name, "running")
            else:
                condition = f"crashed (was process {before.pid})" if before else "stopped"
            found.append(
                DaemonStatus(
                    name=name,
                    pid=process.pid if process else None,
                    alive=process is not None,
                    ready=process is not None and name not in reasons,
                    condition=condition,
                    addresses={
                        key.partition(".")[2]: f"{ports.HOST}:{port}"
                        for key, port in state.ports.items()
                        if key.startswith(f"{name}.")
                    },
                    memory=process.memory() if process else 0,
                    log=self._log(name),
                )
            )
        return Status(self.home, self.conf_dir, tuple(found))

    def logs(self, name: str, lines: int = 50) -> list[str]:
        """Return the last ``lines`` of a daemon's log.

        Raises
        ------
        ClusterError
            There is no such log.
        """
        if not self._log(name).is_file():
            known = sorted(file.stem for file in (self.home / "logs").glob("*.log"))
            raise ClusterError(
                f"no log of {name!r} in {self.home / 'logs'}",
                f"choose one of {', '.join(known)}" if known else "start the cluster first: dkeras cluster up",
            )
        return tail(self._log(name), lines)

    def run(self, main_class: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one of Hadoop's command-line tools against this cluster and return its result, output included.

        Parameters
        ----------
        main_class : str
            For example ``org.apache.hadoop.hdfs.tools.DFSAdmin`` or ``org.apache.hadoop.fs.FsShell``.
        timeout : float
            Seconds.
        """
        java, jars = find_java(), ensure_jars()
        command = [
            str(java.binary), "-Xmx256m", *daemons.JAVA_OPTIONS, "-cp", f"{self.conf_dir}:{jars.classpath}",
            main_class, *arguments,
        ]  # fmt: skip
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
            env=daemons.environment(java, self.conf_dir),
        )  # fmt: skip

    # -- the steps of `up` and `down` --------------------------------------------------------------------------

    def _settle_ports(self, state: State, wanted: list[Daemon], missing: list[Daemon], progress: Progress) -> None:
        """Give every daemon its ports and write the configuration of those that are about to start."""
        all_down = len(missing) == len(wanted)
        for daemon in missing:
            for name in daemon.port_names:
                port = state.ports.get(name)
                if port is None or ports.is_free(port):
                    continue
                holder = ports.holder(port)
                if not (all_down or daemon.is_nodemanager):  # others know this port and run
                    raise ClusterError(
                        f"port {port} of {name.replace('.', ' ')} is taken by {holder}",
                        "end that process, or let all ports be chosen again: dkeras cluster down, then up",
                    )
                progress(f"port {port} of {name.replace('.', ' ')} is taken by {holder}: another is chosen")
                del state.ports[name]
        new = [name for daemon in wanted for name in daemon.port_names if name not in state.ports]
        state.ports |= ports.pick(new, avoid=state.ports.values())
        self.home.mkdir(parents=True, exist_ok=True)
        state.save(self._state_file)
        resources = node_resources(host_memory_mb(), len(os.sched_getaffinity(0)))
        if all_down:
            configuration.write(self.home, state.ports, resources)
        for daemon in missing:
            if daemon.is_nodemanager:
                configuration.write(self.home, state.ports, resources, nodemanager=daemon.name)

    def _start(
        self, missing: list[Daemon], state: State, started: list[Process], jars: Jars, java: Java, progress: Progress
    ) -> None:
        self.container_logs.mkdir(parents=True, exist_ok=True)
        self._end_containers(missing)  # of a NodeManager that crashed: the ResourceManager has written them off
        # HDFS last: the first time it is formatted, and meanwhile the others load their classes.
        for daemon in sorted(missing, key=lambda daemon: daemon.name.endswith("node")):
            conf = self.home / daemon.name / "conf" if daemon.is_nodemanager else self.conf_dir
            if daemon == NAMENODE and not (self.home / "namenode").is_dir():
                self._format(progress)
            progress(f"starting {daemon.name}")
            process = processes.start(
                daemons.command(daemon, home=self.home, conf=conf, jars=jars, java=java),
                environment=daemons.environment(java, self.conf_dir),
                folder=self.home,
                output=self._log(daemon.name).with_suffix(".out"),
            )
            started.append(process)
            state.daemons[daemon.name] = Started(process.pid, process.started, time.time())
            state.save(self._state_file)

    def _format(self, progress: Progress) -> None:
        """Make an empty file system beside its place and rename it, so that a killed format is never started on."""
        progress("formatting HDFS")
        fresh = self.home / "namenode.formatting"
        shutil.rmtree(fresh, ignore_errors=True)
        result = self.run(
            NAMENODE.main_class, "-D", f"dfs.namenode.name.dir={fresh.as_uri()}", "-format", "-nonInteractive"
        )
        if result.returncode != 0 or not (fresh / "current" / "VERSION").is_file():
            lines = (result.stdout + result.stderr).splitlines()
            raise ClusterError("the NameNode could not be formatted:\n" + "\n".join(lines[-15:]), f"see {self.home}")
        shutil.rmtree(self.home / "datanode", ignore_errors=True)  # blocks of a file system that is no more
        fresh.rename(self.home / "namenode")

    def _wait(self, state: State, progress: Progress) -> None:
        deadline = time.monotonic() + START_SECONDS
        told = ""
        while True:
            running = daemons.running(self.home)
            for name in state.daemons:
                if name not in running:
                    raise ClusterError(
                        f"{name} ended while the cluster started:\n{explain(self._log(name))}",
                        f"read {self._log(name)} and {self._log(name).with_suffix('.out')}",
                    )
            reasons = health.waiting_for(state.ports, state.daemons)
            if not reasons:
                return
            name, reason = next(iter(reasons.items()))
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{name} was not ready after {START_SECONDS:.0f} s ({reason}):\n{explain(self._log(name))}",
                    f"read {self._log(name)}",
                )
            if (line := f"waiting for {', '.join(reasons)}") != told:
                progress(told := line)
            time.sleep(0.2)

    def _folders(self, state: State) -> None:
        user = getpass.getuser()
        for path, mode in (("/tmp", "1777"), (f"/user/{user}", "755")):
            try:
                health.make_folder(state.ports, path, user=user, mode=mode)
            except OSError as error:
                raise ClusterError(
                    f"the folder {path} could not be made in HDFS: {error}", f"read {self._log('namenode')}"
                ) from error

    def _end_nodes(self, names: list[str], running: dict[str, Process]) -> None:
        processes.end([running[name] for name in names], seconds=STOP_SECONDS)
        for name in names:
            processes.end(processes.containers_below(self.home / name / "local"), seconds=3.0)

    def _end_containers(self, of: Iterator[Daemon] | list[Daemon]) -> None:
        for daemon in of:
            if daemon.is_nodemanager and (local := self.home / daemon.name / "local").is_dir():
                processes.end(processes.containers_below(local), seconds=3.0)

    def _forget_absent(self, state: State, wanted: list[Daemon], running: dict[str, Process]) -> None:
        """Keep in the state exactly the daemons that run, also those whose starter was killed before it noted them."""
        names = {daemon.name for daemon in wanted}
        known = self._started(state, running)
        state.daemons = {name: start for name, start in known.items() if name in names}

    def _started(self, state: State, running: dict[str, Process]) -> dict[str, Started]:
        found = {}
        for name, process in running.items():
            start = state.daemons.get(name)
            same = start and (start.pid, start.ticks) == (process.pid, process.started)
            found[name] = start if same else Started(process.pid, process.started, 0.0)
        return found

    # -- places --------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self, progress: Progress) -> Iterator[None]:
        with locked(self.home / "lock", what=f"the cluster in {self.home}", timeout=LOCK_SECONDS, progress=progress):
            yield

    @property
    def _state_file(self) -> Path:
        return self.home / "state.json"

    def _state(self) -> State:
        return State.load(self._state_file)

    def _log(self, name: str) -> Path:
        return self.home / "logs" / f"{name}.log"

    def _url(self, key: str) -> str:
        port = self._state().ports.get(key)
        if port is None:
            raise ClusterError(f"the cluster in {self.home} was never started", "start it: dkeras cluster up")
        return f"http://{ports.HOST}:{port}"
