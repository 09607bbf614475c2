"""Gradients and single steps, the two points of Nesterov's method, and schedules."""

import keras
import numpy as np
import pytest
from keras import layers

from dkeras_core.errors import ConfigError
from dkeras_core.learning.flat import aligned
from dkeras_core.learning.local import LocalTrainer
from dkeras_core.learning.settings import make_optimizer

JAX = keras.backend.backend() == "jax"
BATCH, WIDTH = 8, 6
NESTEROV = {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True}


def logistic():
    keras.utils.set_random_seed(7)
    return keras.Sequential([keras.Input((WIDTH,)), layers.Dense(1, "sigmoid", kernel_regularizer="l2")])


def window(k=1, b=BATCH, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random((k, b)) < 0.4).astype(np.float32)
    return random.normal(size=(k, b, WIDTH)).astype(np.float32), labels


def trainer(optimizer="sgd", period=1, **settings):
    return LocalTrainer(logistic(), optimizer, batch_size=BATCH, communication_period=period, **settings)


class Scaled(layers.Layer):
    """One vector of weights, which lies in the flat vector as it lies in its variable."""

    def build(self, shape):
        self.factors = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, inputs):
        return keras.ops.sum(inputs * self.factors, -1, keepdims=True)


@pytest.mark.parametrize("layer", [Scaled(), layers.Dense(1, use_bias=False)], ids=["vector", "matrix"])
@pytest.mark.parametrize("how", ["window", "gradient", "step"])
def test_variables_do_not_lie_in_the_memory_of_x(layer, how):
    # Aligned memory goes into compiled calls without a copy; what the worker does to x later must not reach the model
    local = LocalTrainer(keras.Sequential([keras.Input((WIDTH,)), layer]), "sgd", "mse", batch_size=BATCH)
    x = aligned(local.flat.get())
    out = np.ones_like(x)
    call = {
        "window": lambda: local.window(window(k=2), x),
        "gradient": lambda: local.gradient(window(k=2), out, x),
        "step": lambda: local.step(out, x),
    }[how]
    for _ in range(2):
        call()
        variables = local.flat.get()
        np.testing.assert_array_equal(variables, x)
        x += 5
        np.testing.assert_array_equal(local.flat.get(), variables)


def uncompiled(local):
    *_, (local.fused, local._path) = local._paths
    return local


def test_the_gradient_is_that_of_the_formula():
    local = trainer()
    x = local.flat.get() + np.float32(0.1)
    features, labels = window(k=3)  # longer than the period: three calls, one mean
    out = np.empty_like(x)
    loss = local.gradient((features, labels), out, x)
    rows, truth = features.reshape(-1, WIDTH).astype(np.float64), labels.reshape(-1)
    score = 1 / (1 + np.exp(-(rows @ x[:WIDTH] + x[WIDTH])))
    penalty = 0.01 * np.append(x[:WIDTH], 0)
    expected = np.append(rows.T @ (score - truth), np.sum(score - truth)) / len(truth) + 2 * penalty
    np.testing.assert_allclose(out, expected, atol=1e-6)
    entropy = -np.mean(truth * np.log(score) + (1 - truth) * np.log(1 - score))
    assert loss == pytest.approx(entropy + 0.01 * np.sum(x[:WIDTH] ** 2), abs=1e-5)
    assert (local.steps, local.rows, local.fused) == (0, 3 * BATCH, "jax" if JAX else "xla")


@pytest.mark.parametrize("optimizer", ["adam", NESTEROV])
def test_gradient_and_step_make_the_steps_of_windows(optimizer):
    whole, halves = trainer(optimizer), trainer(optimizer)
    x, y = whole.flat.get(), whole.flat.get()
    gradient = np.empty_like(x)
    for number, rows in enumerate([BATCH, BATCH, 5]):
        loss = whole.window(window(b=rows, seed=number), x)
        assert halves.gradient(window(b=rows, seed=number), gradient, y) == pytest.approx(loss, abs=1e-6)
        halves.step(gradient, y)
    np.testing.assert_allclose(y, x, atol=1e-6)
    np.testing.assert_array_equal(y, halves.flat.get())
    assert halves.steps == whole.steps == 3


def test_the_gradient_of_the_variables_is_taken_when_no_vector_is_given():
    local = trainer()
    x = local.flat.get()
    out, other = np.empty_like(x), np.empty_like(x)
    local.gradient(window(), out)
    local.gradient(window(), other, x)
    np.testing.assert_allclose(out, other, atol=1e-7)


