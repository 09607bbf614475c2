"""The driver's side of a training run: starts the parameter server, the workers, watches both, and takes the result.

It knows the update rule only by its contract and the workers only by their launcher, so that Spark executors and
local processes run the same training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dkeras_core.errors import DataError, TrainingError
from dkeras_core.exchange import ExchangeResult, ParameterServer, new_secret
from dkeras_core.training import searches
from dkeras_core.training.account import check_rows, make_account
from dkeras_core.training.curve import Curve
from dkeras_core.training.events import EventLog
from dkeras_core.training.history import History
from dkeras_core.training.lost import LostWorkers
from dkeras_core.training.monitor import Monitor
from dkeras_core.training.settings import EarlyStopping, ServerSettings, TrainingSettings
from dkeras_core.training.task import TrainingTask
from dkeras_core.training.validation import Validation

__all__ = [
    "EarlyStopping",
    "History",
    "Launcher",
    "ServerSettings",
    "TrainingResult",
    "TrainingSettings",
    "Validation",
    "train",
]


class Launcher(Protocol):
    """Runs workers somewhere: see :class:`dkeras_core.training.spark.SparkLauncher`."""

    def check(self, task: TrainingTask) -> None: ...
    def start(self, task: TrainingTask) -> None: ...
    def poll(self) -> list[dict] | None: ...
    def cancel(self) -> None: ...
    def describe(self) -> str: ...


@dataclass(frozen=True)
class TrainingResult:
    """What a run gives.

    ``weights`` is float32[n] and ``state`` the averaged non-trainable state, or None; when the result is "ensemble",
    both are lists, an entry for each worker. ``account`` is what becomes ``train.json``.
    """

    weights: np.ndarray | list[np.ndarray]
    center: np.ndarray
    ema: np.ndarray
    state: np.ndarray | list[np.ndarray] | None
    account: dict[str, Any]
    history: History

    def trained(self, model):
        """Return ``model``, the ``keras.Model`` that was trained, with these weights; of an ensemble, one new model."""
        from dkeras_core.learning.ensemble import ensemble_model
        from dkeras_core.learning.flat import FlatModel

        if isinstance(self.weights, list):
            return ensemble_model(model, self.weights, self.state)
        flat = FlatModel(model)
        flat.set(self.weights)
        if self.state is not None:
            flat.set_state(self.state)
        return model


def train(
    architecture: str,
    center: np.ndarray,
    state: np.ndarray | None,
    settings: TrainingSettings,
    launcher: Launcher,
    observe: Callable[[dict[str, Any]], None] = lambda state: None,
    *,
    validation: Validation | None = None,
    callbacks: Sequence[Any] = (),
    events: EventLog | None = None,
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
    validation : Validation or None
        Rows on which the center is evaluated at the ends of epochs, and the result at the end.
    callbacks : sequence of keras.callbacks.Callback
        Called in the driver at the ends of epochs, with a model that holds the center's weights.
    events : EventLog or None
        Is given losses, rates and figures for TensorBoard; the caller closes it.

    Raises
    ------
    ConfigError
        Settings, optimizer, callbacks or metrics that cannot work.
    DataError
        No rows, or fewer than workers.
    TrainingError
        No worker joined in time, a worker was lost for good, or rows trained differ from rows in. What a worker gave
        up for is raised in its own class.
    """
    from dkeras_core.learning.settings import make_optimizer

    if not settings.rows:
        raise DataError("there are no rows to train on")
    if settings.rows < settings.workers:
        raise DataError(
            f"{settings.rows} rows cannot be shared by {settings.workers} workers",
            f"use at most {settings.rows} workers, or more rows",
        )
    if settings.rule.local == "pieces":
        settings = searches.as_search(settings, architecture)
    else:
        make_optimizer(settings.rule.optimizer(settings.optimizer))  # a wrong one is told here, and not by a worker
    secret = new_secret()
    curve = Curve()
    server = ParameterServer(
        settings.rule,
        center,
        state,
        workers=settings.workers,
        rows=settings.rows,
        secret=secret,
        host=settings.server.host,
        advertise=settings.server.advertise,
        port=settings.server.port,
        on_report=curve.add,
        silence_deadline=settings.silence_deadline,
        step_deadline=settings.step_deadline,
        barrier_deadline=settings.barrier_deadline,
        warm_start=settings.warm_start > 0,
        keep_finals=settings.chosen_result == "ensemble",
        on_nonfinite=settings.on_nonfinite,
        wire=settings.wire,
    )
    monitor = Monitor(architecture, settings, server, curve, validation, callbacks, events)
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
            loss_weights=settings.loss_weights,
            threads=settings.threads,
            learning_rate_scale=settings.learning_rate_scale,
            warmup=settings.warmup,
            warm_start=settings.warm_start,
            overlap=settings.overlap,
            exchange_share=settings.exchange_share,
            on_nonfinite=settings.on_nonfinite,
        )
        launcher.check(task)
        monitor.start()
        launcher.start(task)
        accounts = _watch(server, launcher, settings, curve, monitor, observe, events, interval)
        _check_departures(accounts)
        outcome = server.result()
        seconds = time.monotonic() - begun
        check_rows(accounts, settings)
        weights, last_state = _chosen(outcome, settings.chosen_result)
        status = server.status()
        trained = sum(account["rows_trained"] for account in accounts)
        if status.search:
            trained = searches.progress(status.search, settings.rows)["rows"]
        weights, last_state = monitor.finish(weights, last_state, trained)
        account = make_account(settings, accounts, status, curve, monitor.history, center.size, seconds)
        return TrainingResult(weights, outcome.center, outcome.ema, last_state, account, monitor.history)
    except BaseException as error:
        server.fail(str(error) or type(error).__name__)
        launcher.cancel()
        raise
    finally:
        server.stop()
        monitor.close()


