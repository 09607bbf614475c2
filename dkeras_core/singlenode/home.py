"""The folder of a cluster: what stands where below it, and what it remembers between commands."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

from dkeras_core.errors import ClusterError


@dataclass(frozen=True)
class Home:
    """Places below ``root``, an absolute path.

    Raises
    ------
    ClusterError
        Hadoop cannot work below such a path: the DataNode fails on every character that a URI escapes, and commas
        separate folders in its settings.
    """

    root: Path

    def __post_init__(self):
        if quote(str(self.root)) != str(self.root):
            raise ClusterError(
                f"Hadoop cannot keep its data in {str(self.root)!r}: only letters, digits and /._-~ may stand there",
                "name another folder: --home /path/without/blanks",
            )

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def conf(self) -> Path:
        """The client's configuration, which NameNode, DataNode and ResourceManager share."""
        return self.root / "conf"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def container_logs(self) -> Path:
        return self.logs / "userlogs"

    @property
    def namenode(self) -> Path:
        return self.root / "namenode"

    @property
    def datanode(self) -> Path:
        return self.root / "datanode"

    @property
    def applications(self) -> Path:
        """What the ResourceManager would recover after a crash."""
        return self.root / "resourcemanager"

    def temporary(self, daemon: str) -> Path:
        """Temporary files of a daemon, removed when it starts."""
        return self.root / "tmp" / daemon

    def log(self, daemon: str) -> Path:
        """What a daemon logs."""
        return self.logs / f"{daemon}.log"

    def output(self, daemon: str) -> Path:
        """What a daemon prints: usually nothing, or why it could not even start."""
        return self.logs / f"{daemon}.out"

    def folder(self, nodemanager: str) -> Path:
        """Configuration and local directory of one NodeManager."""
        return self.root / nodemanager

    def local(self, nodemanager: str) -> Path:
        """The local directory of one NodeManager: its containers run below it."""
        return self.folder(nodemanager) / "local"


@dataclass
class Started:
    """A daemon as it was started: process number, start (ticks since boot; the wall clock, in unix seconds)."""

    pid: int
    ticks: int
    time: float


@dataclass
class State:
    """The content of ``state.json``: number of NodeManagers (0 before the first start), port by "<daemon>.<purpose>",
    and the daemons that were started and not stopped."""

    nodes: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    daemons: dict[str, Started] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """Read ``path``; a file that is not there belongs to a cluster that was never started.

        Raises
        ------
        ClusterError
            The file is damaged.
        """
        try:
            content = json.loads(path.read_text())
            daemons = {name: Started(**value) for name, value in content["daemons"].items()}
            return cls(int(content["nodes"]), dict(content["ports"]), daemons)
        except FileNotFoundError:
            return cls()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClusterError(
                f"{path} is damaged ({error!r})",
                "remove it and start the cluster: ports are chosen again, files in HDFS stay",
            ) from error

    def save(self, path: Path) -> None:
        """Replace ``path`` as a whole, so that a reader or a crash never meets half of it."""
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
            temporary.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
