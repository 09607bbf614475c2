"""Checks of everything a submission needs, each with its cause and next step; `dkeras doctor` and the preflight."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from dkeras_core.config import Pipeline, Resources
from dkeras_core.errors import ClusterError, DkerasError, StorageError
from dkeras_core.storage.base import Storage
from dkeras_core.yarn import ticket
from dkeras_core.yarn.answers import Scheduler
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.sizing import Containers, containers
from dkeras_core.yarn.submission import spark_home

_ROOM = 2 * 2**30  # bytes on the local disk: the archive, Spark's zip, logs
_ACCEPTS = ("RUNNING", "")


@dataclass(frozen=True)
class Check:
    """One finding: ``state`` is ok, warn or fail; a failure holds the error that a submission ends with."""

    name: str
    state: str
    what: str
    next_step: str | None = None
    error: DkerasError | None = None


@dataclass(frozen=True)
class Work:
    """What shall run: where its input is, what it asks of YARN, and the containers that this comes to."""

    input_path: str
    resources: Resources
    containers: Containers

    @classmethod
    def of(cls, pipeline: Pipeline) -> Work:
        return cls(pipeline.input_path, pipeline.resources, containers(pipeline))


@dataclass(frozen=True)
class Surroundings:
    """What the checks look at; ``build`` is the local folder that archives and logs are written to."""

    config: HadoopConfig
    storage: Storage
    rm: ResourceManager
    build: Path
    work: Work | None = None
    root: str = "/dkeras"


def examine(around: Surroundings) -> list[Check]:
    """Run all checks, side by side, and return them in a fixed order; none raises."""
    checks: dict[str, Callable[[Surroundings], Check]] = {
        "Java": _java,
        "spark-submit": _spark,
        "Hadoop configuration": _config,
        "Kerberos": _ticket,
        "local disk": _disk,
        "HDFS": _hdfs,
        "input": _input,
        "ResourceManager": _resource_manager,
        "NodeManagers": _nodes,
        "queue": _queue,
        "memory": _memory,
    }
    with ThreadPoolExecutor(len(checks)) as pool:
        running = {name: pool.submit(_guarded, name, check, around) for name, check in checks.items()}
        done = [future.result() for future in running.values()]
    told: set[str] = set()
    found = []
    for check in done:
        # One cause is told once: with the ResourceManager down, its queues and nodes have nothing to add.
        if check is not None and (check.state != "fail" or check.what not in told):
            found.append(check)
            told.add(check.what)
    return found


def first_failure(checks: list[Check]) -> DkerasError | None:
    """Return the error of the first check that failed."""
    return next((check.error for check in checks if check.state == "fail"), None)


def _guarded(name: str, check: Callable[[Surroundings], Check | None], around: Surroundings) -> Check | None:
    try:
        return check(around)
    except DkerasError as error:
        return Check(name, "fail", error.what, error.next_step, error)


def _java(_: Surroundings) -> Check:
    from dkeras_core.singlenode.java import find_java

    java = find_java()
    return Check("Java", "ok", f"{java.version} in {java.home}")


def _spark(_: Surroundings) -> Check:
    return Check("spark-submit", "ok", str(spark_home() / "bin" / "spark-submit"))


def _config(around: Surroundings) -> Check:
    config = around.config
    return Check("Hadoop configuration", "ok", f"{config.default_fs}, {', '.join(config.resourcemanager_urls)}")


def _ticket(around: Surroundings) -> Check | None:
    if not around.config.secured:
        return None
    if not ticket.installed():
        return Check("Kerberos", "warn", "klist is not installed, so the ticket cannot be checked", "install krb5-user")
    found = ticket.current()
    if found is None or found.lasts <= timedelta(0):
        raise ClusterError("the cluster asks for Kerberos and there is no valid ticket", "run `kinit`")
    return Check("Kerberos", "ok", f"the ticket of {found.principal} ends {found.ends:%Y-%m-%d %H:%M:%S} UTC")


def _disk(around: Surroundings) -> Check:
    folder = next(path for path in (around.build, *around.build.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    state = "ok" if free > _ROOM else "warn"
    next_step = None if state == "ok" else "free some space: archives and logs are written there"
    return Check("local disk", state, f"{free / 2**30:.1f} GB free in {folder}", next_step)


def _hdfs(around: Surroundings) -> Check:
    """Write and delete a file: this goes through the NameNode and a DataNode, so it meets safe mode and quotas too."""
    probe = f"{around.root}/.probe-{secrets.token_hex(4)}"
    there = around.storage.exists(around.root)
    try:
        around.storage.write_bytes(probe, b"written by dkeras doctor\n")
    finally:
        around.storage.delete(probe)
        if not there:
            with contextlib.suppress(StorageError):  # somebody else is at work there by now
                around.storage.delete(around.root)
    return Check("HDFS", "ok", f"{around.root} in {around.config.default_fs} can be written")


def _input(around: Surroundings) -> Check | None:
    if around.work is None:
        return None
    path = around.work.input_path
    status = around.storage.status(path)
    if status is None:
        # A submission may bring the file along, so this is not a failure here.
        return Check("input", "warn", f"{path} does not exist", "give the local file with `dkeras submit --data FILE`")
    return Check("input", "ok", f"{path}, {status.size / 1e6:.1f} MB" if not status.is_dir else path)


def _resource_manager(around: Surroundings) -> Check:
    info = around.rm.info()
    return Check("ResourceManager", "ok", f"Hadoop {info.version}, {info.ha_state.lower() or info.state.lower()}")


def _nodes(around: Surroundings) -> Check:
    metrics = around.rm.metrics()
    said = f"{metrics.active_nodes} active, {metrics.available_memory} of {metrics.total_memory} MB free"
    if metrics.active_nodes == 0:
        unhealthy = f", {metrics.unhealthy_nodes} unhealthy" if metrics.unhealthy_nodes else ""
        raise ClusterError(f"no NodeManager is active{unhealthy}", "start one, or look at its log and its disks")
    return Check("NodeManagers", "ok", said)


def _queue(around: Surroundings) -> Check:
    scheduler = around.rm.scheduler()
    name = around.work.resources.queue if around.work else "default"
    queue = scheduler.queue(name)
    leaves = ", ".join(queue.name for queue in scheduler.queues if queue.leaf)
    if queue is None and scheduler.kind != "fairScheduler":  # the fair scheduler may make a queue when it is used
        raise ClusterError(f"queue {name} does not exist", f"choose one of {leaves} with --queue")
    if queue is not None and not queue.leaf:
        raise ClusterError(f"queue {name} has queues below it and takes no applications", f"choose one of {leaves}")
    if queue is not None and queue.state not in _ACCEPTS:
        raise ClusterError(
            f"queue {name} is {queue.state.lower()}", "choose another with --queue, or have an administrator start it"
        )
    return Check("queue", "ok", f"{name} accepts applications")


def _memory(around: Surroundings) -> Check | None:
    if around.work is None:
        return None
    work, asked = around.work, around.work.containers
    scheduler = around.rm.scheduler()
    nodes = around.rm.nodes()
    largest = _largest(scheduler, work.resources.queue, [node.total_memory for node in nodes], "memory")
    cores = _largest(scheduler, work.resources.queue, [node.total_cores for node in nodes], "cores")
    for problem in _too_large(work, largest, cores):
        raise problem
    total = around.rm.metrics().total_memory
    said = (
        f"{asked.driver} + {asked.executors} x {asked.executor} of {total} MB; the largest container has {largest} MB"
    )
    if asked.total > total:
        # Training needs all its workers at once, so it would wait for ever.
        raise ClusterError(
            f"{asked.total} MB are asked for (driver {asked.driver}, {asked.executors} executors of {asked.executor}) "
            f"and the cluster has {total} MB",
            "lower resources.executors or resources.memory in the pipeline file",
        )
    free = around.rm.metrics().available_memory
    if asked.total > free:
        return Check("memory", "warn", f"{said}, {free} MB are free now", "it waits until other applications end")
    return Check("memory", "ok", said)


def _largest(scheduler: Scheduler, queue_name: str, nodes: list[int], kind: str) -> int | None:
    queue = scheduler.queue(queue_name)
    bounds = [getattr(scheduler, f"maximum_{kind}"), getattr(queue, f"maximum_{kind}") if queue else None]
    bounds.append(max(nodes, default=None))
    return min((bound for bound in bounds if bound is not None), default=None)


def _too_large(work: Work, largest: int | None, cores: int | None) -> Iterator[DkerasError]:
    asked, resources = work.containers, work.resources
    for role, size, heap, key in (
        ("an executor", asked.executor, resources.memory, "resources.memory"),
        ("the driver", asked.driver, resources.driver_memory, "resources.driver_memory"),
    ):
        if largest is not None and size > largest:
            yield ClusterError(
                f"{role} needs {size} MB ({key} {heap} and the overhead) and the largest container this cluster gives "
                f"has {largest} MB",
                f"lower {key} or its overhead, or raise yarn.scheduler.maximum-allocation-mb",
            )
    for role, count, key in (
        ("an executor", asked.executor_cores, "resources.cores"),
        ("the driver", asked.driver_cores, "resources.driver_cores"),
    ):
        if cores is not None and count > cores:
            yield ClusterError(f"{role} needs {count} cores and a container may have {cores}", f"lower {key}")
