"""Looking at the center while others train: what is measured, who is told, and when a run should end."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.data.spool import Column
from dkeras_core.errors import ConfigError
from dkeras_core.training.curve import Curve
from dkeras_core.training.monitor import Monitor
from dkeras_core.training.settings import EarlyStopping, TrainingSettings
from dkeras_core.training.validation import Validation

ROWS, EPOCHS = 100, 10


class Server:
    """A center that the test moves by hand."""

    def __init__(self, center):
        self.center = center

    def published(self):
        return self.center.copy(), 0

    def state(self):
        return None


@pytest.fixture
def watch(model, rows_of):
    """watch(**settings) -> monitor, server, curve; the center is as good as server.scale(factor) makes it."""
    from dkeras_core.learning.model_io import to_json

    batch = rows_of(400, 7)
    columns = (Column("features", shape=(4,)),), (Column("label"),)
    monitors = []

    def start(callbacks=(), metrics=("accuracy",), validation=True, rule="asynchronous_easgd", **settings):
        weights = solution(model)
        server, curve = Server(0 * weights), Curve()
        server.scale = lambda factor: setattr(server, "center", np.float32(factor) * weights)
        given = TrainingSettings(
            rule=rules.get(rule), optimizer={"name": "adam"}, loss="binary_crossentropy", epochs=EPOCHS,
            batch_size=10, workers=2, rows=ROWS, inputs=columns[0], **settings,
        )  # fmt: skip
        held = Validation.from_batches([batch], *columns, metrics=metrics) if validation else None
        monitor = Monitor(to_json(model), given, server, curve, held, callbacks)
        monitors.append(monitor)
        monitor.start()
        return monitor, server, curve

    yield start
    for monitor in monitors:
        monitor.close()


def solution(model):
    """Weights of the small network that tell the labels: the first unit is the line, the output takes its sign."""
    import keras

    clone = keras.models.clone_model(model)
    hidden, out = np.zeros((4, 8), np.float32), np.zeros((8, 1), np.float32)
    line = np.array([2, -1, 1, 0.5], np.float32)
    hidden[:, 0], hidden[:, 1] = line, -line
    out[0], out[1] = 3, -3
    clone.set_weights([hidden, np.zeros(8), out, np.zeros(1)])
    from dkeras_core.learning.flat import FlatModel

    return FlatModel(clone).get()


def epoch(monitor, number):
    """Let an epoch end, and wait until it has been looked at."""
    monitor.tick(number * ROWS)
    monitor._future.result()
    monitor.tick(number * ROWS)


def test_each_epoch_has_the_workers_loss_and_the_centers_figures(watch):
    monitor, server, curve = watch()
    curve.add(0, 0, {"rows": 60, "loss": 0.7})
    curve.add(1, 0, {"rows": 40, "loss": 0.2})
    epoch(monitor, 1)
    server.scale(1)
    curve.add(0, 0, {"rows": 120, "loss": 0.1})
    curve.add(1, 0, {"rows": 80, "loss": 0.1})
    epoch(monitor, 2)
    told = monitor.history.history
    assert monitor.history.epoch == [1, 2]
    assert told["loss"] == pytest.approx([0.5, 0.1])
    assert told["val_loss"][0] == pytest.approx(np.log(2), abs=1e-4)
    assert told["val_loss"][1] < 0.2 and told["val_accuracy"][1] == 1.0 > told["val_accuracy"][0]
    assert monitor.values == {"validation": {"epoch": 2, "val_loss": told["val_loss"][1], "val_accuracy": 1.0}}


def test_a_worker_that_is_started_again_does_not_reach_the_target(watch):
    monitor, _, curve = watch(validation=False, target_loss=0.1)
    curve.add(0, 0, {"rows": 90, "loss": 0.6})
    curve.add(1, 0, {"rows": 90, "loss": 0.6})
    epoch(monitor, 1)
    curve.add(1, 1, {"rows": 40, "loss": 0.7})  # less than its first attempt had trained
    curve.add(0, 0, {"rows": 170, "loss": 0.55})
    epoch(monitor, 2)
    assert monitor.history.history["loss"] == pytest.approx([0.6, (0.7 * 40 + 0.55 * 80) / 120])
    assert monitor.stop is None


def test_the_result_is_evaluated_and_the_last_epoch_too(watch):
    monitor, server, _ = watch()
    server.scale(1)
    weights, _ = monitor.finish(server.center, None, ROWS * EPOCHS)
    assert weights is server.center
    assert monitor.history.epoch == list(range(1, EPOCHS + 1))
    assert monitor.history.final["val_accuracy"] == 1.0
    assert [None] * (EPOCHS - 1) + [monitor.history.final["val_loss"]] == monitor.history.history["val_loss"]


def test_an_ensemble_is_evaluated_as_the_mean_of_its_members(watch):
    monitor, server, _ = watch()
    server.scale(1)
    monitor.finish([server.center, 0 * server.center], None, 50)
    assert monitor.history.epoch == []
    assert np.log(2) / 8 < monitor.history.final["val_loss"] < np.log(2) and monitor.history.final["val_accuracy"] == 1


def test_epochs_that_were_too_short_to_be_looked_at_have_their_loss(watch):
    """Between two looks the workers have told of half an epoch, then of one and a half at once."""
    monitor, server, curve = watch()
    curve.add(0, 0, {"rows": ROWS // 2, "loss": 0.8})
    curve.add(0, 0, {"rows": 2 * ROWS, "loss": 0.4})
    epoch(monitor, 2)
    curve.add(0, 0, {"rows": EPOCHS * ROWS, "loss": 0.1})
    monitor.finish(server.center, None, EPOCHS * ROWS)
    told = monitor.history.history
    assert monitor.history.epoch == list(range(1, EPOCHS + 1)) == list(range(1, len(told["loss"]) + 1))
    assert told["loss"] == pytest.approx([0.6, 0.4] + [0.1] * (EPOCHS - 2))
    assert [value is None for value in told["val_loss"]] == [True, False] + [True] * (EPOCHS - 3) + [False]
    assert monitor.history.epoch_seconds == sorted(monitor.history.epoch_seconds)


def test_without_validation_there_is_still_the_loss(watch):
    monitor, _, curve = watch(validation=False)
    curve.add(0, 0, {"rows": 100, "loss": 0.3})
    epoch(monitor, 1)
    assert monitor.history.history == {"loss": [0.3]} and monitor.history.final == {}


@pytest.mark.parametrize("rule", ["averaging", "ensemble"])
def test_a_center_that_does_not_move_is_not_evaluated(watch, rule):
    monitor, server, _ = watch(rule=rule)
    epoch(monitor, 1)
    assert "val_loss" not in monitor.history.history
    monitor.finish(server.center, None, ROWS * EPOCHS)
    assert monitor.history.final["val_loss"] == pytest.approx(np.log(2), abs=1e-4)


def test_an_epoch_that_ends_during_an_evaluation_is_not_looked_at(watch):
    import keras

    go, calls = threading.Event(), []

    class Slow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            calls.append(epoch)
            assert go.wait(20)

    monitor, _, _ = watch(callbacks=[Slow()])
    monitor.tick(ROWS)
    monitor.tick(2 * ROWS)  # would hang if it waited
    go.set()
    monitor._future.result()
    epoch(monitor, 3)
    assert monitor.history.epoch == [1, 2, 3] and calls == [0, 2]
    assert [value is None for value in monitor.history.history["val_loss"]] == [False, True, False]


def test_early_stopping_has_patience(watch):
    monitor, server, _ = watch(early_stopping=EarlyStopping(patience=1, min_delta=0.01))
    for number, scale in enumerate((0.5, 0.6, 0.6, 0.7, 0.7), start=1):
        server.scale(scale)
        epoch(monitor, number)
        assert monitor.stop is None
    epoch(monitor, 6)
    assert "val_loss has not improved on" in monitor.stop and "2 evaluated epochs" in monitor.stop
    monitor.tick(7 * ROWS)
    assert monitor._future is None, "evaluated although the run is ending"


@pytest.mark.parametrize(("monitored", "scales"), [("val_accuracy", (0, 1, 0)), ("val_loss", (0.2, 1, 0.5))])
def test_the_best_center_is_restored_when_the_result_is_worse(watch, monitored, scales):
    monitor, server, _ = watch(early_stopping=EarlyStopping(monitored, patience=9, restore_best=True))
    for number, scale in enumerate(scales, start=1):
        server.scale(scale)
        epoch(monitor, number)
    worse = server.center
    server.scale(1)
    best = server.center
    restored, _ = monitor.finish(worse, None, 3 * ROWS)
    assert np.array_equal(restored, best)
    assert monitor.history.restored == 2
    assert monitor.history.final == {"val_loss": monitor.history.history["val_loss"][1], "val_accuracy": 1.0}


def test_a_result_that_is_no_worse_stays(watch):
    monitor, server, _ = watch(early_stopping=EarlyStopping(restore_best=True))
    server.scale(0.5)
    epoch(monitor, 1)
    server.scale(1)
    result, _ = monitor.finish(server.center, None, ROWS)
    assert result is server.center and monitor.history.restored is None


def test_figures_that_are_not_finite_are_none_and_never_the_best(watch):
    monitor, server, _ = watch(early_stopping=EarlyStopping(patience=0, restore_best=True))
    server.center[:] = np.nan
    epoch(monitor, 1)
    assert monitor.history.history["val_loss"] == [None]
    assert monitor.stop == "val_loss was never finite for 1 evaluated epochs"
    weights, _ = monitor.finish(server.center, None, ROWS)
    assert weights is server.center and monitor.history.final["val_loss"] is None


def test_a_target_ends_the_run(watch):
    monitor, server, _ = watch(target_loss=0.3)
    epoch(monitor, 1)
    assert monitor.stop is None
    server.scale(1)
    epoch(monitor, 2)
    assert monitor.stop.startswith("val_loss 0.") and monitor.stop.endswith("has reached the target 0.3")


def test_callbacks_are_called_as_in_keras_with_the_centers_weights(watch):
    import keras

    calls = []

    class Recorder(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            calls.append(("begin", self.params["epochs"], float(np.abs(self.model.get_weights()[0]).sum())))

        def on_epoch_begin(self, epoch, logs=None):
            calls.append(("epoch", epoch))

        def on_epoch_end(self, epoch, logs=None):
            calls.append(("end", epoch, sorted(logs), float(np.abs(self.model.get_weights()[0]).sum())))
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None):
            calls.append(("over", float(np.abs(self.model.get_weights()[0]).sum())))

    monitor, server, _ = watch(callbacks=[Recorder()])
    server.scale(1)
    epoch(monitor, 1)
    assert monitor.stop is None
    epoch(monitor, 2)
    assert monitor.stop == "Recorder stopped the training"
    server.scale(2)
    monitor.finish(server.center, None, 2 * ROWS + 5)
    figures = ["val_accuracy", "val_loss"]
    assert calls == [
        ("begin", EPOCHS, 0.0), ("epoch", 0), ("end", 0, figures, 9.0), ("epoch", 1), ("end", 1, figures, 9.0),
        ("over", 18.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mapping", "loss_weights", "first", "second"),
    [(True, None, 1, 1), (False, None, 1, 1), (True, {"p": 3.0, "q": 0.5}, 3, 0.5), (False, [3.0, 0.5], 3, 0.5)],
)
def test_several_inputs_outputs_and_weights_in_any_structure(mapping, loss_weights, first, second):
    import keras

    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.model_io import to_json
    from dkeras_core.training.monitor import _Center

    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    merged = keras.layers.Concatenate()([a, b])
    p = keras.layers.Dense(1, "sigmoid", kernel_initializer="zeros", name="p")(merged)
    q = keras.layers.Dense(2, kernel_initializer="zeros", name="q")(merged)
    model = keras.Model({"a": a, "b": b}, {"p": p, "q": q}) if mapping else keras.Model([a, b], [p, q])
    x = np.ones((6, 3), np.float32), np.ones((6, 2), np.float32)
    y = np.float32([0, 1] * 3), np.full((6, 2), 2, np.float32)
    losses = ["binary_crossentropy", "mse"]
    losses = dict(zip("pq", losses, strict=True)) if mapping else losses
    rows = Validation(x, y, np.float32([1, 1, 1, 1, 0, 0]), metrics=["mae"])
    settings = SimpleNamespace(loss=losses, loss_weights=loss_weights)
    found = _Center(to_json(model), settings, rows).evaluate(FlatModel(model).get(), None)
    # Keras divides a weighted loss by the number of rows
    assert found["loss"] == pytest.approx((first * np.log(2) + second * 4) * 4 / 6, rel=1e-4)
    assert found["q_mae"] == pytest.approx(2)


def test_what_a_callback_raises_reaches_the_driver(watch):
    import keras

    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("no disk")

    monitor, _, _ = watch(callbacks=[Broken()])
    monitor.tick(ROWS)
    with pytest.raises(RuntimeError, match="no disk"):
        while True:
            monitor.tick(ROWS)


def test_callbacks_that_could_do_nothing_are_refused(watch):
    import keras

    with pytest.raises(ConfigError, match="ReduceLROnPlateau has no effect here"):
        watch(callbacks=[keras.callbacks.ReduceLROnPlateau()])
    with pytest.raises(ConfigError, match="restore_best"):
        watch(callbacks=[keras.callbacks.EarlyStopping(restore_best_weights=True)])
    with pytest.raises(ConfigError, match="not a keras"):
        watch(callbacks=[SimpleNamespace()])


def test_what_cannot_be_measured_is_refused(watch):
    with pytest.raises(ConfigError, match="no validation rows"):
        watch(validation=False, early_stopping=EarlyStopping())
    with pytest.raises(ConfigError, match=r"validation rows cannot be evaluated(.|\n)*acuracy"):
        watch(metrics=("acuracy",))
    with pytest.raises(ConfigError, match=r"val_auc, but measured are val_accuracy, val_loss"):
        watch(early_stopping=EarlyStopping("val_auc"))
