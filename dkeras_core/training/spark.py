"""The launcher that runs workers as Spark tasks: one partition of the rows is one worker."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

from dkeras_core.errors import ConfigError, DataError, TrainingError
from dkeras_core.rules import rule_from_config
from dkeras_core.training.causes import cause
from dkeras_core.training.pieces import PIECE, Layout
from dkeras_core.training.task import TrainingTask

RESULT = "worker int, account string"
_numbers = itertools.count(1)


class SparkLauncher:
    """Runs ``task.workers`` workers over the rows of a DataFrame, in a job that can be cancelled.

    A worker takes one task slot. The workers of a synchronous rule, and of a run with a warm start, wait for each
    other and need all their slots at once; the former run as a barrier stage. The others run in waves when there are
    fewer slots than workers.

    Parameters
    ----------
    spark : SparkSession
    frame : DataFrame
        With the columns that the task names; it is repartitioned to one partition a worker.
    join_deadline : float
        Seconds to wait for the slots: for one, or for all where they are needed at once.
    """

    def __init__(self, spark, frame, *, join_deadline: float = 180.0):
        self._spark, self._frame, self._join_deadline = spark, frame, join_deadline
        self._group = f"dkeras-training-{next(_numbers)}"  # two fits may share a session
        self._thread: threading.Thread | None = None
        self._accounts: list[dict] | None = None
        self._failure: BaseException | None = None
        self._workers = 0

    def check(self, task: TrainingTask) -> None:
        """Wait for the slots, and let executors reach and join the server once, before any row moves.

        Raises
        ------
        ConfigError
            Dynamic allocation with workers that wait for each other, or speculation.
        DataError
            A column is missing.
        TrainingError
            The slots did not come in time, or an executor cannot reach the server or runs other versions; the message
            says what Spark gave, or names executor and address.
        """
        self._workers = task.workers
        missing = [name for name in task.reads if name not in self._frame.columns]
        if missing:
            raise DataError(f"column {missing[0]!r} is missing; the rows have {', '.join(self._frame.columns)}")
        together = _together(task)
        self._refuse(together)
        self._wait_for_slots(task.workers if together else 1, together)
        found = self._spark.sparkContext.parallelize(range(task.workers), task.workers).map(_probe(task)).collect()
        wrong = sorted({problem for problem in found if problem})
        if wrong:
            raise TrainingError(
                "executors cannot take part in the training: " + "; ".join(wrong),
                "check spark.driver.host, firewalls between executors and driver, and that one archive serves all",
            )

    def start(self, task: TrainingTask) -> None:
        """Start the workers; returns at once."""
        from pyspark import InheritableThread
        from pyspark.sql import functions as F

        # mapInArrow takes names with dots apart, so columns travel under numbers
        columns = [F.col("`" + name.replace("`", "``") + "`").alias(str(n)) for n, name in enumerate(task.reads)]
        frame = self._frame.select(*columns)
        layout = Layout.of(task)
        frame = _in_pieces(frame, layout) if layout.told else frame.repartition(task.workers)
        synchronous = rule_from_config(task.rule).synchronous
        job = frame.mapInArrow(_worker_function(task), RESULT, barrier=synchronous)
        if synchronous:
            # Spark repeats a barrier stage that has lost an executor only when another stage follows it
            job = job.repartition(1)

        def run():
            import json

            self._spark.sparkContext.setJobGroup(
                self._group, f"training with {task.workers} workers", interruptOnCancel=True
            )
            try:
                self._accounts = [json.loads(row.account) for row in job.collect()]
            except BaseException as error:  # handed to poll(), which raises it in the driver's main thread
                self._failure = error

        self._thread = InheritableThread(target=run, name="training-job", daemon=True)
        self._thread.start()

    def poll(self) -> list[dict] | None:
        """Return the workers' accounts when all have ended, None while they run; raise the cause of the job's end."""
        if self._thread is not None and self._thread.is_alive():
            return None
        if self._failure is not None:
            raise cause(self._failure) from self._failure
        return self._accounts

    def cancel(self, deadline: float = 20.0) -> None:
        """Stop the workers and wait until the job is gone."""
        if self._thread is None or not self._thread.is_alive():
            return
        self._spark.sparkContext.cancelJobGroup(self._group)
        self._thread.join(deadline)

    def describe(self) -> str:
        """Say what Spark gave: executors, and how many workers they can run at once."""
        context = self._spark.sparkContext
        slots = task_slots(self._spark)
        if context.master.startswith("local"):
            given = f"Spark runs as {context.master}"
        else:
            executors = context._jsc.sc().getExecutorMemoryStatus().size() - 1  # the driver is in it
            asked = context.getConf().get("spark.executor.instances", "?")
            given = f"{executors} of {asked} executors are registered"
        run = f"{given} with {slots} task {'slot' if slots == 1 else 'slots'}"
        if 0 < slots < self._workers:
            return f"{run}: {slots} of {self._workers} workers run at a time"
        return run

    def _wait_for_slots(self, needed: int, why: str) -> None:
        deadline = time.monotonic() + self._join_deadline
        while (slots := task_slots(self._spark)) < needed:
            if time.monotonic() > deadline:
                if not why:
                    raise TrainingError(
                        f"no executor came within {self._join_deadline:.0f} s: {self.describe()}",
                        "the queue may be full: see `dkeras doctor`, ask for fewer or smaller executors, "
                        "or raise training.join_deadline",
                    )
                raise TrainingError(
                    f"{why} and needs {needed} task slots at once, but after {self._join_deadline:.0f} s "
                    f"{self.describe()}",
                    f"use at most {max(slots, 1)} workers, ask for more executors or cores, raise "
                    "training.join_deadline, or take an asynchronous algorithm without warm start",
                )
            time.sleep(0.5)

    def _refuse(self, together: str) -> None:
        conf = self._spark.sparkContext.getConf()

        def on(name: str) -> bool:
            return conf.get(name, "false").lower() == "true"

        if on("spark.speculation"):
            raise ConfigError(
                "spark.speculation is on: a second copy of a slow worker would shut the first one out",
                "set spark.speculation=false",
            )
        if together and on("spark.dynamicAllocation.enabled"):
            raise ConfigError(
                f"spark.dynamicAllocation.enabled is on, but {together}: its workers wait for each other, and Spark "
                "would not bring the executors that they need at once",
                "set spark.dynamicAllocation.enabled=false and spark.executor.instances",
            )


def task_slots(spark) -> int:
    """Tasks that can run at once with the executors registered now."""
    context = spark.sparkContext._jsc.sc()
    return context.maxNumConcurrentTasks(context.resourceProfileManager().defaultResourceProfile())


def _together(task: TrainingTask) -> str:
    """Why the workers need all their slots at once, or ""."""
    rule = rule_from_config(task.rule)
    if rule.synchronous:
        return f"algorithm {rule.name} is synchronous"
    if rule.local == "pieces":
        return f"algorithm {rule.name} needs the rows of all workers at every evaluation"
    return "the run has a warm start" if task.warm_start else ""


def _in_pieces(frame, layout: Layout):
    """Partition w with the rows that worker w holds, piece by piece, and the piece as a last column."""
    from pyspark.sql import functions as F

    # By their values, so that a partition that is computed again has the same pieces, and all copies of one agree
    piece = F.pmod(F.xxhash64(*frame.columns), F.lit(layout.pieces)).cast("int")
    copies = F.explode(F.sequence(F.lit(0), F.lit(layout.copies - 1)))
    held = frame.withColumn(PIECE.name, piece).withColumn("copy", copies)
    held = held.repartitionById(layout.workers, (F.col(PIECE.name) + F.col("copy")) % layout.workers).drop("copy")
    return held.sortWithinPartitions(PIECE.name)


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
            named = (batch.rename_columns(task.reads + batch.schema.names[len(task.reads) :]) for batch in batches)
            account = run_worker(task, context.partitionId(), attempt, named, Path(folder))
        account["attempt"] = context.attemptNumber()
        yield pa.RecordBatch.from_pydict(
            {"worker": pa.array([account["worker"]], pa.int32()), "account": pa.array([json.dumps(account)])}
        )

    return work


def _local_directory() -> str | None:
    """The container's local directory: on a disk that YARN gave and clears, unlike /tmp."""
    import os

    return next((d for d in os.environ.get("LOCAL_DIRS", "").split(",") if os.path.isdir(d)), None)
