"""Steps that run alone go on with what an earlier run left: which run, and what is taken from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, PathMissing
from dkeras_core.paths import Layout
from dkeras_core.storage import Storage

if TYPE_CHECKING:
    from dkeras_core.cli.request import Request

NEEDS = {"train": "preprocess", "evaluate": "train", "publish": "metrics"}
"""Step -> name of the JSON file that the step before it leaves in the run's folder."""
MAKES = {"preprocess": "preprocess", "train": "train", "metrics": "evaluate"}
_STAMP = re.compile(r"\d{8}T\d{6}-[0-9a-f]{4}")


@dataclass(frozen=True)
class Carried:
    """Files to put into the run's folder before it starts: name -> content."""

    files: dict[str, bytes]


def resolve(storage: Storage, request: Request) -> tuple[Request, Carried]:
    """Return the request with the run it belongs to, and what it takes along from an earlier run.

    Without ``--run``, training starts a new run on the newest preprocessed data of the pipeline; evaluating and
    publishing go on with the newest run that was trained or evaluated.

    Raises
    ------
    ConfigError
        No run has what the step needs, or its data were made with other settings; says which step to run first.
    """
    if "train" in request.steps and storage.exists(f"{request.run_folder}/publish.json"):
        raise ConfigError(
            f"run {request.run_id} is published already, and its model stays what it is",
            "train in a new run: leave --run out",
        )
    needed = NEEDS.get(request.steps[0])
    if needed is None:
        return request, Carried({})
    source = request.run_id if request.named_run else _newest(storage, request, needed)
    folder = Layout(request.pipeline.root).run(source)
    try:
        before = Pipeline.parse(storage.read_bytes(f"{folder}/pipeline.yaml").decode(), f"{folder}/pipeline.yaml")
        found = storage.read_bytes(f"{folder}/{needed}.json")
        dataset = storage.read_bytes(f"{folder}/preprocess.json")
    except PathMissing as error:
        raise ConfigError(
            f"run {source} has nothing for the step {request.steps[0]}: {error.what}", _first(needed)
        ) from None
    _same_data(before, request, source)
    pipeline = request.pipeline
    if request.data is None:
        pipeline = pipeline.model_copy(update={"input": before.input})
    if needed == "preprocess" and not request.named_run:
        return replace(request, pipeline=pipeline), Carried({"preprocess.json": dataset})
    json.loads(found)  # a damaged file is said here, not minutes later
    return replace(request, pipeline=pipeline, run_id=source), Carried({})


def _newest(storage: Storage, request: Request, needed: str) -> str:
    layout = Layout(request.pipeline.root)
    prefix = f"{request.pipeline.name}-"
    try:
        names = [status.name for status in storage.list(layout.runs())]
    except PathMissing:
        names = []
    mine = [name for name in names if name.startswith(prefix) and _STAMP.fullmatch(name.removeprefix(prefix))]
    for name in sorted(mine, reverse=True):
        if storage.exists(f"{layout.run(name)}/{needed}.json"):
            return name
    raise ConfigError(
        f"no run of pipeline {request.pipeline.name} below {layout.runs()} has a {needed}.json, "
        f"which the step {request.steps[0]} needs",
        _first(needed),
    )


def _same_data(before: Pipeline, request: Request, source: str) -> None:
    now = request.pipeline
    changed = [key for key in ("schema_", "split", "features") if getattr(before, key) != getattr(now, key)]
    if changed:
        sections = ", ".join(key.rstrip("_") for key in changed)
        raise ConfigError(
            f"the data of run {source} were preprocessed with other settings ({sections})",
            "run the step preprocess with the present ones first",
        )


def _first(needed: str) -> str:
    return f"run `dkeras submit PIPELINE --step {MAKES[needed]}` first, or name the run that has it with --run"
