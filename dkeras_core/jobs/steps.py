"""Runs the steps of a pipeline one after the other in one Spark application, and accounts for what happened."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import traceback

from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, DkerasError, StorageError
from dkeras_core.jobs import report
from dkeras_core.jobs.context import STEPS, Context
from dkeras_core.jobs.progress import Progress
from dkeras_core.paths import Layout
from dkeras_core.storage import open_storage
from dkeras_core.training.causes import cause


def run_steps(
    spark, *, root: str, run_id: str, steps: list[str], archive: str | None = None, tag: str | None = None
) -> int:
    """Run ``steps`` of the run ``run_id`` in order; return the exit status (0 when all succeeded).

    ``tag`` names the work; it is kept in ``result.json``, so that who asked for it knows it again.

    Every step is a module of this package with a function ``run(context) -> dict``; what it returns is written to
    the run's folder by the step itself and kept in ``context.results``.
    """
    storage = open_storage(root, spark=spark)
    folder = Layout(root).run(run_id)
    progress = Progress(storage, folder, run_id, spark.sparkContext.applicationId).start()
    results: dict[str, dict] = {}
    error: BaseException | None = None
    try:
        for step in steps:
            if step not in STEPS:
                raise ConfigError(f"unknown step {step!r}; steps are {', '.join(STEPS)}")
        pipeline = Pipeline.parse(
            storage.read_bytes(f"{folder}/pipeline.yaml").decode(), source=f"{folder}/pipeline.yaml"
        )
        if "train" in steps or "publish" in steps:
            # Keras takes seconds to import: let it happen while Spark works on the data
            threading.Thread(target=importlib.import_module, args=("keras",), name="import-keras", daemon=True).start()
        context = Context(spark, storage, pipeline, run_id, progress, results, archive)
        for step in [name for name in STEPS if name in steps]:
            module = importlib.import_module(f"dkeras_core.jobs.{step}")
            with progress.phase(step) as outcome:
                results[step] = module.run(context, outcome)
        if "evaluate" in results or "publish" in results:
            # once more, with the time of every phase and the version's number
            report.write(context, version=results.get("publish", {}).get("version"))
    except BaseException as caught:
        error = cause(caught)
        if error is caught and isinstance(error, DkerasError):
            print(f"dkeras: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        else:
            traceback.print_exc()
            print(f"dkeras: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    published = results.get("publish", {})
    metrics = {k: v for k, v in results.get("evaluate", {}).get("challenger", {}).items() if k != "curves"}
    # Every container has its copies by now; Spark itself would leave the folders above its own.
    with contextlib.suppress(StorageError):
        storage.delete(Layout(root).staging(run_id), recursive=True)
    made = {"published": published.get("path"), "version": published.get("version"), "metrics": metrics}
    progress.close({**made, "steps": steps, "tag": tag}, error=error)
    return 0 if error is None else getattr(error, "exit_code", 1)
