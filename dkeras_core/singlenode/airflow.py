"""Airflow on this machine, with the bundle's DAGs: for trying them out, and for the tests.

It starts what `airflow standalone` would start (the API server with the pages, the scheduler, the DAG processor and the
triggerer), but each as a process of its own that is known by number and start: one that crashed is started again by
`up`, and `down` ends all of them with their children, which standalone leaves behind. Metadata are in SQLite, which is
enough for one person; docs/airflow.md tells what a site takes instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import requests

from dkeras_core.errors import ClusterError, ConfigError
from dkeras_core.singlenode import ports, processes
from dkeras_core.singlenode.airflow_home import CHECKOUT, USER, AirflowHome
from dkeras_core.singlenode.processes import Process

__all__ = ["COMMANDS", "DEFAULT_HOME", "USER", "LocalAirflow", "Status"]

DEFAULT_HOME = CHECKOUT / "build/airflow/home"
COMMANDS = {
    "api-server": ("api-server", "--host", ports.HOST),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Component -> arguments of the command `airflow`."""

_HEALTH = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
_LINES = 15

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Status:
    """What runs: the address of the pages, and for each component "up", "starting" or "down"."""

    address: str | None
    components: dict[str, str]

    @property
    def ready(self) -> bool:
        return set(self.components.values()) == {"up"}

    @property
    def down(self) -> bool:
        return set(self.components.values()) == {"down"}


