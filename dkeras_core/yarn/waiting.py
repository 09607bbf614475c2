"""Why an application that was accepted does not run yet, in words, from what the ResourceManager says about it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from dkeras_core.errors import ClusterError
from dkeras_core.yarn.answers import Application
from dkeras_core.yarn.resource_manager import ResourceManager

_PATIENCE = 5.0  # an idle cluster starts an application within this many seconds
_EXECUTOR_PATIENCE = 20.0
_LAUNCHED = "AM container is launched"
_TIME = re.compile(r"^\s*\[[^\]]*\]\s*")
_REASONS = (
    (
        "Queue's AM resource limit exceeded",
        "the share of queue {queue} for application masters is used up; it starts when another application ends "
        "(the limit is yarn.scheduler.capacity.maximum-am-resource-percent)",
    ),
    (
        "User's AM resource limit exceeded",
        "your share of queue {queue} for application masters is used up; it waits for another of yours to end",
    ),
    ("cluster resources are empty", "no NodeManager is active"),
    ("Queue's resource limit", "queue {queue} is full"),
    ("queue's max-capacity", "queue {queue} is full"),
    ("User capacity has reached", "your share of queue {queue} is used up"),
    ("Last Node which was processed", "no node has a free container for it yet"),
)


def why_waiting(app: Application, progress: dict | None, rm: ResourceManager) -> Iterator[str]:
    """Yield one line when the application waits for YARN: in ACCEPTED, or running without executors."""
    age = time.time() - app.started if app.started else 0.0
    if _LAUNCHED in app.diagnostics and app.state == "ACCEPTED":
        if age > 2 * _PATIENCE:
            starting = f"the driver's container has been starting for {age:.0f} s"
            yield f"{starting} (the first time on a node it unpacks the environment)"
    elif app.state in ("NEW", "NEW_SAVING", "SUBMITTED", "ACCEPTED") and age > _PATIENCE:
        yield f"waiting for {age:.0f} s: {_reason(app)}{_room(rm)}"
    elif app.state == "RUNNING" and app.containers <= 1 and age > _EXECUTOR_PATIENCE and _before_work(progress):
        yield f"no executor has been given yet{_room(rm)}"


def _reason(app: Application) -> str:
    for words, reason in _REASONS:
        if words in app.diagnostics:
            return reason.format(queue=app.queue)
    said = _TIME.sub("", " ".join(app.diagnostics.split()))
    return said[:200] or "no reason is given"


def _room(rm: ResourceManager) -> str:
    try:
        metrics = rm.metrics()
    except ClusterError:
        return ""
    return (
        f" ({metrics.available_memory} of {metrics.total_memory} MB are free, {metrics.apps_running} applications run)"
    )


def _before_work(progress: dict | None) -> bool:
    return progress is None or progress.get("phase") == "starting"
