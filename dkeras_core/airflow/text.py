"""What a message about a run says, and what a task says of itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def in_words(what: str, dag: str, context: Mapping[str, Any], address: str = "") -> tuple[str, str]:
    """Return subject and text of a message.

    Parameters
    ----------
    what : "failed", "is late" or the like.
    dag : id of the DAG.
    context : what Airflow gives a callback; a deadline's holds little, and none of it is certain.
    address : of the pages.
    """
    run = _get(context.get("dag_run"), "run_id") or _get(context.get("dag_run"), "dag_run_id") or context.get("run_id")
    subject = f"dkeras: {dag} {what}"
    lines = [f"{dag} {what}{f', run {run}' if run else ''}."]
    task = _get(context.get("task_instance") or context.get("ti"), "task_id")
    if task:
        lines.append(f"Task: {task}")
    if context.get("reason"):
        lines.append(f"Reason: {context['reason']}")
    if context.get("exception"):
        lines.append(f"Error: {context['exception']}")
    if address:
        lines.append(f"{address.rstrip('/')}/dags/{dag}" + (f"/runs/{run}" if run else ""))
    lines.append("What to do stands in the DAG's documentation there.")
    return subject, "\n".join(lines)


def state_of(context: Mapping[str, Any]) -> str | None:
    """Return the state of the run that a callback is about, None where it is not told."""
    state = _get(context.get("dag_run"), "state")
    return str(getattr(state, "value", state)) if state else None


def of_task(doc: str, task: str) -> str | None:
    """Return the items of a DAG's list (Markdown) that name a task in bold before their first colon."""
    items = re.findall(r"^- .*(?:\n +\S.*)*", doc, re.MULTILINE)
    found = [item for item in items if task in re.findall(r"\*\*(\w+)\*\*", item.partition(":")[0])]
    return "\n".join(found) or None


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
