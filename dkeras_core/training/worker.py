"""The worker: spools its rows, trains windows of local steps, and exchanges with the parameter server.

The same function runs in a Spark executor and in a local process; it knows neither Spark nor YARN.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dkeras_core import rules
from dkeras_core.errors import TrainingError
from dkeras_core.training.task import TrainingTask, versions

REPORT_INTERVAL = 0.5  # seconds between reports of rows and loss: often enough for a bar, seldom enough to cost nothing


def run_worker(task: TrainingTask, worker: int, attempt: int, batches: Iterable, directory: Path) -> dict:
    """Train on the rows of ``batches`` for ``task.epochs`` epochs; return this worker's account.

    Parameters
    ----------
    batches : iterable of pyarrow.RecordBatch
        Columns ``features`` (list of float32, ``task.features`` long) and ``label``.
    directory : Path
        A local folder with room for the rows; what is written there is removed at the end.

    Raises
    ------
    ExchangeError
        The server cannot be reached, refused this worker, or ended the run; the message names the cause.
    TrainingError
        The loss became non-finite, or rows trained differ from rows in.
    """
    from dkeras_core.data.feed import Feed
    from dkeras_core.data.spool import Column, Spool
    from dkeras_core.exchange import Client

    begun = time.monotonic()
    seconds = {"spool": 0.0, "start": 0.0, "compute": 0.0, "exchange": 0.0, "wait": 0.0}
    columns = [Column("features", np.float32, (task.features,)), Column("label", np.float32, ())]
    with (
        Client.connect(
            task.address,
            task.secret,
            worker=worker,
            attempt=attempt,
            versions=versions(),
            deadline=task.connect_deadline,
        ) as client,
        Spool.create(directory, columns) as spool,
    ):
        client.report({"host": socket.gethostname(), "state": "spooling", "rows": 0})
        for batch in batches:
            spool.append(batch)
        rows = spool.seal()
        seconds["spool"] = time.monotonic() - begun
        client.report({"state": "starting", "rows": 0, "rows_in": rows})
        loop = _Loop(task, worker, client, seconds)
        feed = Feed(spool, batch_size=task.batch_size, window=loop.rule.communication_period, seed=task.seed + worker)
        with feed:
            loop.run(feed, rows)
        account = {
            "worker": worker,
            "host": socket.gethostname(),
            "attempt": attempt,
            "rows": rows,
            "rows_trained": loop.rows,
            "steps": loop.steps,
            "exchanges": loop.exchanges,
            "loss": loop.loss,
            "fused": loop.trainer.fused,
            "seconds": round(time.monotonic() - begun, 3),
            **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()},
        }
        if loop.rows != rows * task.epochs:
            raise TrainingError(
                f"worker {worker} trained {loop.rows} rows but was given {rows} x {task.epochs} epochs",
                "this is a defect of the feed; please report it",
            )
        client.finish(loop.flat.get(loop.x), loop.flat.get_state(), account)
        return account
