"""Ends applications whose task was ended when nobody was there to kill them; runs beside each triggerer.

Airflow tells a trigger that its task was acted on, unless no triggerer was up at that moment, or the trigger had not
begun yet. So the plugin starts this process with the triggerer, and it looks every few seconds as long as that lives.
The login for Airflow's REST interface comes by standard input. No folder in HDFS is needed: a task's tag follows from
its name, and so Airflow's tasks lead to the applications.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from dkeras_core.airflow.reaper import OVER
from dkeras_core.airflow.rest import Rest
from dkeras_core.airflow.tags import TASK, task_tag
from dkeras_core.errors import DkerasError
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.resource_manager import ResourceManager

EVERY = 4.0
_OVERLAP = 600.0  # seconds that two questions to Airflow have in common: clocks differ, and submissions take their time


class Orphans:
    """Looks again and again; an application is killed when two looks running have found its task over.

    The second look spares one whose task has just succeeded, and which is about to end.
    """

    def __init__(self, rm: ResourceManager, rest: Rest, say: Callable[[str], None]):
        self._rm, self._rest, self._say = rm, rest, say
        self._asked = 0.0
        self._over: dict[str, str] = {}  # application -> its task, for a person

    def look(self) -> None:
        """Kill what was found before and is there again.

        Raises
        ------
        ClusterError
            Airflow or YARN does not answer, or does not carry out a kill.
        """
        before, self._over = self._over, self._find(time.time())
        for app in self._over.keys() & before.keys():
            self._say(f"{app} is ended: {self._over[app]}, and no trigger has done it")
            self._rm.kill(app)

    def _find(self, now: float) -> dict[str, str]:
        apps = self._rm.apps(tags=["dkeras"], states=LIVE_STATES)
        live = {tag: app for app in apps for tag in app.tags if tag.startswith(TASK)}
        if not live:
            return {}
        # Of those found before the task may have changed long ago; the others have begun, or have ended, since.
        known = any(app.id in self._over for app in live.values())
        first = min(app.started for app in live.values())
        since = first if known else max(first, self._asked - _OVERLAP)
        found = {}
        for task in self._rest.changed(OVER, datetime.fromtimestamp(since, UTC)):
            tag = task_tag(task["dag_id"], task["dag_run_id"], task["task_id"], task["map_index"])
            if tag in live:
                name = f"task {task['task_id']} of {task['dag_id']}, {task['dag_run_id']}"
                found[live[tag].id] = f"{name}, is {task['state']}"
        self._asked = now
        return found


def main() -> None:
    """Look until the triggerer, the parent of this process, is gone."""
    from dkeras_core.cli import place

    parent, address, user, password = json.load(sys.stdin)
    rest, orphans, told = Rest(address, user, password, timeout=10.0), None, False
    while os.getppid() == parent:
        try:
            orphans = orphans or Orphans(place.find("/").rm, rest, lambda line: print(line, flush=True))
            orphans.look()
            told = False
        except DkerasError as error:
            if not told:
                print(f"applications of ended tasks are looked for again soon: {error.what}", flush=True)
            told = True
        time.sleep(EVERY)


if __name__ == "__main__":
    main()
