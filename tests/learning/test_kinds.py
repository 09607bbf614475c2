"""Every kind of Keras model trains in windows as ``train_on_batch`` would train it; runs on either backend.

``test_on_jax.py`` runs this file again with KERAS_BACKEND=jax.
"""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from dkeras_core.learning.local import LocalTrainer
from dkeras_core.learning.settings import make_loss, make_optimizer, seed_model

JAX = keras.backend.backend() == "jax"
TAU, BATCH, WIDTH = 3, 4, 5


@keras.saving.register_keras_serializable(package="tests")
class Centred(layers.Layer):
    """A layer of the user's: a weight, moving state, and a loss of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones")
        self.mean = self.add_weight(shape=(shape[-1],), initializer="zeros", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.mean.assign(0.9 * self.mean + 0.1 * ops.mean(inputs, 0))
        self.add_loss(0.01 * ops.sum(ops.square(self.scale)))
        return (inputs - self.mean) * self.scale


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, **named):
        super().__init__(**named)
        self.hidden, self.last = layers.Dense(4, "tanh"), layers.Dense(1, "sigmoid")

    def call(self, inputs):
        return self.last(self.hidden(inputs))


class OwnLoss(keras.Sequential):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return ops.mean(ops.abs(ops.reshape(y, (-1, 1)) - y_pred))


class OwnStep(keras.Sequential):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def stack(*inner, policy=None, model=keras.Sequential):
    return model([keras.Input((WIDTH,)), *inner, layers.Dense(1, "sigmoid", dtype=policy)])


def subclassed():
    model = Subclassed()
    model(np.zeros((1, WIDTH), np.float32))
    return model


def frozen():
    model = stack(layers.Dense(4, "tanh"), layers.Dense(3, "tanh"))
    model.layers[0].trainable = False
    return model


def two_by_two(named=False):
    left, right = keras.Input((WIDTH,), name="left"), keras.Input((WIDTH,), name="right")
    both = layers.Add()([layers.Dense(4)(left), layers.Dense(4)(right)])
    outputs = {
        "kind": layers.Dense(3, "softmax", name="kind")(both),
        "mass": layers.Dense(1, name="mass")(both),
    }
    if named:
        return keras.Model({"left": left, "right": right}, outputs)
    return keras.Model([left, right], list(outputs.values()))


def recurrent():
    return keras.Sequential(
        [keras.Input((6,), dtype="int32"), layers.Embedding(9, 4), layers.LSTM(3), layers.Dense(1, "sigmoid")]
    )


def images():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(2, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(1, "sigmoid"),
        ]
    )


def rows(random, k, b):
    return random.normal(size=(k, b, WIDTH)).astype(np.float32)


def label(random, k, b):
    return (random.random((k, b)) < 0.4).astype(np.float32)


def plain(random, k, b):
    return rows(random, k, b), label(random, k, b), None


def weighted(random, k, b):
    return rows(random, k, b), label(random, k, b), random.random((k, b)).astype(np.float32)


def pairs(random, k, b):
    kinds = random.integers(0, 3, (k, b))
    return [rows(random, k, b), rows(random, k, b)], [kinds, label(random, k, b)], None


def pairs_weighted(random, k, b):
    features, labels, _ = pairs(random, k, b)
    return features, labels, [random.random((k, b)).astype(np.float32) for _ in range(2)]


def pairs_named(random, k, b):
    (left, right), (kinds, mass), _ = pairs(random, k, b)
    return {"left": left, "right": right}, {"kind": kinds, "mass": mass}, None


def tokens(random, k, b):
    return random.integers(0, 9, (k, b, 6)).astype(np.int32), label(random, k, b), None


def pictures(random, k, b):
    return random.integers(0, 256, (k, b, 6, 6, 1)).astype(np.uint8), label(random, k, b), None


SGD = {"name": "sgd", "learning_rate": 0.1}
SPARSE = "sparse_categorical_crossentropy"


@dataclass
class Kind:
    """One kind of model, its data, and how its windows run on (TensorFlow, JAX)."""

    build: Any
    window: Any = plain
    optimizer: Any = field(default_factory=lambda: dict(SGD))
    loss: Any = "binary_crossentropy"
    fused: tuple[str, str] = ("xla", "jax")
    tolerance: float = 2e-6
    settings: dict = field(default_factory=dict)
    shapes: tuple = ((TAU, BATCH), (TAU, BATCH), (2, BATCH), (1, 3))


def scaled():
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**7, dynamic_growth_steps=4)


KINDS = {
    "dropout and normalisation": Kind(
        lambda: stack(layers.Dense(6, "tanh"), layers.BatchNormalization(), layers.Dropout(0.4)),
        weighted,
        shapes=((TAU, BATCH), (2, BATCH)),  # a partial batch runs without XLA, which draws other numbers
    ),
    "two inputs, two outputs": Kind(
        two_by_two, pairs_weighted, "adam", [SPARSE, "mse"], settings={"loss_weights": [1.0, 0.3]}
    ),
    "named inputs and outputs": Kind(
        lambda: two_by_two(named=True),
        pairs_named,
        loss={"kind": SPARSE, "mass": {"class_name": "Huber", "config": {"delta": 0.5}}},
        settings={"loss_weights": {"kind": 0.5, "mass": 2.0}},
    ),
    "a layer of the user's": Kind(lambda: stack(Centred())),
    "subclassed": Kind(subclassed),
    "frozen layers": Kind(frozen, optimizer="adam"),
    "regularised and constrained": Kind(
        lambda: stack(
            layers.Dense(4, "relu", kernel_regularizer="l2", activity_regularizer="l1", kernel_constraint="unit_norm")
        )
    ),
    "weight decay, clipping, averaging": Kind(
        stack,
        optimizer={
            "name": "adamw",
            "learning_rate": 0.01,
            "weight_decay": 0.1,
            "global_clipnorm": 0.1,
            "use_ema": True,
            "ema_momentum": 0.5,
            "ema_overwrite_frequency": 4,
        },
    ),
    "accumulated gradients": Kind(stack, optimizer={**SGD, "gradient_accumulation_steps": 2}),
    "a rate that decays": Kind(stack, optimizer=lambda: make_optimizer(SGD, scale=2, warmup_steps=4)),
    "mixed bfloat16": Kind(
        lambda: stack(layers.Dense(6, "relu", dtype="mixed_bfloat16"), policy="float32"), tolerance=2e-2
    ),
    "mixed float16, scaled loss": Kind(
        lambda: stack(layers.Dense(6, "relu", dtype="mixed_float16"), policy="float32"),
        optimizer=scaled,
        tolerance=2e-3,
    ),
    "embedding and recurrence": Kind(recurrent, tokens, "adam", tolerance=1e-5),
    "images": Kind(images, pictures, fused=("graph (", "jax")),
    "a loss of its own": Kind(lambda: stack(model=OwnLoss)),
    "a step of its own": Kind(lambda: stack(model=OwnStep), fused=("no (OwnStep", "no (OwnStep")),
}
FAST = ("dropout and normalisation",)


def optimizer_of(kind):
    return kind.optimizer() if callable(kind.optimizer) else make_optimizer(kind.optimizer)


def built(kind):
    keras.utils.set_random_seed(7)
    return kind.build()


def everything(model):
    return [variable.numpy() for variable in [*model.weights, *model.optimizer.variables]]


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in KINDS])
def test_windows_make_the_steps_of_keras(name):
    kind = KINDS[name]
    random = np.random.default_rng(0)
    windows = [kind.window(random, k, b) for k, b in kind.shapes]
    local = LocalTrainer(
        built(kind),
        optimizer_of(kind),
        kind.loss,
        batch_size=BATCH,
        communication_period=TAU,
        seed=5,
        **kind.settings,
    )
    x = local.flat.get()
    start, losses = x.copy(), []
    for data in windows:
        local.window(data, x)
        losses.extend(local.losses)
    assert local.fused.startswith(kind.fused[JAX]), local.fused

    # XLA draws other random numbers than TensorFlow's graphs do, so the reference is compiled alike
    reference = built(kind)
    reference.compile(
        optimizer_of(kind), make_loss(kind.loss), **kind.settings, jit_compile=JAX or kind.fused[0] == "xla"
    )
    reference.optimizer.build(reference.trainable_variables)
    seed_model(reference, 5)
    expected = []
    for features, labels, weights in windows:
        for step in range(len(keras.tree.flatten(features)[0])):
            at = keras.tree.map_structure(
                lambda a, step=step: None if a is None else a[step], (features, labels, weights)
            )
            expected.append(float(reference.train_on_batch(*at, return_dict=True)["loss"]))
    np.testing.assert_allclose(losses, expected, atol=kind.tolerance, rtol=kind.tolerance)
    for mine, theirs in zip(everything(local.model), everything(reference), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=kind.tolerance, rtol=kind.tolerance)
    np.testing.assert_array_equal(x, local.flat.get())
    assert np.abs(x - start).max() > 1e-3


@pytest.mark.parametrize("named", [pytest.param(False, marks=pytest.mark.slow), True])
def test_columns_come_as_tuples_whatever_the_model_calls_them(named):
    """The feed hands out tuples in the order of the columns, and one weight a row."""
    kind = KINDS["named inputs and outputs" if named else "two inputs, two outputs"]
    features, labels, _ = pairs(np.random.default_rng(0), TAU, BATCH)
    weights = np.random.default_rng(1).random((TAU, BATCH)).astype(np.float32)
    vectors = []
    for data in [
        (tuple(features), tuple(labels), weights),
        (features, labels, [weights, weights]),
    ]:
        local = LocalTrainer(built(kind), "sgd", kind.loss, batch_size=BATCH, communication_period=TAU)
        x = local.flat.get()
        local.window(data, x)
        assert local.fused == ("jax" if JAX else "xla")
        vectors.append(x)
    np.testing.assert_allclose(*vectors, atol=1e-7)


@pytest.mark.slow
def test_the_same_seed_repeats_a_run_bit_for_bit():
    kind = KINDS["dropout and normalisation"]
    random = np.random.default_rng(0)
    windows = [kind.window(random, k, b) for k, b in [(TAU, BATCH), (1, BATCH), (1, 3)]]
    vectors = []
    for seed in (1, 1, 2):
        model = built(kind)
        local = LocalTrainer(model, "adam", batch_size=BATCH, communication_period=TAU, seed=seed)
        x, gradient = local.flat.get(), np.empty(local.flat.n, np.float32)
        for data in windows:
            local.window(data, x)
        local.gradient(windows[0], gradient, x)
        vectors.append(np.concatenate([x, gradient, local.flat.get_state()]))
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])
