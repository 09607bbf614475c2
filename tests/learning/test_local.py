from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from dkeras_core.errors import ConfigError, DataError, TrainingError
from dkeras_core.learning.batches import class_weighted
from dkeras_core.learning.flat import aligned
from dkeras_core.learning.fused_tensorflow import FusedWindow
from dkeras_core.learning.local import LocalTrainer
from dkeras_core.learning.settings import make_optimizer, seed_model

TAU, BATCH, WIDTH = 4, 8, 6


def network(dropout=0.0, normalised=True, regularised=True):
    keras.utils.set_random_seed(7)
    stack = [keras.Input((WIDTH,)), layers.Dense(9, "tanh", kernel_regularizer="l2" if regularised else None)]
    if normalised:
        stack.append(layers.BatchNormalization())
    if dropout:
        stack.append(layers.Dropout(dropout))
    return keras.Sequential([*stack, layers.Dense(1, "sigmoid")])


def logistic():
    """Where the architecture does not matter, the one that compiles fastest."""
    keras.utils.set_random_seed(7)
    return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(1, "sigmoid")])


def window(k=TAU, b=BATCH, seed=0, weights=False):
    random = np.random.default_rng(seed)
    features = random.normal(size=(k, b, WIDTH)).astype(np.float32)
    labels = (random.random((k, b)) < 0.4).astype(np.float32)
    return features, labels, (random.random((k, b)) if weights else None)


def trainer(model=None, optimizer="sgd", **settings):
    return LocalTrainer(model or logistic(), optimizer, batch_size=BATCH, communication_period=TAU, **settings)


def keras_steps(model, optimizer, windows):
    """The reference: plain ``train_on_batch``; returns the mean loss of each window."""
    model.compile(make_optimizer(optimizer), "binary_crossentropy")
    means = []
    for features, labels, weights in windows:
        losses = []
        for step in range(len(labels)):
            weight = None if weights is None else weights[step]
            losses.append(float(model.train_on_batch(features[step], labels[step], sample_weight=weight)))
        means.append(np.mean(losses))
    return means


def parameters(model):
    return np.concatenate([v.numpy().reshape(-1) for v in model.weights])


