"""The files of an Airflow on this machine, and the environment that its components share.

::

    state.json          port, secrets, numbers of the processes
    passwords.json      of the users
    config/             what every component imports before anything else
    logs/, tmp/, airflow.db
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dkeras_core.singlenode import ports

CHECKOUT = Path(__file__).resolve().parents[2]
USER = "admin"
LOOKER = "dkeras"
"""The user as whom the triggerer asks whether a DAG is paused; it may only look."""

# Tasks and parsers of DAG files are forks of components that live long: what those have imported is there already, and
# a task begins 0.7 s of processor time earlier. Nothing of Airflow's is in it, which is still being imported then.
_PRELOADED = """\
import requests

import dkeras_core.config
import dkeras_core.registry.catalog
import dkeras_core.training.settings
"""


class AirflowHome:
    """The folder ``path``; nothing is there before :meth:`renew` and :meth:`furnish`."""

    def __init__(self, path: Path):
        self.path = path
        self.logs, self.temporary = path / "logs", path / "tmp"

    def state(self) -> dict[str, Any]:
        """Return {"port", "components", "begun", …}, empty before the first start."""
        return _content(self.path / "state.json")

    def write_state(self, state: dict[str, Any]) -> None:
        _write(self.path / "state.json", state)

    def passwords(self) -> dict[str, str]:
        """Return user -> password."""
        return _content(self.path / "passwords.json")

    def renew(self, port: int) -> None:
        """Take a port, and secrets where there are none yet."""
        made = {
            "secret": secrets.token_hex(32),
            "jwt": secrets.token_hex(64),
            "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "components": {},
        }
        self.write_state(made | self.state() | {"port": port})

    def furnish(self) -> None:
        """Write what the components read; a password that is there stays."""
        made = {USER: secrets.token_urlsafe(12), LOOKER: secrets.token_urlsafe(12)}
        _write(self.path / "passwords.json", made | self.passwords())
        (self.path / "config").mkdir(exist_ok=True)
        (self.path / "config/airflow_local_settings.py").write_text(_PRELOADED)

    def environment(self, dags: Path, python: Path) -> dict[str, str]:
        """Return the environment of a component, its temporary folder being made."""
        state = self.state()
        address = f"http://{ports.HOST}:{state['port']}"
        settings = dict(_settings(CHECKOUT / "deploy/airflow/settings.env"))
        settings |= {
            "AIRFLOW_HOME": str(self.path),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(CHECKOUT / "deploy/airflow/plugins"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,{LOOKER}:viewer",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.path / "passwords.json"),
            "AIRFLOW_CONN_DKERAS_AIRFLOW": address.replace("//", f"//{LOOKER}:{self.passwords()[LOOKER]}@"),
            "AIRFLOW__API__BASE_URL": address,
            "AIRFLOW__API__HOST": ports.HOST,
            "AIRFLOW__API__PORT": str(state["port"]),
            "AIRFLOW__API__SECRET_KEY": state["secret"],
            "AIRFLOW__API_AUTH__JWT_SECRET": state["jwt"],
            "AIRFLOW__CORE__FERNET_KEY": state["fernet"],
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.path}/airflow.db",
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.logs),
        }
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        path = f"{python.parent}{os.pathsep}{inherited.get('PATH', os.defpath)}"
        # Airflow leaves temporary folders behind; here they go with it.
        self.temporary.mkdir(exist_ok=True)
        own = {"PATH": path, "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temporary)}
        return inherited | own | settings


def _settings(path: Path) -> Iterator[tuple[str, str]]:
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def _content(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}


def _write(path: Path, value: dict) -> None:
    """Replace a file that holds secrets."""
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file)
    temporary.replace(path)
