"""A scoring as a Spark application: what is asked stands in the run's folder, and so does what became of it.

``spark-submit ... main.py --root <root> --run <run id> --score``
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
import traceback

from dkeras_core.errors import ConfigError, DkerasError, PathMissing, StorageError
from dkeras_core.jobs.progress import Progress
from dkeras_core.paths import Layout
from dkeras_core.scoring import REQUEST
from dkeras_core.scoring.request import ScoreRequest
from dkeras_core.storage import open_storage
from dkeras_core.training.causes import cause


def run_score(spark, *, root: str, run_id: str) -> int:
    """Score what ``<root>/runs/<run id>/score.json`` asks for; return the exit status (0 when it succeeded).

    ``progress.json`` and ``result.json`` are those of every run (docs/operating.md).
    """
    # Keras takes seconds to import: let it happen while the version is fetched
    threading.Thread(target=importlib.import_module, args=("keras",), name="import-keras", daemon=True).start()
    storage = open_storage(root, spark=spark)
    folder = Layout(root).run(run_id)
    progress = Progress(storage, folder, run_id, spark.sparkContext.applicationId).start()
    scored: dict = {}
    error: BaseException | None = None
    try:
        scored = _score(spark, storage, root, run_id, progress)
    except BaseException as caught:
        error = cause(caught)
        if not isinstance(error, DkerasError):
            traceback.print_exc()
        print(f"dkeras: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    # Every container has its copies by now; Spark itself would leave the folders above its own.
    with contextlib.suppress(StorageError):
        storage.delete(Layout(root).staging(run_id), recursive=True)
    where = _uri(spark, scored["output"]) if scored else None
    progress.close({"scored": where, "score": scored or None}, error=error)
    return 0 if error is None else getattr(error, "exit_code", 1)


def _score(spark, storage, root: str, run_id: str, progress: Progress) -> dict:
    from dkeras_core.registry import Registry
    from dkeras_core.scoring.score import score

    path = f"{Layout(root).run(run_id)}/{REQUEST}"
    try:
        request = ScoreRequest.from_json(storage.read_bytes(path))
    except PathMissing:
        raise ConfigError(
            f"{path} does not exist: run {run_id} is no scoring", "start one with `dkeras score`"
        ) from None
    return score(spark, Registry(storage, root), request, progress, run=run_id)


def _uri(spark, path: str) -> str:
    """Return a path with its file system in front, as ``hdfs dfs`` and people elsewhere need it."""
    return f"{spark.sparkContext._jsc.hadoopConfiguration().get('fs.defaultFS').rstrip('/')}{path}"
