"""Whether a DAG is paused.

A task in its own process asks through Airflow's channel. That of a trigger has no such question (3.3.2), so a trigger
asks the REST interface as the user whom the connection ``dkeras_airflow`` names; one who may only look is enough.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from dkeras_core.airflow.rest import Rest
from dkeras_core.errors import ClusterError, ConfigError

KILL, LEAVE = "kill", "leave"
"""What pausing a DAG does to the applications of its tasks."""
CONNECTION = "dkeras_airflow"
"""Airflow connection: host, port, login, password; without a host the setting ``[api] base_url``."""
EVERY = 3.0  # seconds between two questions of a trigger
_TIMEOUT = 5.0
_SCHEMES = ("http", "https")


def check(on_pause: str) -> None:
    """Raise ConfigError unless ``on_pause`` is one of the two words."""
    if on_pause not in (KILL, LEAVE):
        raise ConfigError(f"on_pause is {on_pause!r}", f"say {KILL!r} or {LEAVE!r}")


class Pause:
    """Asks about one DAG, now and then; what cannot be known counts as not paused.

    Parameters
    ----------
    dag : str
        Its id.
    say : callable
        Receives one line when pausing cannot be noticed, and why.
    """

    def __init__(self, dag: str, say: Callable[[str], None]):
        self._dag, self._say = dag, say
        self._rest: Rest | None = None
        self._next, self._seen, self._told = 0.0, False, False

    async def seen(self) -> bool:
        """Return whether the DAG was paused when it was asked about, at most three seconds ago."""
        if time.monotonic() >= self._next:
            try:
                self._rest = self._rest or await _connected()
                self._seen = (await asyncio.to_thread(self._rest.dag, self._dag))["is_paused"]
            except Exception as error:  # an application is not ended on a doubt
                self._seen = False
                self._tell(error)
            self._next = time.monotonic() + EVERY
        return self._seen

    def _tell(self, error: Exception) -> None:
        if not self._told:
            self._told = True
            self._say(f"pausing {self._dag} does not end this application at present (docs/airflow.md): {error}")


def login_of(connection: Any) -> tuple[str, str, str]:
    """Return address, user and password for Airflow's REST interface from an Airflow connection.

    Raises
    ------
    ClusterError
        It has no login and password.
    """
    from airflow.configuration import conf

    if not (connection.login and connection.password):
        raise ClusterError(
            f"the connection {CONNECTION} has no login or no password", "enter those of a user who may see DAGs"
        )
    address = connection.host or conf.get("api", "base_url", fallback="")
    if "://" not in address:
        scheme = next((one for one in (connection.schema, connection.conn_type) if one in _SCHEMES), "http")
        address = f"{scheme}://{address}" + (f":{connection.port}" if connection.port else "")
    return address, connection.login, connection.password


async def _connected() -> Rest:
    from airflow.sdk import Connection

    return Rest(*login_of(await Connection.async_get(CONNECTION)), timeout=_TIMEOUT)
