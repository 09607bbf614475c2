"""The report of a run: gathers what its steps wrote and renders one offline HTML file."""

from __future__ import annotations

import json
from typing import Any

from dkeras_core.errors import PathMissing
from dkeras_core.jobs.context import Context
from dkeras_core.jobs.progress import now


def render(context: Context, version: int | None = None) -> bytes:
    """Return report.html for the run as far as it has come; ``version`` once it is published."""
    from dkeras_core.evaluation import report

    pipeline = context.pipeline
    train = _read(context, "train")
    page = report.render(
        {
            "pipeline": pipeline.to_dict(),
            "run": {"run": context.run_id, "phases": context.progress.phases},
            "dataset": _read(context, "preprocess"),
            "train": train,
            "metrics": _read(context, "metrics"),
            "environment": {"key": context.environment_key, "versions": (train or {}).get("versions", {})},
            "application": context.application,
            "run_id": context.run_id,
            "version": version,
            "synthetic": pipeline.input.synthetic,
            "created": now(),
        }
    )
    return page.encode()


def write(context: Context, version: int | None = None) -> str:
    """Write report.html into the run's folder; return its path."""
    path = f"{context.folder}/report.html"
    context.storage.write_atomic(path, render(context, version))
    return path


def _read(context: Context, name: str) -> dict[str, Any] | None:
    try:
        return json.loads(context.storage.read_bytes(f"{context.folder}/{name}.json"))
    except PathMissing:
        return None