@pytest.mark.parametrize(
    ("optimizer", "weights"),
    [({"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True}, False), ("adam", True)],
    ids=["nesterov", "adam-weighted"],
)
def test_windows_equal_keras_steps(optimizer, weights):
    # Two full windows, a short one, and a partial batch: the shape of an epoch.
    windows = [window(seed=i, weights=weights) for i in range(2)]
    windows += [window(k=3, seed=2, weights=weights), window(k=1, b=5, seed=3, weights=weights)]
    ours, reference = network(), network()
    local = trainer(ours, optimizer)
    x = local.flat.get()
    losses = [local.window(w, x) for w in windows]
    np.testing.assert_allclose(losses, keras_steps(reference, optimizer, windows), atol=1e-6)
    np.testing.assert_allclose(parameters(ours), parameters(reference), atol=1e-6)
    np.testing.assert_array_equal(x, local.flat.get())
    assert local.fused == "xla"
    assert (local.steps, local.rows) == (2 * TAU + 3 + 1, (2 * TAU + 3) * BATCH + 5)
    assert int(local.optimizer.iterations.numpy()) == local.steps


def test_windows_of_several_forms_are_traced_once_each(monkeypatch):
    # The same trainer sees labels of another type and windows with and without weights, in turn, twice
    forms = [window(), window(weights=True), (window()[0], window()[1].astype(np.int64), None)] * 2
    ours, reference = logistic(), logistic()
    local = trainer(ours)
    x = local.flat.get()
    losses = [local.window(w, x) for w in forms[:3]]
    monkeypatch.setattr(local._path._window, "_traced", None)
    losses += [local.window(w, x) for w in forms[3:]]
    np.testing.assert_allclose(losses, keras_steps(reference, "sgd", forms), atol=1e-6)
    np.testing.assert_allclose(parameters(ours), parameters(reference), atol=1e-6)
    assert local.fused == "xla"


def test_a_tensorflow_without_the_short_way_in_takes_the_long_one(monkeypatch):
    usual, other = trainer(), trainer()
    x, y = usual.flat.get(), other.flat.get()
    usual.window(window(), x)
    kind = type(tf.function(abs))
    traced = kind.get_concrete_function
    monkeypatch.setattr(kind, "get_concrete_function", lambda *given: SimpleNamespace(graph=traced(*given).graph))
    other.window(window(), y)
    np.testing.assert_array_equal(x, y)
    assert other.fused == "xla"


@pytest.mark.parametrize(("how", "shared"), [("xla", True), ("graph", False)])
def test_aligned_memory_goes_into_xla_as_it_is(how, shared):
    flat = trainer().flat
    path = FusedWindow(flat, TAU, BATCH, how)
    given, enter = [], path._window
    path._window = lambda *arguments: (given.append(arguments[3]), enter(*arguments))[1]
    x = aligned(np.append(flat.get(), np.float32(0)))
    path.run(*window(), x[:-1])
    path.run(*window(), x[1:])
    assert [tf.is_tensor(vector) for vector in given] == [shared, False]
    if shared:
        assert np.shares_memory(np.asarray(given[0]), x)


def test_x_goes_in_and_out():
    one, two = trainer(logistic()), trainer(logistic())
    x = one.flat.get() + np.float32(0.25)
    two.flat.set(x)
    given = x.copy()
    assert one.window(window(), given) == two.window(window())
    np.testing.assert_array_equal(given, two.flat.get())
    assert not np.array_equal(given, x)


def test_a_window_longer_than_the_period_is_trained_whole():
    ours, reference = logistic(), logistic()
    local = trainer(ours)
    loss = local.window(window(k=2 * TAU + 1), local.flat.get())
    np.testing.assert_allclose(loss, keras_steps(reference, "sgd", [window(k=2 * TAU + 1)]), atol=1e-6)
    np.testing.assert_allclose(parameters(ours), parameters(reference), atol=1e-6)


def test_class_weights_multiply_sample_weights():
    features, labels, weights = window(weights=True)
    ours, reference = logistic(), logistic()
    trainer(ours, class_weight={1: 3.0}).window((features, labels, weights))
    keras_steps(reference, "sgd", [(features, labels, weights * np.where(labels == 1, 3, 1))])
    np.testing.assert_allclose(parameters(ours), parameters(reference), atol=1e-6)


def test_several_classes_with_class_weights():
    def build():
        keras.utils.set_random_seed(1)
        return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(3, "softmax")])

    labels = np.random.default_rng(0).integers(0, 3, (TAU, BATCH))
    loss, weights = "sparse_categorical_crossentropy", np.array([1, 1, 5], np.float32)[labels]
    ours, reference = build(), build()
    local = LocalTrainer(ours, "sgd", loss, batch_size=BATCH, communication_period=TAU, class_weight={2: 5.0})
    local.window((window()[0], labels))
    reference.compile("sgd", loss)
    for step in range(TAU):
        reference.train_on_batch(window()[0][step], labels[step], sample_weight=weights[step])
    np.testing.assert_allclose(parameters(ours), parameters(reference), atol=1e-6)


def test_classes_are_found_in_every_form_of_labels():
    labels = np.array([[0, 2], [1, 1]])
    for form in (labels, labels[..., None].astype(np.float32), np.eye(3)[labels]):
        weights = class_weighted(form, None, {2: 5.0, 1: 0.5})
        np.testing.assert_array_equal(weights, [[1, 5], [0.5, 0.5]])


def test_dropout_draws_anew_in_every_step_and_is_seeded_bit_for_bit():
    # The same batch and a learning rate of zero: without dropout, all losses would be equal.
    features, labels, _ = window(k=1)
    model = network(dropout=0.5, normalised=False, regularised=False)
    local = LocalTrainer(model, {"name": "sgd", "learning_rate": 0.0}, batch_size=BATCH, communication_period=1, seed=1)
    losses = [local.window((features, labels)) for _ in range(6)]
    assert len(set(losses)) > 3
    seed_model(model, 1)
    assert [local.window((features, labels)) for _ in range(6)] == losses
    seed_model(model, 2)
    assert [local.window((features, labels)) for _ in range(6)] != losses


def test_the_rate_schedule_sees_the_steps():
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([TAU - 1], [0.1, 0.0])
    local = trainer(optimizer=keras.optimizers.SGD(decay))
    x = local.flat.get()
    local.window(window(), x)
    before = x.copy()
    local.window(window(), x)
    np.testing.assert_array_equal(x, before)


def test_convolutions_take_the_plain_graph():
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(1, "sigmoid")]
    )
    local = LocalTrainer(model, batch_size=4, communication_period=2)
    local.window((np.ones((2, 4, 8, 8, 1), np.uint8), np.ones((2, 4), np.float32)))
    assert local.fused == "graph (Conv2D is faster without XLA on a CPU)"


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


