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
from dkeras_core.training.stopping import Figures, Stopping
from dkeras_core.training.validation import Validation

TRIED = 32  # rows that are evaluated before anything starts

One = np.ndarray | None
Vectors = np.ndarray | list[np.ndarray]
States = One | list[np.ndarray]


class Monitor:
    """Evaluates the center in a thread of its own, so that the driver goes on watching its workers.

    An epoch that ends while the evaluation of an earlier one is under way is not evaluated; its loss is noted all the
    same.

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
            self._model = _Center(architecture, settings, validation)
            self._callbacks = CenterCallbacks(callbacks, self._model.model, settings.epochs)
        self._stopping = Stopping(settings, [f"val_{name}" for name in self._model.measured] if validation else [])
        self._watches = watches_center(settings.rule, settings.workers)
        self._begun = time.monotonic()
        self._epoch = 0
        self._noted = 0
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
        if self._searches():
            self._note(self._losses(epoch))  # it may have gone on after it was asked to stop
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
        *short, (_, loss) = self._losses(epoch)
        self._note(short)
        logs: dict[str, float | None] = {"loss": loss}
        if self._validation and self._watches:
            logs |= {f"val_{name}": value for name, value in self._model.evaluate(center, state).items()}
        self.history.add(epoch, time.monotonic() - self._begun, logs)
        self._noted = epoch
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

    def _searches(self) -> bool:
        return self._settings.rule.local == "pieces"

    def _losses(self, epoch: int) -> list[tuple[float, float | None]]:
        """(seconds, training loss) of each epoch from the last that was noted to this one.

        The loss of a search is the center's, that of other algorithms the workers'.
        """
        if self._searches():
            iterations = self._server.status().search.iterations[self._noted + 1 : epoch + 1]
            return [(iteration["seconds"], iteration["loss"]) for iteration in iterations]
        return [(at - self._begun, loss) for at, loss in self._curve.parts(epoch - self._noted)]

    def _note(self, epochs: list[tuple[float, float | None]]) -> None:
        """Note the next epochs, which were too short to be looked at."""
        for seconds, loss in epochs:
            self._noted += 1
            seconds = max([seconds, *self.history.epoch_seconds[-1:]])  # that of one that was looked at is later
            self.history.add(self._noted, seconds, {"loss": loss})
            if self._events:
                self._events.add({"epoch/loss": loss}, self._noted * self._settings.rows)


class _Center:
    """The driver's own model, into which vectors are put to be evaluated."""

    def __init__(self, architecture: str, settings: TrainingSettings, validation: Validation | None):
        from dkeras_core.learning import model_io
        from dkeras_core.learning.flat import FlatModel
        from dkeras_core.learning.losses import compiled_losses

        self.model = model_io.from_json(architecture)
        self._flat = FlatModel(self.model)
        self._validation = validation
        self._losses = compiled_losses(self.model, settings.loss, settings.loss_weights)
        self.measured: list[str] = []
        self._compile(self.model)
        if validation:
            self.measured = list(self._try(validation))

    def _compile(self, model) -> None:
        import keras

        metrics = list(self._validation.metrics) if self._validation else []
        if len(model.outputs or ()) > 1 and all(isinstance(metric, str) for metric in metrics):
            metrics = [metrics for _ in model.outputs] if metrics else []  # of each output
        jit = "auto" if keras.backend.backend() == "jax" else False  # JAX has no other compiler
        model.compile(**self._losses, metrics=metrics or None, jit_compile=jit)

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
        from dkeras_core.learning.batches import structured

        x, y, weights = structured(model, rows.x, rows.y, rows.weights)
        found = model.evaluate(x, y, sample_weight=weights, batch_size=rows.batch_size, verbose=0, return_dict=True)
        values = {name: round(float(value), 6) for name, value in found.items()}
        return {name: value if math.isfinite(value) else None for name, value in values.items()}
