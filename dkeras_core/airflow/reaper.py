"""Ends applications whose task is over: the net below, for a kill that nobody was there to carry out.

A trigger ends its application when a person acts on the task, unless the triggerer is down at that moment. What lives
on then carries the tag of its task, and the run's folder says whose it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from dkeras_core.airflow.tags import TASK
from dkeras_core.cli import place
from dkeras_core.errors import DkerasError, PathMissing
from dkeras_core.paths import Layout
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.submission import run_tag

OVER = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
Say = Callable[[str], None]
State = Callable[[dict], str | None]
"""Whose work ({"airflow", "dag", "run", "task", "index"}) -> the task's state, "removed" when there is none such."""


def reap(root: str, *, state: State | None = None, airflow: str | None = None, say: Say = print) -> list[str]:
    """Kill the live applications below ``root`` whose task of this Airflow is over; return their ids.

    Parameters
    ----------
    root : str
        The bundle's root folder.
    state : callable, optional
        By default Airflow is asked through the channel of the running task.
    airflow : str, optional
        Which Airflow's tasks these are; by default its address. Another one's are left alone.
    say : callable
        Receives a line for each application that is ended, or cannot be.

    Raises
    ------
    ClusterError
        No ResourceManager answers.
    """
    found = place.find(root)
    state, airflow = state or _state, airflow or this_airflow()
    ended = []
    # The list comes before the states: an application that a new try submits meanwhile is not in it.
    for app in found.rm.apps(tags=["dkeras"], states=LIVE_STATES):
        owner = _owner(found, root, app)
        if owner is None or owner.get("airflow") != airflow:
            continue
        try:
            if (told := state(owner)) in OVER:
                say(f"{app.id} is ended: task {owner['task']} of {owner['dag']}, {owner['run']}, is {told}")
                found.rm.kill(app.id)
                ended.append(app.id)
        except DkerasError as error:
            say(f"{app.id} may still run: {error}")
    return ended


def this_airflow() -> str:
    """Return what tells this Airflow from another one on the same cluster: its address."""
    from airflow.configuration import conf

    return conf.get("api", "base_url", fallback="") or "airflow"


def _owner(found: place.Place, root: str, app: Application) -> dict | None:
    tags = [tag for tag in app.tags if tag.startswith(TASK)]
    prefix = run_tag("")
    runs = [tag.removeprefix(prefix) for tag in app.tags if tag.startswith(prefix)]
    if not tags or not runs:
        return None
    try:
        return json.loads(found.storage.read_bytes(f"{Layout(root).run(runs[0])}/tasks/{tags[0]}.json"))
    except (PathMissing, ValueError):
        return None


def _state(owner: dict) -> str | None:
    """Ask Airflow; works in a task."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    index = owner["index"]
    found = RuntimeTaskInstance.get_task_states(
        dag_id=owner["dag"], task_ids=[owner["task"]], run_ids=[owner["run"]], map_index=index if index >= 0 else None
    )
    states = list((found.get(owner["run"]) or {}).values())
    return states[0] if states else "removed"
