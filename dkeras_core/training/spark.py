"""The launcher that runs workers as Spark tasks: one partition of the rows is one worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from dkeras_core.errors import TrainingError
from dkeras_core.training.task import TrainingTask

GROUP = "dkeras-training"
RESULT = "worker int, account string"


class SparkLauncher:
    """Runs ``task.workers`` workers over the rows of a DataFrame, in a job that can be cancelled.

    Parameters
    ----------
    frame : DataFrame
        Columns ``features`` (array<float>) and ``label`` (float); it is repartitioned to one partition a worker.
    """

    def __init__(self, spark, frame):
        self._spark, self._frame = spark, frame
        self._thread: threading.Thread | None = None
        self._accounts: list[dict] | None = None
        self._failure: BaseException | None = None

    def check(self, task: TrainingTask) -> None:
        """Let every executor reach and join the server once, before any row moves (seconds, not minutes).

        Raises
        ------
        ExchangeError
            An executor cannot reach the server or runs other versions; the message names executor and address.
        """
        context = self._spark.sparkContext
        workers = task.workers
        found = context.parallelize(range(workers), workers).map(_probe(task)).collect()
        wrong = sorted({problem for problem in found if problem})
        if wrong:
            raise TrainingError(
                "executors cannot take part in the training: " + "; ".join(wrong),
                "check spark.driver.host, firewalls between executors and driver, and that one archive serves all",
            )

    def start(self, task: TrainingTask) -> None:
        """Start the workers; returns at once."""
        from pyspark import InheritableThread

        frame = self._frame.select("features", "label").repartition(task.workers)
        job = frame.mapInArrow(_worker_function(task), RESULT)

        def run():
            import json

            context = self._spark.sparkContext
            context.setJobGroup(GROUP, f"training with {task.workers} workers", interruptOnCancel=True)
            try:
                self._accounts = [json.loads(row.account) for row in job.collect()]
            except BaseException as error:  # handed to poll(), which raises it in the driver's main thread
                self._failure = error

        self._thread = InheritableThread(target=run, name="training-job", daemon=True)
        self._thread.start()

    def poll(self) -> list[dict] | None:
        """Return the workers' accounts when all have ended, None while they run; raise what the job raised."""
        if self._thread is not None and self._thread.is_alive():
            return None
        if self._failure is not None:
            raise self._failure
        return self._accounts

    def cancel(self, deadline: float = 20.0) -> None:
        """Stop the workers and wait until the job is gone."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._spark.sparkContext.cancelJobGroup(GROUP)
        self._thread.join(deadline)

    def describe(self) -> str:
        """Say what the cluster gave: executors registered and their task slots."""
        context = self._spark.sparkContext
        executors = context._jsc.sc().getExecutorMemoryStatus().size() - (0 if _local(context) else 1)
        asked = context.getConf().get("spark.executor.instances", "?")
        return f"{executors} of {asked} executors are registered"


def _local(context) -> bool:
    return context.master.startswith("local")


def _probe(task: TrainingTask) -> Callable[[int], str]:
    def probe(index: int) -> str:
        import socket

        from dkeras_core.errors import DkerasError
        from dkeras_core.exchange import probe as reach

        try:
            reach(task.address, task.secret, deadline=15.0)
        except DkerasError as error:
            return f"executor on {socket.gethostname()}: {error.what}"
        return ""

    return probe


def _worker_function(task: TrainingTask) -> Callable[[Iterator], Iterator]:
    def work(batches: Iterator) -> Iterator:
        import json
        import tempfile
        from pathlib import Path

        import pyarrow as pa
        from pyspark import TaskContext

        from dkeras_core.learning.settings import configure_threads
        from dkeras_core.training.worker import run_worker

        configure_threads(task.threads)
        context = TaskContext.get()
        # Spark counts a task's attempts anew when it repeats the stage (an executor was lost with its shuffle
        # files); the id of the attempt grows over all of them, and the server fences older ones by it.
        attempt = context.taskAttemptId()
        with tempfile.TemporaryDirectory(prefix="dkeras-spool-", dir=_local_directory()) as folder:
            account = run_worker(task, context.partitionId(), attempt, batches, Path(folder))
        account["attempt"] = context.attemptNumber()
        yield pa.RecordBatch.from_pydict(
            {"worker": pa.array([account["worker"]], pa.int32()), "account": pa.array([json.dumps(account)])}
        )

    return work


def _local_directory() -> str | None:
    """The container's local directory: on a disk that YARN gave and clears, unlike /tmp."""
    import os

    return next((d for d in os.environ.get("LOCAL_DIRS", "").split(",") if os.path.isdir(d)), None)