def test_the_loss_scale_of_half_precision_does_not_leave_the_worker():
    model = keras.Sequential([keras.Input((WIDTH,)), layers.Dense(1, "sigmoid", dtype="mixed_float16")])
    scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**40)
    local = LocalTrainer(model, scaled, batch_size=BATCH, communication_period=1)
    x = local.flat.get()
    gradient, before = np.empty_like(x), x.copy()
    local.gradient(window(), gradient, x)  # overflows at first: the scale is halved until it fits
    assert np.isfinite(gradient).all() and 1e-3 < np.abs(gradient).max() < 10
    assert local.optimizer.dynamic_scale.numpy() < 2.0**40
    local.step(gradient, x)
    np.testing.assert_allclose(x, before - 0.1 * gradient, atol=2e-3)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


def test_a_train_step_of_its_own_has_no_gradient_to_exchange():
    model = OwnStep([keras.Input((WIDTH,)), layers.Dense(1, "sigmoid")])
    local = LocalTrainer(model, "sgd", batch_size=BATCH, communication_period=1)
    with pytest.raises(ConfigError, match=r"OwnStep has a train_step of its own, which hides its gradient"):
        local.gradient(window(), np.empty(local.flat.n, np.float32))


def test_what_cannot_be_compiled_takes_gradients_uncompiled():
    local, reference = uncompiled(trainer()), trainer()
    x = local.flat.get()
    out, expected = np.empty_like(x), np.empty_like(x)
    assert local.gradient(window(k=2), out, x) == pytest.approx(reference.gradient(window(k=2), expected, x), abs=1e-6)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    other = x.copy()
    local.step(out, x)
    reference.step(out, other)
    np.testing.assert_allclose(x, other, atol=1e-7)
    assert local.fused == "no"


@pytest.mark.parametrize("compiled", [True, False])
def test_lookahead_steps_are_those_of_the_paper(compiled):
    """v <- delta v - eta g(x + delta v); x <- x + v (arXiv 1412.6651, Algorithm 2), whatever happens to x between."""
    local, reference = trainer(NESTEROV, period=2, lookahead=True), trainer()
    if not compiled:
        uncompiled(local)
    x = local.flat.get()
    mine, v, gradient = x.copy(), np.zeros_like(x), np.empty_like(x)
    for number in range(3):
        features, labels = window(k=2, seed=number)
        local.window((features, labels), x)
        for step in range(2):
            reference.gradient(
                (features[step : step + 1], labels[step : step + 1]), gradient, mine + np.float32(0.9) * v
            )
            v = np.float32(0.9) * v - np.float32(0.1) * gradient
            mine += v
        np.testing.assert_allclose(x, mine, atol=2e-6)
        x -= np.float32(0.05)  # the elastic step
        mine -= np.float32(0.05)


@pytest.mark.parametrize("optimizer", ["adam", {**NESTEROV, "nesterov": False}])
def test_lookahead_needs_nesterov(optimizer):
    with pytest.raises(ConfigError, match="look-ahead needs Nesterov momentum"):
        trainer(optimizer, lookahead=True)


def test_a_scaled_rate_is_a_plain_number_without_warm_up():
    optimizer = make_optimizer({"name": "adam", "learning_rate": 0.01}, scale=4)
    assert optimizer.get_config()["learning_rate"] == pytest.approx(0.04)


@pytest.mark.parametrize("form", ["name", "schedule", "scaled loss"])
def test_rates_grow_to_their_scale_inside_windows(form):
    rate = 0.1
    if form == "schedule":
        rate = keras.optimizers.schedules.PiecewiseConstantDecay([4], [0.1, 0.01])
    setting = keras.optimizers.SGD(rate)
    if form == "scaled loss":
        setting = keras.optimizers.LossScaleOptimizer(setting)
    optimizer = make_optimizer(setting, scale=2, warmup_steps=4)
    local = trainer(optimizer, period=3)
    x, gradient = local.flat.get(), np.ones(local.flat.n, np.float32)
    moves = []
    for _ in range(6):
        before = x.copy()
        local.step(gradient, x)
        moves.append(float((before - x)[0]))
    last = 0.02 if form == "schedule" else 0.2
    np.testing.assert_allclose(moves, [0.05, 0.1, 0.15, 0.2, 0.2, last], atol=1e-6)


def test_a_scaled_optimizer_travels_by_its_configuration():
    optimizer = make_optimizer(make_optimizer("adam", scale=2, warmup_steps=3))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    for _ in range(2):
        assert float(again.learning_rate) == pytest.approx(0.002 / 3, rel=1e-5)


@pytest.mark.parametrize("settings", [{"scale": 0}, {"scale": float("nan")}, {"warmup_steps": -1}])
def test_bad_scales_are_refused(settings):
    with pytest.raises(ConfigError, match="scaled by a positive number"):
        make_optimizer("adam", **settings)
