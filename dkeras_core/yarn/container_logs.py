"""Where the output of a container is found: on this disk (single node), or at its NodeManager's web server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.yarn.answers import Application

_CONTENTS = re.compile(r"LogContents:\n(.*?)\n?End of LogType:", re.DOTALL)
_LIMIT = 4_000_000
"""Bytes of one log that are looked at, the last ones."""


@dataclass(frozen=True)
class ContainerLogs:
    """Output of the containers of one application.

    Parameters
    ----------
    app : Application
        Names the application and the NodeManager of its master.
    folder : Path, optional
        The node's folder of container logs, when it is on this machine.
    session : requests.Session, optional
        Used for the NodeManagers' web servers.
    """

    app: Application
    folder: Path | None = None
    session: object = None

    def read(self, container: str, name: str, host: str | None = None) -> str:
        """Return the output ``name`` (stdout, stderr) of a container, empty when it is not to be had.

        ``host`` is the ``name:port`` of the container's NodeManager web server; by default that of the driver.
        """
        on_disk = self._path(container) / name if self.folder else None
        if on_disk and on_disk.is_file():
            with on_disk.open("rb") as file:
                file.seek(max(0, on_disk.stat().st_size - _LIMIT))
                return file.read().decode(errors="replace")
        return self._fetch(container, name, host or self.app.am_host)

    def executor(self, executor_id: str) -> str | None:
        """Return the container of an executor by looking at the launch scripts on this disk."""
        if not self.folder:
            return None
        for script in sorted((self.folder / self.app.id).glob("container_*/launch_container.sh")):
            if re.search(rf"--executor-id {executor_id}\b", script.read_text(errors="replace")):
                return script.parent.name
        return None

    def where(self, container: str) -> str:
        """Return how a person reads the whole log."""
        if self.folder and self._path(container).is_dir():
            return str(self._path(container))
        chosen = f" -containerId {container}" if container else ""
        return f"yarn logs -applicationId {self.app.id}{chosen}"

    def _path(self, container: str) -> Path:
        return self.folder / self.app.id / container

    def _fetch(self, container: str, name: str, host: str) -> str:
        import requests

        if not host or self.session is None:
            return ""
        url = f"{'https' if host.endswith(':8044') else 'http'}://{host}/ws/v1/node/containers/{container}/logs/{name}"
        try:
            answer = self.session.get(url, params={"size": -_LIMIT}, headers={"Accept": "*/*"}, timeout=10)
        except requests.RequestException:
            return ""
        found = _CONTENTS.search(answer.text) if answer.ok else None
        return found[1] if found else ""
