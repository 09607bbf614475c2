"""Airflow over REST (stable API v2), as an operator's scripts and the tests use it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

import requests

from dkeras_core.errors import ClusterError

FINAL = frozenset({"success", "failed"})
WAITING_FOR_A_PERSON = "awaiting_input"
_PAGE = 50  # Airflow gives no more at a time than the setting [api] maximum_page_limit, by default 100


class Rest:
    """One Airflow.

    Parameters
    ----------
    address : str
        "http://host:port".
    user, password : str
        Of a user who may do what is asked.
    timeout : float
        Seconds for one request.

    Every method raises ClusterError when Airflow cannot be reached or refuses.
    """

    def __init__(self, address: str, user: str, password: str, timeout: float = 30.0):
        self.address, self._timeout = address.rstrip("/"), timeout
        self._login = {"username": user, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False

    def health(self) -> dict[str, str]:
        """Return component -> "healthy" or what else it is."""
        found = self._ask("GET", "/monitor/health")
        return {name: (one or {}).get("status") or "unknown" for name, one in found.items()}

    def dags(self) -> dict[str, dict[str, Any]]:
        """Return all DAGs by id."""
        return {dag["dag_id"]: dag for dag in self._ask("GET", "/dags", params={"limit": 1000})["dags"]}

    def dag(self, dag: str) -> dict[str, Any]:
        return self._ask("GET", f"/dags/{dag}")

    def pools(self) -> dict[str, dict[str, Any]]:
        """Return pool -> its slots: "occupied_slots", "running_slots", "deferred_slots", …"""
        return {pool["name"]: pool for pool in self._ask("GET", "/pools")["pools"]}

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that could not be read, each with its stack trace."""
        return self._ask("GET", "/importErrors")["import_errors"]

    def unpause(self, dag: str, paused: bool = False) -> None:
        self._ask("PATCH", f"/dags/{dag}", json={"is_paused": paused})

    def trigger(
        self,
        dag: str,
        params: Mapping[str, Any] | None = None,
        *,
        run: str | None = None,
        logical: datetime | None = None,
    ) -> str:
        """Start a run, the DAG being unpaused for it; return the run's id."""
        self.unpause(dag)
        body = {"logical_date": logical.isoformat() if logical else None, "conf": dict(params or {})}
        if run:
            body["dag_run_id"] = run
        return self._ask("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"]

    def run(self, dag: str, run: str) -> dict[str, Any]:
        return self._ask("GET", f"/dags/{dag}/dagRuns/{run}")

    def tasks(self, dag: str, run: str) -> dict[str, dict[str, Any]]:
        """Return the task instances of a run; those of a mapped task as ``task[index]``."""
        found = self._ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances", params={"limit": 1000})["task_instances"]
        return {_name(task): task for task in found}

    def changed(self, states: Collection[str], since: datetime) -> Iterator[dict[str, Any]]:
        """Yield the task instances of all DAGs that are in one of ``states`` and have changed since."""
        asked = {"state": sorted(states), "updated_at_gte": since.isoformat(), "limit": _PAGE}
        for offset in itertools.count(0, _PAGE):
            path = "/dags/~/dagRuns/~/taskInstances"
            found = self._ask("GET", path, params={**asked, "offset": offset})["task_instances"]
            yield from found
            if len(found) < _PAGE:
                return

    def states(self, dag: str, run: str) -> dict[str, str | None]:
        """Return task -> state."""
        return {name: task["state"] for name, task in self.tasks(dag, run).items()}

    def wait(self, dag: str, run: str, *, seconds: float, states: Collection[str] = FINAL) -> str:
        """Wait until a run is in one of ``states``; return which."""
        deadline = time.monotonic() + seconds
        while (state := self.run(dag, run)["state"]) not in states:
            if time.monotonic() > deadline:
                raise ClusterError(f"run {run} of {dag} is {state} after {seconds:g} s: {self.states(dag, run)}")
            time.sleep(0.5)
        return state

    def wait_for_task(
        self, dag: str, run: str, task: str, states: Collection[str], *, seconds: float
    ) -> dict[str, Any]:
        """Wait until a task is in one of ``states``; return its instance."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.tasks(dag, run).get(task, {})
            if found.get("state") in states:
                return found
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{task} of {run} is {found.get('state')} after {seconds:g} s, not {', '.join(states)}"
                )
            time.sleep(0.3)

    def log(self, dag: str, run: str, task: str, attempt: int = 1, index: int = -1) -> str:
        """Return the log of one attempt as plain lines, exceptions included."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{attempt}"
        found = self._ask("GET", path, params={"map_index": index, "full_content": "true"})["content"]
        return "\n".join(_line(line) for line in found)

    def xcom(self, dag: str, run: str, task: str, key: str = "return_value", index: int = -1) -> Any:
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"
        return self._ask("GET", path, params={"map_index": index})["value"]

    def links(self, dag: str, run: str, task: str) -> dict[str, str]:
        """Return the extra links of a task, name -> address."""
        return self._ask("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/links")["extra_links"]

    def set_state(self, dag: str, run: str, task: str, state: str) -> None:
        """Mark a task, as the pages do: "failed" or "success"."""
        self._ask("PATCH", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}", json={"new_state": state})

    def clear(self, dag: str, run: str, tasks: Collection[str], *, downstream: bool = False) -> None:
        """Let tasks of a run, finished or not, begin again."""
        body = {
            "dag_run_id": run,
            "task_ids": list(tasks),
            "dry_run": False,
            "only_failed": False,
            "include_downstream": downstream,
        }
        self._ask("POST", f"/dags/{dag}/clearTaskInstances", json=body)

    def answer(self, dag: str, run: str, task: str, options: Collection[str], params: Mapping[str, Any] | None = None):
        """Answer a task that waits for a person, such as an approval: ``["Approve"]`` or ``["Reject"]``."""
        path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails"
        return self._ask("PATCH", path, json={"chosen_options": list(options), "params_input": dict(params or {})})

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self._send(method, f"/api/v2{path}", **arguments)
        if answer.status_code == 401 and self._log_in():
            answer = self._send(method, f"/api/v2{path}", **arguments)
        if not answer.ok:
            raise ClusterError(f"{method} {path} at {self.address}: {answer.status_code} {answer.text[:1000]}")
        return answer.json() if answer.content else None

    def _log_in(self) -> bool:
        answer = self._send("POST", "/auth/token", json=self._login)
        if not answer.ok:
            raise ClusterError(
                f"{self.address} refuses the user {self._login['username']}: {answer.status_code}",
                "check user and password",
            )
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return True

    def _send(self, method: str, path: str, **arguments: Any) -> requests.Response:
        try:
            return self._session.request(method, f"{self.address}{path}", timeout=self._timeout, **arguments)
        except requests.RequestException as error:
            raise ClusterError(f"Airflow at {self.address} does not answer: {error}", "see that it runs") from error


def _line(line: Any) -> str:
    if not isinstance(line, dict):
        return str(line)
    raised = [f"{one.get('exc_type')}: {one.get('exc_value')}" for one in line.get("error_detail") or ()]
    return "\n".join([line.get("event", ""), *raised])


def _name(task: Mapping[str, Any]) -> str:
    index = task.get("map_index", -1)
    return task["task_id"] if index < 0 else f"{task['task_id']}[{index}]"
