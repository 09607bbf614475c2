"""The driver's side of a training run: starts the parameter server, the workers, watches both, and takes the result.

It knows the update rule only by its contract and the workers only by their launcher, so that Spark executors and
local processes run the same training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from dkeras_core.data.spool import Column
from dkeras_core.errors import TrainingError
from dkeras_core.exchange import ParameterServer, new_secret, versions
from dkeras_core.rules import Rule
from dkeras_core.training.curve import Curve
from dkeras_core.training.task import TrainingTask

# What a worker says when it leaves with an error that another attempt would meet again
FATAL = ("TrainingError:", "DataError:", "ConfigError:", "StorageError:")


class Launcher(Protocol):
    """Runs workers somewhere: see :class:`dkeras_core.training.spark.SparkLauncher`."""

    def check(self, task: TrainingTask) -> None: ...
    def start(self, task: TrainingTask) -> None: ...
    def poll(self) -> list[dict] | None: ...
    def cancel(self) -> None: ...
    def describe(self) -> str: ...


@dataclass(frozen=True)
class ServerSettings:
    """Where the parameter server binds and what it tells executors; ``port`` is 0, a number or a range."""

    host: str = "127.0.0.1"
    advertise: str | None = None
    port: int | tuple[int, int] = 0


@dataclass(frozen=True)
class TrainingResult:
    """What a run gives: flat vectors of shape (n,) and the account of the run (``train.json``)."""

    weights: np.ndarray
    center: np.ndarray
    ema: np.ndarray
    state: np.ndarray | None
    account: dict[str, Any]


@dataclass(frozen=True)
class TrainingSettings:
    """What the driver needs beside the model and the rows; what is not described here is in ``TrainingTask``.

    result : str or None
        "mean", "center", "ema" or "ensemble"; None for the rule's own choice.
    wire : str
        How dense vectors travel: "float32", "bfloat16" or "float16".
    barrier_deadline : float
        Seconds that the workers of a synchronous rule wait for the last one of a round.
    """

    rule: Rule
    optimizer: dict[str, Any]
    loss: Any
    epochs: int
    batch_size: int
    workers: int
    rows: int
    inputs: tuple[Column, ...]
    labels: tuple[Column, ...] = (Column("label"),)
    weight: str | None = None
    class_weight: dict[int, float] | None = None
    seed: int = 1
    threads: int = 1
    result: str | None = None
    learning_rate_scale: float = 1.0
    warmup: float = 0.0
    warm_start: int = 0
    overlap: bool = False
    exchange_share: float = 0.05
    on_nonfinite: str = "stop"
    wire: str = "float32"
    join_deadline: float = 180.0
    silence_deadline: float = 300.0
    barrier_deadline: float = 300.0
    server: ServerSettings = field(default_factory=ServerSettings)


def train(
    architecture: str,
    center: np.ndarray,
    state: np.ndarray | None,
    settings: TrainingSettings,
    launcher: Launcher,
    observe: Callable[[dict[str, Any]], None] = lambda state: None,
    interval: float = 0.5,
) -> TrainingResult:
    """Train from ``center`` and return the result.

    Parameters
    ----------
    architecture : str
        The Keras model as JSON.
    center : float32 array of shape (n,)
        Initial parameters, the same for all workers.
    state : float32 array or None
        Initial non-trainable state (batch normalisation).
    observe : callable
        Is given the fields of ``progress.json`` that training knows, every ``interval`` seconds.

    Raises
    ------
    TrainingError
        No worker joined in time, a worker was lost for good, or rows trained differ from rows in.
    """
    secret = new_secret()
    curve = Curve()
    server = ParameterServer(
        settings.rule,
        center,
        state,
        workers=settings.workers,
        secret=secret,
        host=settings.server.host,
        advertise=settings.server.advertise,
        port=settings.server.port,
        on_report=curve.add,
        silence_deadline=settings.silence_deadline,
    )
    begun = time.monotonic()
    server.start()
    try:
        task = TrainingTask(
            address=server.address,
            secret=secret,
            rule=settings.rule.to_config(),
            architecture=architecture,
            optimizer=settings.optimizer,
            loss=settings.loss,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            workers=settings.workers,
            seed=settings.seed,
            inputs=settings.inputs,
            labels=settings.labels,
            weight=settings.weight,
            class_weight=settings.class_weight,
            threads=settings.threads,
            learning_rate_scale=settings.learning_rate_scale,
            warmup=settings.warmup,
            warm_start=settings.warm_start,
            overlap=settings.overlap,
            exchange_share=settings.exchange_share,
            on_nonfinite=settings.on_nonfinite,
        )
        launcher.check(task)
        launcher.start(task)
        accounts = _watch(server, launcher, settings, curve, observe, interval)
        outcome = server.result()
        seconds = time.monotonic() - begun
        _check_rows(accounts, settings)
        weights = {"mean": outcome.mean, "center": outcome.center, "ema": outcome.ema}[
            settings.result or settings.rule.default_result
        ]
        account = _account(settings, accounts, server.status(), curve, center.size, seconds)
        return TrainingResult(weights, outcome.center, outcome.ema, outcome.state, account)
    except BaseException as error:
        server.fail(str(error) or type(error).__name__)
        launcher.cancel()
        raise
    finally:
        server.stop()


def _watch(server, launcher, settings, curve, observe, interval) -> list[dict]:
    """Follow the run until all workers have ended; notice those that never came."""
    total = settings.rows * settings.epochs
    joined_by = time.monotonic() + settings.join_deadline
    while True:
        accounts = launcher.poll()
        status = server.status()
        observe(curve.state(total, settings) | {"workers": status.counts(), "message": _message(status, launcher)})
        if accounts is not None:
            return accounts
        for worker in status.workers:
            if worker.state == "lost" and worker.reason.startswith(FATAL):
                raise TrainingError(f"worker {worker.worker} on {worker.host} gave up: {worker.reason}")
        if status.joined == 0 and time.monotonic() > joined_by:
            raise TrainingError(
                f"no worker joined within {settings.join_deadline:.0f} s: {launcher.describe()}",
                "the queue may be full: see `dkeras doctor`, ask for fewer or smaller executors, "
                "or raise training.join_deadline",
            )
        time.sleep(interval)


def _message(status, launcher: Launcher) -> str:
    """Say what the run waits for, or which worker is being started again; empty while all goes well."""
    lost = [worker for worker in status.workers if worker.state == "lost"]
    if lost:
        return f"worker {lost[0].worker} on {lost[0].host} was lost ({lost[0].reason}); waiting for its next attempt"
    if status.joined < status.expected:
        return f"{status.joined} of {status.expected} workers have joined, {launcher.describe()}"
    return ""


def _check_rows(accounts: list[dict], settings: TrainingSettings) -> None:
    rows = sum(account["rows"] for account in accounts)
    trained = sum(account["rows_trained"] for account in accounts)
    if rows != settings.rows or trained != settings.rows * settings.epochs:
        raise TrainingError(
            f"rows do not add up: {settings.rows} rows in the training split, {rows} reached the workers, "
            f"{trained} were trained in {settings.epochs} epochs",
            "the input may have changed while it was read; run again",
        )


def _account(settings, accounts, status, curve, parameters, seconds) -> dict[str, Any]:
    trained = sum(account["rows_trained"] for account in accounts)
    return {
        "algorithm": settings.rule.to_config(),
        "optimizer": settings.optimizer,
        "parameters": int(parameters),
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "rows_in": settings.rows,
        "rows_trained": trained,
        "seconds": round(seconds, 3),
        "rows_per_second": round(trained / seconds, 1),
        "curve": curve.points(),
        "workers": sorted(accounts, key=lambda account: account["worker"]),
        "versions": versions(),
        "result": settings.result or settings.rule.default_result,
        "exchange": {"count": status.exchanges, "bytes": status.bytes, "shards": status.shards},
    }
