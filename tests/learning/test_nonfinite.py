import keras
import numpy as np
import pytest
from keras import layers, ops

from dkeras_core.learning.local import LocalTrainer

TAU, BATCH, WIDTH = 3, 4, 5


@keras.saving.register_keras_serializable(package="tests")
class Root(layers.Layer):
    """Its output is finite at 0, its gradient is not."""

    def call(self, inputs):
        return ops.sqrt(ops.abs(inputs))


def trainer(*stack, rate=0.1):
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.Input((WIDTH,)), *stack], name="inner")
    model = keras.Sequential([keras.Input((WIDTH,)), inner, layers.Dense(1, name="score")])
    return LocalTrainer(
        model, {"name": "sgd", "learning_rate": rate}, "mse", batch_size=BATCH, communication_period=TAU
    )


def window(seed=0):
    random = np.random.default_rng(seed)
    return random.normal(size=(TAU, BATCH, WIDTH)).astype(np.float32), np.ones((TAU, BATCH), np.float32)


def explained(local, data, x=None):
    x = local.flat.get() if x is None else x
    before = x.copy()
    assert not np.isfinite(local.window(data, x))
    np.testing.assert_array_equal(x, before)  # left for the explanation
    return local.explain_nonfinite(data, x)


def test_a_layer_that_overflows_is_named_with_the_step():
    features, labels = window()
    features[1, 2] = 1e30
    local = trainer(layers.Dense(4, name="hidden"), layers.Activation("exponential", name="burst"))
    assert explained(local, (features, labels)).startswith(
        "step 2 of 3: layer 'burst' gives a value that is not finite"
    )


def test_a_gradient_that_is_not_finite_is_named():
    features, labels = window()
    features[2] = 0
    local = trainer(layers.Dense(4, name="hidden", use_bias=False), Root())
    x = local.flat.get()
    local.window((features, labels), x)
    assert np.isfinite(local.losses).all() and not np.isfinite(x).all()
    assert local.explain_nonfinite((features, labels), trainer(layers.Dense(4, use_bias=False), Root()).flat.get()) == (
        "step 3 of 3: the gradient of inner/hidden/kernel[0, 0] is nan, every layer's output is finite"
    )
    assert local.explain_nonfinite((features, labels), x).startswith(
        "parameter inner/hidden/kernel[0, 0] is nan before"
    )


def test_a_step_that_is_too_long_is_named():
    features, labels = window()
    local = trainer(layers.Dense(4, name="hidden"), rate=1e38)
    text = explained(local, (features * 100, labels * 100))
    assert text.startswith("step 1 of 3: the optimizer makes parameter inner/hidden/kernel[")


@pytest.mark.parametrize(("array", "name"), [(0, "features"), (1, "labels")])
def test_rows_that_are_not_finite_are_named(array, name):
    data = window()
    data[array][1, 3] = np.nan
    assert explained(trainer(layers.Dense(4)), data) == f"step 2 of 3: the {name} of row 3 of the batch are not finite"


def test_what_stays_finite_with_a_new_optimizer_says_where_it_was_steepest():
    local = trainer(layers.Dense(4, name="hidden"))
    text = local.explain_nonfinite(window(), local.flat.get())
    assert text.startswith(
        "made again with a new state of the optimizer, the window stays finite; its largest gradient"
    )