def _watch(server, launcher, settings, curve, monitor, observe, events, interval) -> list[dict]:
    """Follow the run until all workers have ended; notice those that never came, and when it is time to stop."""
    total = settings.rows * settings.epochs
    joined_by = time.monotonic() + settings.join_deadline
    lost = LostWorkers(settings.join_deadline)
    while True:
        accounts = launcher.poll()
        status = server.status()
        state = curve.state(total, settings)
        if status.search:
            state |= searches.progress(status.search, settings.rows)
        observe(state | monitor.values | {"workers": status.counts(), "message": _message(status, launcher)})
        if accounts is not None:
            return accounts
        if events:
            events.sample(_scalars(state, curve), state["rows"])
        monitor.tick(state["rows"])
        if monitor.stop and monitor.history.stopped is None:
            monitor.history.stopped = monitor.stop
            server.request_stop(monitor.stop)
        lost.check(status)
        accounts = lost.without(status)
        if accounts is not None:
            launcher.cancel()
            return accounts
        if status.joined == 0 and time.monotonic() > joined_by:
            raise TrainingError(
                f"no worker joined within {settings.join_deadline:.0f} s: {launcher.describe()}",
                "the queue may be full: see `dkeras doctor`, ask for fewer or smaller executors, "
                "or raise training.join_deadline",
            )
        time.sleep(interval)


def _chosen(outcome: ExchangeResult, result: str) -> tuple[Any, Any]:
    """Weights and state of the result that was asked for."""
    if result == "ensemble":
        return outcome.finals, outcome.final_states
    return {"mean": outcome.mean, "center": outcome.published, "ema": outcome.ema}[result], outcome.state


def _scalars(state: dict[str, Any], curve: Curve) -> dict[str, float | None]:
    """What of the moment goes to TensorBoard."""
    rates = {f"rate/{name}": state[name] for name in ("rows_per_second", "exchange_share")}
    workers = {f"loss/worker {worker}": loss for worker, (_, loss) in sorted(curve.latest().items())}
    return {"loss/mean": state["loss"], **workers, **rates}


def _check_departures(accounts: list[dict]) -> None:
    """Without a worker that has finished there is nothing to make a result of."""
    dropped = [account for account in accounts if account.get("dropped")]
    if dropped and all(account.get("dropped") or not account["rows"] for account in accounts):
        raise TrainingError(
            f"all workers with rows dropped out, the first because {dropped[0]['dropped']}",
            "lower training.optimizer.learning_rate, or look at the features for outliers",
        )


def _message(status, launcher: Launcher) -> str:
    """Say what the run waits for, or which worker is being started again; empty while all goes well."""
    lost = [worker for worker in status.workers if worker.state == "lost"]
    if lost:
        return f"worker {lost[0].worker} on {lost[0].host} was lost ({lost[0].reason}); waiting for its next attempt"
    if status.joined < status.expected:
        return f"{status.joined} of {status.expected} workers have joined, {launcher.describe()}"
    dropped = [worker for worker in status.workers if worker.state == "dropped"]
    if dropped:
        return f"worker {dropped[0].worker} on {dropped[0].host} takes no further part: {dropped[0].reason}"
    return ""
