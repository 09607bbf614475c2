"""Airflow plugin: beside each triggerer a process looks for what nobody was there to end (see orphans.py)."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

_LOG = logging.getLogger(__name__)


class Starting:
    """Told by every component of Airflow that it starts."""

    @hookimpl
    def on_starting(self, component) -> None:
        if sys.argv[1:2] == ["triggerer"]:  # the component itself does not know yet what it is
            look()


class DkerasPlugin(AirflowPlugin):
    name = "dkeras"
    listeners = [Starting()]  # noqa: RUF012


def look() -> None:
    """Start the process; a thread would not do, since the triggerer forks."""
    from airflow.models.connection import Connection

    from dkeras_core.airflow.pause import CONNECTION, login_of

    try:
        login = login_of(Connection.get_connection_from_secrets(CONNECTION))
    except Exception as error:
        _LOG.warning("applications of tasks that were ended without a trigger are not looked for: %s", error)
        return
    command = [sys.executable, "-m", "dkeras_core.airflow.orphans"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    with process.stdin as pipe:
        pipe.write(json.dumps([os.getpid(), *login]).encode())
