"""The worker: spools its rows, trains windows of local steps, and exchanges with the parameter server.

The same function runs in a Spark executor and in a local process; it knows neither Spark nor YARN.
"""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Spool
from dkeras_core.errors import TrainingError
from dkeras_core.exchange import Client
from dkeras_core.rules import rule_from_config
from dkeras_core.training.task import TrainingTask

REPORT_INTERVAL = 0.5  # seconds between reports: often enough for a bar, seldom enough to cost nothing
SEED_STRIDE = 1_000_003  # keeps the workers' seeds apart for any number of epochs


def run_worker(task: TrainingTask, worker: int, attempt: int, batches: Iterable, directory: Path) -> dict:
    """Train on the rows of ``batches`` for ``task.epochs`` epochs; return this worker's account.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        The columns that ``task.inputs``, ``task.labels`` and ``task.weight`` name.
    directory : Path
        A local folder with room for the rows; what is written there is removed at the end.

    Raises
    ------
    ExchangeError
        The server cannot be reached, refused this worker, or ended the run; the message names the cause.
    TrainingError
        The loss became non-finite, or rows trained differ from rows in.
    """
    with Client.connect(
        task.address, task.secret, worker=worker, attempt=attempt, deadline=task.connect_deadline
    ) as client:
        run = _WorkerRun(task, worker, attempt, client)
        return run(batches, directory)


class _WorkerRun:
    """One worker's run: its clock, its counters, and the loop that reads like Algorithm 1 of the paper."""

    def __init__(self, task: TrainingTask, worker: int, attempt: int, client: Client):
        self._task, self._worker, self._attempt, self._client = task, worker, attempt, client
        self._begun = time.monotonic()
        self._reported = 0.0
        self._losses = self._weight = 0.0
        self.exchanges = self.rows = self.steps = 0
        self.seconds = {"spool": 0.0, "start": 0.0, "compute": 0.0, "exchange": 0.0, "wait": 0.0}
        self.loss: float | None = None

    def __call__(self, batches: Iterable, directory: Path) -> dict:
        columns = [*self._task.inputs, *self._task.labels]
        with Spool.create(directory, columns) as spool:
            rows = self._spool(batches, spool)
            trainer, x, state = self._start()
            if rows:
                self._train(spool, trainer, x)
            if self.rows != rows * self._task.epochs:
                raise TrainingError(
                    f"worker {self._worker} trained {self.rows} rows but was given {rows} rows x "
                    f"{self._task.epochs} epochs",
                    "this is a defect of the feed; please report it",
                )
            account = self._account(rows, trainer)
            self._client.finish(x, trainer.flat.get_state() if state is not None else None, account)
        return account

    def _spool(self, batches: Iterable, spool: Spool) -> int:
        self._report(state="spooling")
        for batch in batches:
            spool.append(batch)
            self._report(state="spooling")
        spool.seal()
        self.seconds["spool"] = time.monotonic() - self._begun
        return spool.rows

    def _start(self):
        """Build the model, take the center as this worker's x."""
        from dkeras_core.learning import model_io
        from dkeras_core.learning.local import LocalTrainer

        begun = time.monotonic()
        self._client.report({"state": "starting", "rows": 0})
        task = self._task
        trainer = LocalTrainer(
            model_io.from_json(task.architecture),
            task.optimizer,
            task.loss,
            batch_size=task.batch_size,
            communication_period=task.rule["communication_period"],
            seed=task.seed + SEED_STRIDE * (self._worker + 1),
        )
        x, state = self._client.center()
        if state is not None:
            trainer.flat.set_state(state)
        self.seconds["start"] = time.monotonic() - begun
        return trainer, x, state

    def _train(self, spool: Spool, trainer, x) -> None:
        task, clock = self._task, time.monotonic
        rule = rule_from_config(task.rule).for_workers(task.workers)
        state = rule.worker_state(x)
        feed = Feed(
            spool,
            batch_size=task.batch_size,
            communication_period=rule.communication_period,
            seed=task.seed + SEED_STRIDE * (self._worker + 1),
        )
        at = clock()
        for epoch in range(task.epochs):
            for window in feed.windows(epoch):
                fetched = clock()
                loss = trainer.window(window, x)
                trained = clock()
                self._count(window, loss)
                rule.receive(x, self._client.exchange(rule.message(x, state, window.steps)), state)
                exchanged = clock()
                self.exchanges += 1
                self.seconds["wait"] += fetched - at
                self.seconds["compute"] += trained - fetched
                self.seconds["exchange"] += exchanged - trained
                self._report(state="training", loss=self._mean_loss())
                at = clock()
        self._report(at_once=True, state="finishing", loss=self._mean_loss())

    def _count(self, window, loss: float) -> None:
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of worker {self._worker} became {loss} after {self.rows} rows",
                "lower training.optimizer.learning_rate, or look at the features for outliers",
            )
        self.rows += window.rows
        self.steps += window.steps
        self._losses += loss * window.rows
        self._weight += window.rows

    def _mean_loss(self) -> float | None:
        """Mean loss since the last report."""
        return self._losses / self._weight if self._weight else self.loss

    def _report(self, at_once: bool = False, **values) -> None:
        now = time.monotonic()
        if now - self._reported < REPORT_INTERVAL and not at_once:
            return
        self._reported = now
        if values.get("loss") is not None:
            self.loss = values["loss"]
            self._losses = self._weight = 0.0
        stop = self._client.report({"host": socket.gethostname(), "rows": self.rows, **values})
        if stop is not None:
            raise TrainingError(f"worker {self._worker} was asked to stop: {stop}")

    def _account(self, rows: int, trainer) -> dict:
        return {
            "worker": self._worker,
            "host": socket.gethostname(),
            "attempt": self._attempt,
            "rows": rows,
            "rows_trained": self.rows,
            "steps": self.steps,
            "exchanges": self.exchanges,
            "loss": self._mean_loss() if self._weight else self.loss,
            "fused": trainer.fused,
            "seconds": round(time.monotonic() - self._begun, 3),
            **{f"{name}_seconds": round(value, 3) for name, value in self.seconds.items()},
        }
