"""What a cluster's folder remembers between commands: its ports, how many nodes it has, and the daemons it started."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dkeras_core.errors import ClusterError


@dataclass
class Started:
    """A daemon as it was started: process number, start (ticks since boot; the wall clock, in unix seconds)."""

    pid: int
    ticks: int
    time: float


@dataclass
class State:
    """The content of ``state.json``. ``nodes`` is 0 while the cluster is down on purpose."""

    nodes: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    daemons: dict[str, Started] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> State:
        """Read ``path``; a file that is not there is a cluster that was never started.

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
                f"{path} is damaged ({error!r})", "remove it: ports are chosen again, data and daemons are found again"
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
