"""Looks at the center at the ends of epochs, beside the training: validation, callbacks, and when to stop.

An epoch of a distributed run ends when the workers together have trained as many rows as there are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from dkeras_core.errors import ConfigError
from dkeras_core.exchange import ParameterServer
from dkeras_core.training.callbacks import CenterCallbacks
from dkeras_core.training.curve import Curve
from dkeras_core.training.events import EventLog
from dkeras_core.training.history import History
from dkeras_core.training.settings import TrainingSettings, watches_center
from dkeras_core.training.validation import Validation

TRIED = 32  # rows that are evaluated before anything starts

One = np.ndarray | None
Vectors = np.ndarray | list[np.ndarray]
States = One | list[np.ndarray]
Figures = dict[str, float | None]  # None for what is not finite

_LESS_IS_BETTER = (
    "loss",
    "error",
    "crossentropy",
    "divergence",
    "hinge",
    "poisson",
    "log_cosh",
    "mse",
    "mae",
    "false_",
)


class Monitor:
    """Evaluates the center in a thread of its own, so that the driver goes on watching its workers.

    An epoch that ends while the evaluation of an earlier one is under way is left out.

    Parameters
    ----------
    settings, architecture : the run's
    server : ParameterServer
        Whose center is looked at.
    curve : Curve
        The training loss.
    validation : Validation or None
        Rows to evaluate the center on.
    callbacks : sequence of keras.callbacks.Callback
    events : EventLog or None
        Is given the figures of each epoch.

    Attributes
    ----------
    history : History
        Of the epochs so far.
    values : dict
        The newest of them, for ``progress.json``.
    stop : str or None
        Why the run should end.

    Raises
    ------
    ConfigError
        A callback, metric or monitored quantity that cannot work.
    """

    def __init__(
        self,
        architecture: str,
        settings: TrainingSettings,
        server: ParameterServer,
        curve: Curve,
        validation: Validation | None = None,
        callbacks: Sequence[Any] = (),
        events: EventLog | None = None,
    ):
        self._events = events
        self._settings, self._server, self._curve, self._validation = settings, server, curve, validation
        self._model = self._callbacks = None
        if validation or callbacks:
            self._model = _Center(architecture, settings.loss, validation)
            self._callbacks = CenterCallbacks(callbacks, self._model.model, settings.epochs)
        self._stopping = _Stopping(settings, [f"val_{name}" for name in self._model.measured] if validation else [])
        self._watches = watches_center(settings.rule, settings.workers)
        self._begun = time.monotonic()
        self._epoch = 0
        self._counted = (0, 0.0)
        self._future: Future | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="center-monitor")
        self.history = History()
        self.values: dict[str, Any] = {}
        self.stop: str | None = None

    def start(self) -> None:
        """Tell the callbacks that the training begins."""
        if self._callbacks:
            self._model.set(*self._snapshot())
            self._callbacks.train_begin()

    def tick(self, rows: int) -> None:
        """Begin to look at the epoch that has ended, if one has; never waits. Raises what a callback raised."""
        if self._future is not None:
            if not self._future.done():
                return
            future, self._future = self._future, None
            future.result()
        epoch = rows // self._settings.rows
        if self._epoch < epoch < self._settings.epochs and not self.stop:  # the last is looked at in finish()
            self._epoch = epoch
            self._future = self._executor.submit(self._look, epoch)

    def finish(self, weights: Vectors, state: States, trained: int) -> tuple[Vectors, States]:
        """End the last epoch, evaluate the result, and return it: or the best center, when that is to be restored."""
        if self._future is not None:
            self._future.result()
        epoch = trained // self._settings.rows
        if epoch > self._epoch and not self.stop:
            self._look(epoch, last=True)
        best = None
        if self._validation:
            final = {f"val_{name}": value for name, value in self._model.evaluate(weights, state).items()}
            best = self._stopping.better_than(final)
            if best:
                self.history.restored, weights, state, final = best
            self.history.final = final
            if self._events:
                self._events.add({f"result/{name}": value for name, value in final.items()}, trained)
        if self._callbacks:
            self._model.set(*(self._snapshot() if isinstance(weights, list) else (weights, state)))
            self._callbacks.train_end(self.history.final)
        return weights, state

    def close(self) -> None:
        """End the thread; an evaluation that is under way is waited for."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _look(self, epoch: int, last: bool = False) -> None:
        center, state = self._snapshot()
        logs: dict[str, float | None] = {"loss": self._mean_loss()}
        if self._validation and self._watches:
            logs |= {f"val_{name}": value for name, value in self._model.evaluate(center, state).items()}
        self.history.add(epoch, time.monotonic() - self._begun, logs)
        if self._events:
            self._events.add({f"epoch/{name}": value for name, value in logs.items()}, epoch * self._settings.rows)
        self.values = {"validation": {"epoch": epoch, **{k: v for k, v in logs.items() if k != "loss"}}}
        measured = {name: value for name, value in logs.items() if value is not None}
        reason = self._stopping.reason(epoch, measured, center, state)
        if self._callbacks:
            self._model.set(center, state)
            reason = self._callbacks.epoch_end(epoch, measured, last=last or reason is not None) or reason
        if not last:
            self.stop = reason

    def _snapshot(self) -> tuple[np.ndarray, One]:
        return self._server.published()[0], self._server.state()

    def _mean_loss(self) -> float | None:
        """The workers' mean loss over the rows since this was last asked."""
        rows, total = self._curve.totals()
        rows_before, total_before = self._counted
        self._counted = (rows, total)
        return (total - total_before) / (rows - rows_before) if rows > rows_before else None


