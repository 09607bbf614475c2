"""What `status` reports, as typed values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path


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
        """Plain values for JSON."""
        return {
            "home": str(self.home),
            "conf_dir": str(self.conf_dir),
            "ready": self.ready,
            "down": self.down,
            "daemons": [asdict(daemon) | {"log": str(daemon.log), "web": daemon.web} for daemon in self.daemons],
        }
