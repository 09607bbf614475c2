"""Keras' callbacks on the center: what a user of ``fit`` brings along, called at the ends of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dkeras_core.errors import ConfigError

_BLIND = {
    "ReduceLROnPlateau": "changes the optimizer of the driver's model, which makes no steps",
    "LearningRateScheduler": "changes the optimizer of the driver's model, which makes no steps",
    "BackupAndRestore": "restores the driver's model, which the workers do not read",
}
_INSTEAD = "leave it out; a learning rate that changes is given as a schedule of keras.optimizers.schedules"


class CenterCallbacks:
    """Calls ``keras.callbacks.Callback`` objects with a model that holds the center's weights.

    Called are ``on_train_begin``, ``on_epoch_begin``, ``on_epoch_end(epoch, logs)`` and ``on_train_end``; there are no
    batches in the driver. Epochs are counted from 0, as in Keras. A callback ends the run by ``model.stop_training``.

    Raises ConfigError for what is no callback, and for callbacks of Keras that could have no effect here.
    """

    def __init__(self, callbacks: Sequence[Any], model, epochs: int):
        check(callbacks)
        self._callbacks, self._model = list(callbacks), model
        model.stop_training = False
        for callback in self._callbacks:
            callback.set_params({"verbose": 0, "epochs": epochs, "steps": None})
            callback.set_model(model)

    def train_begin(self) -> None:
        for callback in self._callbacks:
            callback.on_train_begin({})
        self._epoch_begin(0)

    def epoch_end(self, epoch: int, logs: dict[str, float], *, last: bool) -> str | None:
        """End epoch ``epoch`` (from 1) and begin the next; return why the run should stop, or None."""
        for callback in self._callbacks:
            callback.on_epoch_end(epoch - 1, dict(logs))
            if self._model.stop_training:
                return f"{type(callback).__name__} stopped the training"
        if not last:
            self._epoch_begin(epoch)
        return None

    def train_end(self, logs: dict[str, float]) -> None:
        for callback in self._callbacks:
            callback.on_train_end(dict(logs))

    def _epoch_begin(self, epoch: int) -> None:
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, {})


def check(callbacks: Sequence[Any]) -> None:
    """Raise ConfigError for what cannot be called here, with what to use instead."""
    import keras

    for callback in callbacks:
        name = type(callback).__name__
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(f"{callback!r} is not a keras.callbacks.Callback", "derive its class from that")
        for blind, what in _BLIND.items():
            if isinstance(callback, getattr(keras.callbacks, blind)):
                raise ConfigError(f"callback {name} has no effect here: it {what}", _INSTEAD)
        if isinstance(callback, keras.callbacks.EarlyStopping) and callback.restore_best_weights:
            raise ConfigError(
                f"callback {name} cannot restore the best weights: the result is made of the workers' vectors",
                "use the setting early_stopping with restore_best, which takes the best center",
            )
