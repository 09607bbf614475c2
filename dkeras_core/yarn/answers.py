"""The ResourceManager's answers as typed values, parsed from its JSON; memory is in MiB, times are Unix seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

LIVE_STATES = ("NEW", "NEW_SAVING", "SUBMITTED", "ACCEPTED", "RUNNING")
FINAL_STATES = ("FINISHED", "FAILED", "KILLED")


@dataclass(frozen=True)
class ClusterInfo:
    state: str
    ha_state: str
    version: str
    started: float


@dataclass(frozen=True)
class Metrics:
    active_nodes: int
    unhealthy_nodes: int
    lost_nodes: int
    total_memory: int
    available_memory: int
    total_cores: int
    available_cores: int
    apps_pending: int
    apps_running: int


@dataclass(frozen=True)
class Queue:
    """A leaf or parent queue; the maxima bound one container (MiB, cores), None when the queue sets none."""

    name: str
    path: str
    state: str
    leaf: bool
    maximum_memory: int | None = None
    maximum_cores: int | None = None


@dataclass(frozen=True)
class Scheduler:
    kind: str
    queues: tuple[Queue, ...]
    maximum_memory: int | None
    maximum_cores: int | None

    def queue(self, name: str) -> Queue | None:
        """Return the queue named by its full path (``root.a.b``) or by its last part, None when there is none."""
        short = name.removeprefix("root.")
        found = [q for q in self.queues if short == q.path.removeprefix("root.")]
        found = found or [q for q in self.queues if short == q.name]
        return found[0] if found else None


@dataclass(frozen=True)
class Node:
    id: str
    state: str
    total_memory: int
    total_cores: int
    health: str


@dataclass(frozen=True)
class Application:
    id: str
    name: str
    user: str
    queue: str
    state: str
    final_status: str
    diagnostics: str
    tracking_url: str
    tags: tuple[str, ...]
    started: float
    finished: float
    am_host: str
    """``host:port`` of the NodeManager web server of the application master, empty before it is allocated."""
    am_container: str
    containers: int
    """Running containers, the application master's among them."""

    @property
    def ended(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True)
class Attempt:
    id: str
    container: str
    node_web: str
    logs: str
    diagnostics: str


def application(raw: dict) -> Application:
    logs = raw.get("amContainerLogs") or ""
    container = re.search(r"container_\w+", logs)
    return Application(
        id=raw["id"],
        name=raw.get("name", ""),
        user=raw.get("user", ""),
        queue=raw.get("queue", ""),
        state=raw.get("state", ""),
        final_status=raw.get("finalStatus", ""),
        diagnostics=raw.get("diagnostics") or "",
        tracking_url=raw.get("trackingUrl") or "",
        tags=tuple(tag for tag in (raw.get("applicationTags") or "").split(",") if tag),
        started=raw.get("startedTime", 0) / 1e3,
        finished=raw.get("finishedTime", 0) / 1e3,
        am_host=raw.get("amHostHttpAddress") or "",
        am_container=container[0] if container else "",
        containers=max(0, raw.get("runningContainers") or 0),
    )


def scheduler(info: dict) -> Scheduler:
    kind = info.get("type", "")
    queues: list[Queue] = []
    if kind == "fairScheduler":
        _fair(info.get("rootQueue") or {}, queues)
    elif kind == "fifoScheduler":
        queues.append(Queue("default", "root.default", info.get("qstate", "RUNNING"), True))
    else:
        _capacity(info, info.get("queuePath") or info.get("queueName") or "root", queues)
    memory, cores = _resource(
        info.get("maximumAllocation") or (info.get("rootQueue") or {}).get("maxContainerAllocation")
    )
    return Scheduler(kind, tuple(queues), memory, cores)


def _capacity(raw: dict, path: str, queues: list[Queue]) -> None:
    children = _children(raw.get("queues"), "queue")
    memory, cores = _resource(raw.get("maximumAllocation"))
    queues.append(
        Queue(path.rpartition(".")[2], path, raw.get("state") or "RUNNING", not children, memory, cores),
    )
    for child in children:
        _capacity(child, child.get("queuePath") or f"{path}.{child.get('queueName')}", queues)


def _fair(raw: dict, queues: list[Queue]) -> None:
    children = _children(raw.get("childQueues"), "queue")
    memory, cores = _resource(raw.get("maxContainerAllocation"))
    path = raw.get("queueName", "root")
    queues.append(Queue(path.rpartition(".")[2], path, "RUNNING", not children, memory, cores))
    for child in children:
        _fair(child, queues)


def _children(raw: Any, key: str) -> list[dict]:
    """Hadoop writes a list of children as a list, as an object around a list, or as one bare object."""
    inner = raw.get(key) if isinstance(raw, dict) and key in raw else raw
    return [inner] if isinstance(inner, dict) and inner else list(inner or [])


def _resource(raw: dict | None) -> tuple[int | None, int | None]:
    if not raw:
        return None, None
    return int(raw.get("memory") or 0) or None, int(raw.get("vCores") or 0) or None