class Unbroken(layers.Layer):
    """Counts its calls in a variable, and cannot be compiled by XLA."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), trainable=False, initializer="zeros")

    def call(self, inputs):
        import tensorflow as tf

        self.calls.assign_add(1.0)
        return inputs + 0 * tf.cast(tf.strings.length(tf.strings.as_string(inputs)), "float32")


def test_a_train_step_of_its_own_is_kept():
    model = OwnStep([keras.Input((WIDTH,)), layers.Dense(1, "sigmoid")])
    keras.utils.set_random_seed(1)
    local = trainer(model)
    x = local.flat.get()
    losses = [local.window(window(), x) for _ in range(5)]
    assert local.fused == "no (OwnStep has a train_step of its own)"
    assert losses[-1] < losses[0]


def test_what_xla_cannot_compile_runs_as_a_graph_from_the_same_start():
    model = keras.Sequential([keras.Input((WIDTH,)), Unbroken(), layers.Dense(1, "sigmoid")])
    local = trainer(model)
    local.window(window())
    assert local.fused.startswith("graph (InvalidArgumentError: ")
    assert float(model.layers[0].calls.numpy()) == TAU


@pytest.mark.parametrize("in_and_out", [True, False])
def test_what_cannot_be_fused_takes_keras_steps_from_the_same_start(monkeypatch, in_and_out):
    from dkeras_core.learning.fused_tensorflow import FusedWindow

    def broken(self, xs, ys, ws, x):  # fails half-way
        self._flat.set(np.full(self._flat.n, 9, np.float32))
        if x is not None:
            x[:] = 9
        raise RuntimeError("not on this machine\nlong traceback")

    monkeypatch.setattr(FusedWindow, "run", broken)
    ours, reference = logistic(), logistic()
    local = trainer(ours)
    loss = local.window(window(), local.flat.get() if in_and_out else None)
    assert [loss] == pytest.approx(keras_steps(reference, "sgd", [window()]), abs=1e-6)
    assert local.fused == "no (RuntimeError: not on this machine)"
    np.testing.assert_allclose(parameters(ours), parameters(reference), atol=1e-6)


def test_a_failure_on_every_path_is_told_and_leaves_the_model_as_it_was():
    def loss(y, predicted):
        raise ValueError("this loss is broken")

    ours = logistic()
    local = trainer(ours, loss=loss)
    before, x = parameters(ours), local.flat.get()
    with pytest.raises(TrainingError, match=r"window of local steps failed.*this loss is broken"):
        local.window(window(), x)
    np.testing.assert_array_equal(parameters(ours), before)
    np.testing.assert_array_equal(x, local.flat.get())


def test_the_plain_graph_trains_alike():
    from dkeras_core.learning.fused_tensorflow import FusedWindow

    windows = [window(weights=True), window(k=2, weights=True), window(k=1, b=3, weights=True)]
    ours, reference = logistic(), logistic()
    local = trainer(ours)
    local._path = FusedWindow(local.flat, TAU, BATCH, "graph")
    x = local.flat.get()
    losses = [local.window(w, x) for w in windows]
    np.testing.assert_allclose(losses, keras_steps(reference, "sgd", windows), atol=1e-6)
    np.testing.assert_allclose(x, parameters(reference), atol=1e-6)


def test_compile_time_is_told_apart():
    local = trainer()
    local.window(window())
    assert local.compile_seconds > 0 and local.compute_seconds == 0
    local.window(window())
    assert 0 < local.compute_seconds == local.window_seconds < local.compile_seconds


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((np.zeros((2, 3, 5), np.float32), np.zeros((2, 3))), r"shape \[5\].*takes \[6\]"),
        ((np.zeros((2, 3, 6), np.float32), np.zeros((2, 4))), r"the same k and b"),
        ((np.zeros((0, 3, 6), np.float32), np.zeros((0, 3))), r"\(0, 3\)"),
        (((np.zeros((2, 3, 6)), np.zeros((2, 3, 6))), np.zeros((2, 3))), "takes 1 inputs, the window holds 2"),
    ],
)
def test_windows_that_do_not_fit_are_refused(bad, message):
    with pytest.raises(DataError, match=message):
        trainer().window(bad)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="batch size 0"):
        LocalTrainer(logistic(), batch_size=0)
    with pytest.raises(ConfigError, match=r"unknown loss 'binary_crossentropie'.*'binary_crossentropy'"):
        LocalTrainer(logistic(), loss="binary_crossentropie")