class LocalAirflow:
    """An Airflow whose files stand in ``home``; another folder is another Airflow.

    Parameters
    ----------
    home : Path
        Metadata, logs, password and process numbers.
    dags : Path
        Folder of DAG files.
    python : Path
        Interpreter of Airflow's own environment (``envs/bootstrap.sh airflow``).
    environment : dict
        Further variables for all components, such as HADOOP_CONF_DIR.
    """

    def __init__(
        self,
        home: Path = DEFAULT_HOME,
        *,
        dags: Path = CHECKOUT / "dags",
        python: Path = CHECKOUT / "build/airflow/venv/bin/python",
        environment: dict[str, str] | None = None,
    ):
        self.home, self.dags, self.python = Path(home).absolute(), Path(dags).absolute(), Path(python)
        self._extra = dict(environment or {})
        self._files = AirflowHome(self.home)

    @property
    def address(self) -> str | None:
        """Where the pages and the REST interface are, None before the first start."""
        port = self._read().get("port")
        return f"http://{ports.HOST}:{port}" if port else None

    @property
    def password(self) -> str:
        """The password of the user ``admin``."""
        return self._files.passwords()[USER]

    @property
    def logs(self) -> Path:
        return self._files.logs

    def up(self, *, seconds: float = 180.0, progress: Progress | None = None) -> Status:
        """Start what is not running, and wait until all of it answers.

        Raises
        ------
        ConfigError
            Airflow's environment is not there.
        ClusterError
            A component ended or did not answer in time, with the last lines of its log.
        """
        say = progress or (lambda text: None)
        if not self.python.exists():
            raise ConfigError(f"there is no Airflow at {self.python}", "run `envs/bootstrap.sh airflow`")
        if not self.dags.is_dir():
            raise ConfigError(f"the folder of DAGs {self.dags} does not exist", "name another one")
        with self._locked():
            self._prepare(say)
            begun = []
            for name in COMMANDS:
                if not self._alive(name):
                    say(f"starting {name}")
                    self._start(name)
                    begun.append(name)
            try:
                self._await(time.monotonic() + seconds, say)
            except BaseException:
                self._end(begun)
                raise
        return self.status()

    def down(self, *, seconds: float = 15.0, progress: Progress | None = None) -> None:
        """End all components and everything that they have started; files stay."""
        with self._locked():
            if progress:
                progress("ending the components")
            self._end(COMMANDS, seconds)
            # Tasks run in sessions of their own; what they inherit is the home.
            processes.end(self._family(), seconds=seconds)
            shutil.rmtree(self._files.temporary, ignore_errors=True)

    def processes(self) -> dict[str, Process]:
        """Return component -> its process, of those that run; what a component has started are its children."""
        found = {name: self._process(name) for name in COMMANDS}
        return {name: process for name, process in found.items() if process}

    def kill(self, name: str) -> None:
        """End one component and its children by force, as a crash would."""
        process = self._process(name)
        for one in [process, *self._children(process)] if process else []:
            processes.end([one], seconds=0)

    def status(self) -> Status:
        """Look at the processes, and ask the API server how it and the others are."""
        alive = {name: self._alive(name) for name in COMMANDS}
        beats = self._heartbeats() if alive["api-server"] else None
        begun = self._read().get("begun", {})
        found = {}
        for name in COMMANDS:
            # The heartbeat of a component that was killed counts as fresh for another half minute.
            answers = beats is not None and (name == "api-server" or beats.get(_HEALTH[name], 0.0) >= begun[name])
            found[name] = "down" if not alive[name] else "up" if answers else "starting"
        return Status(self.address, found)

    def environment(self) -> dict[str, str]:
        """The environment of every component, and of the command `airflow` for this home."""
        return self._files.environment(self.dags, self.python) | self._extra

    def _prepare(self, say: Progress) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        state = self._read()
        if not state or (not self._alive("api-server") and not ports.is_free(state["port"])):
            self._files.renew(port=ports.pick(["api-server"])["api-server"])
        self._files.furnish()
        if not any(map(self._alive, COMMANDS)):
            say("preparing the metadata")
            log = self.logs / "migrate.log"
            with log.open("ab") as output:
                done = subprocess.run(
                    [self.python, "-m", "airflow", "db", "migrate"],
                    env=self.environment(), cwd=self.home, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                    timeout=300, check=False,
                )  # fmt: skip
            if done.returncode:
                raise ClusterError(f"airflow db migrate failed: {_last_lines(log)}", f"see {log}")

    def _start(self, name: str) -> None:
        command = [str(self.python), "-m", "airflow", *COMMANDS[name]]
        process = processes.start(
            command, environment=self.environment(), folder=self.home, output=self.logs / f"{name}.log"
        )
        state = self._read()
        state["components"][name] = asdict(process)
        state.setdefault("begun", {})[name] = time.time()
        self._files.write_state(state)

    def _await(self, deadline: float, say: Progress) -> None:
        while True:
            status = self.status()
            if status.ready:
                return
            for name, found in status.components.items():
                if found == "down":
                    log = self.logs / f"{name}.log"
                    raise ClusterError(f"Airflow's {name} has ended: {_last_lines(log)}", f"see {log}")
            waiting = [name for name, found in status.components.items() if found != "up"]
            if time.monotonic() > deadline:
                log = self.logs / f"{waiting[0]}.log"
                raise ClusterError(
                    f"Airflow's {', '.join(waiting)} did not answer in time: {_last_lines(log)}",
                    f"see {log}",
                )
            say(f"waiting for {', '.join(waiting)}")
            time.sleep(0.5)

    def _end(self, names, seconds: float = 15.0) -> None:
        doomed = []
        for name in names:
            process = self._process(name)
            if process:
                doomed += [process, *self._children(process)]
        processes.end(doomed, seconds=seconds)

    def _heartbeats(self) -> dict[str, float] | None:
        """Return when each component last told that it lives, in Unix seconds; None while the API server is silent."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                answer = session.get(f"{self.address}/api/v2/monitor/health", timeout=5).json()
            told = {name: found.get(f"latest_{name}_heartbeat") for name, found in answer.items()}
            return {name: datetime.fromisoformat(text).timestamp() for name, text in told.items() if text}
        except (requests.RequestException, ValueError, AttributeError):
            return None

    def _process(self, name: str) -> Process | None:
        found = self._read().get("components", {}).get(name)
        process = Process(**found) if found else None
        return process if process and process.alive() else None

    def _alive(self, name: str) -> bool:
        return self._process(name) is not None

    def _children(self, process: Process) -> list[Process]:
        """All that descends from a process by now."""
        parents = {one.pid: (one, _parent(one.pid)) for one in processes.every()}
        found, edge = [], {process.pid}
        while edge:
            edge = {pid for pid, (_, parent) in parents.items() if parent in edge}
            found += [parents[pid][0] for pid in edge]
        return found

    def _family(self) -> list[Process]:
        mark = f"AIRFLOW_HOME={self.home}"
        return [one for one in processes.every() if one.pid != os.getpid() and mark in one.environment()]

    def _read(self) -> dict:
        return self._files.state()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ClusterError(
                    f"somebody else starts or stops the Airflow in {self.home}", "wait until that has ended"
                ) from None
            yield


def _last_lines(log: Path) -> str:
    try:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        return "it has written no log"
    return "\n".join(lines[-_LINES:])


def _parent(pid: int) -> int:
    try:
        return int((processes.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
