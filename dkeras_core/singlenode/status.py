"""What `status` reports: the daemons of a cluster, where they listen, and which of them are ready."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from dkeras_core.singlenode import daemons, health, ports
from dkeras_core.singlenode.home import Home, Started, State
from dkeras_core.singlenode.processes import Process


@dataclass(frozen=True)
class DaemonStatus:
    """One daemon. ``addresses`` is "host:port" by purpose ("rpc", "http"), ``memory`` resident bytes, ``condition``
    what it does or why it is not ready, in words."""

    name: str
    pid: int | None
    alive: bool
    ready: bool
    condition: str
    addresses: dict[str, str]
    memory: int
    log: Path

    @property
    def web(self) -> str:
        """The address of its web page, empty before the first start."""
        return f"http://{self.addresses['http']}" if "http" in self.addresses else ""


@dataclass(frozen=True)
class Status:
    """A cluster: its folder, the client's configuration, its daemons."""

    home: Path
    conf_dir: Path
    daemons: tuple[DaemonStatus, ...]

    @property
    def ready(self) -> bool:
        """Every daemon runs and works."""
        return all(daemon.ready for daemon in self.daemons)

    @property
    def down(self) -> bool:
        """No daemon runs."""
        return not any(daemon.alive for daemon in self.daemons)

    @property
    def nodes(self) -> int:
        """How many NodeManagers work."""
        return sum(daemon.ready for daemon in self.daemons if daemon.name.startswith("nodemanager-"))

    @property
    def web_pages(self) -> dict[str, str]:
        """Addresses by daemon, of those that run."""
        return {daemon.name: daemon.web for daemon in self.daemons if daemon.alive}

    def daemon(self, name: str) -> DaemonStatus:
        """Return one daemon by name; KeyError when this cluster has none such."""
        for daemon in self.daemons:
            if daemon.name == name:
                return daemon
        raise KeyError(name)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            "home": str(self.home),
            "conf_dir": str(self.conf_dir),
            "ready": self.ready,
            "down": self.down,
            "daemons": [asdict(daemon) | {"log": str(daemon.log), "web": daemon.web} for daemon in self.daemons],
        }


def observe(home: Home) -> Status:
    """Look at the cluster in ``home`` as it is now, without waiting for anything."""
    state, running = State.load(home.state), daemons.running(home)
    reasons = health.waiting_for(state.ports, started(state, running)) if running else {}
    wanted = [daemon.name for daemon in daemons.cluster(max(state.nodes, 1))]
    found = []
    for name in [*wanted, *sorted(running.keys() - set(wanted))]:
        process = running.get(name)
        if process:
            condition = reasons.get(name, "running")
        elif name in state.daemons:
            condition = f"crashed (was process {state.daemons[name].pid})"
        else:
            condition = "stopped"
        found.append(
            DaemonStatus(
                name=name,
                pid=process.pid if process else None,
                alive=process is not None,
                ready=process is not None and name not in reasons,
                condition=condition,
                addresses=_addresses(name, state.ports),
                memory=process.memory() if process else 0,
                log=home.log(name),
            )
        )
    return Status(home.root, home.conf, tuple(found))


def started(state: State, running: dict[str, Process]) -> dict[str, Started]:
    """Return when each running daemon was started; a start that was never noted (its starter was killed) is time 0."""
    found = {}
    for name, process in running.items():
        noted = state.daemons.get(name)
        same = noted and (noted.pid, noted.ticks) == (process.pid, process.started)
        found[name] = noted if same else Started(process.pid, process.started, 0.0)
    return found


def _addresses(daemon: str, numbers: dict[str, int]) -> dict[str, str]:
    names = {key: key.partition(".") for key in numbers}
    return {purpose: f"{ports.HOST}:{numbers[key]}" for key, (owner, _, purpose) in names.items() if owner == daemon}