class _Center:
    """The driver's own model, into which vectors are put to be evaluated."""

    def __init__(self, architecture: str, loss: Any, validation: Validation | None):
        from dkeras_core.learning import model_io
        from dkeras_core.learning.flat import FlatModel
        from dkeras_core.learning.settings import make_loss

        self.model = model_io.from_json(architecture)
        self._flat = FlatModel(self.model)
        self._validation = validation
        self._loss = make_loss(loss)
        self.measured: list[str] = []
        self._compile(self.model)
        if validation:
            self.measured = list(self._try(validation))

    def _compile(self, model) -> None:
        metrics = list(self._validation.metrics) if self._validation else None
        model.compile(loss=self._loss, metrics=metrics or None, jit_compile=False)

    def _try(self, validation: Validation) -> Figures:
        """Evaluate a few rows: Keras looks at metrics, and at whether rows fit the model, only then."""
        try:
            return self._evaluated(self.model, validation.first(TRIED))
        except Exception as error:  # Keras and its backends raise whatever they like
            raise ConfigError(
                f"the validation rows cannot be evaluated: {type(error).__name__}: {error}",
                "check the names of the metrics, the loss, and that the rows have the model's inputs and outputs",
            ) from error

    def _ensemble(self, vectors: list[np.ndarray], states: list[np.ndarray] | None):
        from dkeras_core.learning.ensemble import ensemble_model

        ensemble = ensemble_model(self.model, vectors, states)
        self._compile(ensemble)
        return ensemble

    def set(self, weights: np.ndarray, state: One) -> None:
        self._flat.set(weights)
        if state is not None:
            self._flat.set_state(state)

    def evaluate(self, weights: Vectors, state: States) -> Figures:
        """Loss and metrics of one vector, or of the average of the predictions of several."""
        if isinstance(weights, list):
            return self._evaluated(self._ensemble(weights, state), self._validation)
        self.set(weights, state)
        return self._evaluated(self.model, self._validation)

    def _evaluated(self, model, rows: Validation) -> Figures:
        found = model.evaluate(
            rows.x, rows.y, sample_weight=rows.weights, batch_size=rows.batch_size, verbose=0, return_dict=True
        )
        values = {name: round(float(value), 6) for name, value in found.items()}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}


class _Stopping:
    """Decides, epoch by epoch, whether the run should end, and keeps the best center where it is to be restored."""

    def __init__(self, settings: TrainingSettings, measured: list[str]):
        self._early, self._target = settings.early_stopping, settings.target_loss
        self._target_name = "val_loss" if measured and watches_center(settings.rule, settings.workers) else "loss"
        if self._early and self._early.monitor not in ("loss", *measured):
            raise ConfigError(
                f"early stopping monitors {self._early.monitor}, but "
                + (f"measured are {', '.join(measured)}" if measured else "there are no validation rows"),
                "name one of these, or add the metric"
                if measured
                else "hold back rows for validation (split.validation in a pipeline), or monitor loss",
            )
        self._best: float | None = None
        self._waited = 0
        self._kept: tuple | None = None

    def reason(self, epoch: int, logs: dict[str, float], center, state) -> str | None:
        """Take the figures of an epoch; return why the run should end, or None."""
        loss = logs.get(self._target_name)
        if self._target is not None and loss is not None and loss <= self._target:
            return f"{self._target_name} {loss:.4f} has reached the target {self._target:g}"
        if self._early is None:
            return None
        name = self._early.monitor
        if self._gain(logs.get(name)) > self._early.min_delta:
            self._best, self._waited = logs[name], 0
            if self._early.restore_best:
                self._kept = (epoch, center, state, {k: v for k, v in logs.items() if k != "loss"})
            return None
        self._waited += 1
        if self._waited <= self._early.patience:
            return None
        so_far = "was never finite" if self._best is None else f"has not improved on {self._best:.4f}"
        return f"{name} {so_far} for {self._waited} evaluated epochs"

    def better_than(self, final: Figures) -> tuple | None:
        """(epoch, center, state, figures) of the kept center when it is better than the result, else None."""
        if self._kept is None or self._gain(final[self._early.monitor]) >= 0:
            return None
        return self._kept

    def _gain(self, value: float | None) -> float:
        """By how much ``value`` is better than the best so far; None is no figure, and the worst."""
        if value is None or self._best is None:
            return -math.inf if value is None else math.inf
        mode = self._early.mode
        if mode == "auto":
            mode = "min" if any(word in self._early.monitor for word in _LESS_IS_BETTER) else "max"
        return self._best - value if mode == "min" else value - self._best
