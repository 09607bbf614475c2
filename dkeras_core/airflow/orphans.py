"""Ends applications whose task was ended while no triggerer was up: for a minute from the start of one.

Run by the plugin as a process of its own; the login for Airflow's REST interface comes by standard input. It needs no
folder in HDFS: a task's tag follows from its name, and so Airflow's tasks lead to the applications.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from dkeras_core.airflow.reaper import OVER
from dkeras_core.airflow.rest import Rest
from dkeras_core.airflow.tags import TASK, task_tag
from dkeras_core.errors import DkerasError
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.resource_manager import ResourceManager

_ROUNDS = (1.0, 4.0, 8.0, 15.0, 30.0)  # seconds since the start; what was clicked while the triggerer was starting, too


def orphans(rm: ResourceManager, rest: Rest) -> Iterator[tuple[Application, dict]]:
    """Yield the live applications of tasks that this Airflow knows to be over, each with the task's instance.

    Raises
    ------
    ClusterError
        Airflow or YARN does not answer.
    """
    apps = rm.apps(tags=["dkeras"], states=LIVE_STATES)
    live = {tag: app for app in apps for tag in app.tags if tag.startswith(TASK)}
    if not live:
        return
    since = datetime.fromtimestamp(min(app.started for app in live.values()), UTC)
    for task in rest.changed(OVER, since):
        tag = task_tag(task["dag_id"], task["dag_run_id"], task["task_id"], task["map_index"])
        if tag in live:
            yield live[tag], task


def end(rm: ResourceManager, rest: Rest, say: Callable[[str], None]) -> None:
    """Kill them."""
    for app, task in orphans(rm, rest):
        name = f"{task['task_id']} of {task['dag_id']}, {task['dag_run_id']}"
        say(f"{app.id} is ended: task {name}, is {task['state']}, and no triggerer was there")
        rm.kill(app.id)


def main() -> None:
    from dkeras_core.cli import place

    address, user, password = json.load(sys.stdin)
    rest, begun = Rest(address, user, password, timeout=10.0), time.monotonic()
    for moment in _ROUNDS:
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        try:
            end(place.find("/").rm, rest, lambda line: print(line, flush=True))
        except DkerasError as error:
            print(f"applications of ended tasks are looked for again soon: {error.what}", flush=True)


if __name__ == "__main__":
    main()
