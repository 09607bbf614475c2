"""Names that follow from the task alone, so that whoever works on it finds what others have begun for it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

TASK = "dkeras-task-"
"""Begins the tag of every application that a task has submitted."""
_RUN_NAME = 64  # of a run id, which is a name in HDFS
_STAMP = "%Y%m%dT%H%M%S"


def run_id(pipeline: str, dag: str, run: str, moment: datetime) -> str:
    """Return the run id of a DAG run, the same for all its tasks and tries: ``<pipeline>-<UTC>-<8 hex>``.

    ``moment`` is its logical date, or the time it was to run after where it has none.
    """
    stamp, digest = moment.strftime(_STAMP).lower(), _digest(dag, run)[:8]
    return f"{pipeline[: _RUN_NAME - len(stamp) - len(digest) - 2]}-{stamp}-{digest}"


def part_of(run: str, tail: str) -> str:
    """Return the id of a run that is part of the work of ``run``, such as a trial of a sweep."""
    name, stamp, digest = run.rsplit("-", 2)
    return f"{name[: _RUN_NAME - len(stamp) - len(digest) - len(tail) - 3]}-{stamp}-{digest}-{tail}"


def task_tag(dag: str, run: str, task: str, index: int = -1) -> str:
    """Return the YARN tag of a task instance's work; its tries share it."""
    return f"{TASK}{_digest(dag, run, task, index)[:24]}"


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
