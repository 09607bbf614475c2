import keras
import numpy as np
import pytest
from keras import layers

from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.learning.flat import ALIGNMENT, FlatModel, aligned


def sequential():
    return keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(1)])


def functional():
    left, right = keras.Input((3,)), keras.Input((2,))
    both = layers.Concatenate()([layers.Dense(4)(left), right])
    return keras.Model([left, right], [layers.Dense(1)(both), layers.Dense(2)(layers.Dropout(0.5)(both))])


def half_precision():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="mixed_float16"), layers.Dense(1)])


@pytest.mark.parametrize("build", [sequential, functional, half_precision])
def test_get_and_set_are_inverse(build):
    flat = FlatModel(build())
    x = np.arange(flat.n, dtype=np.float32) / 7
    flat.set(x)
    out = np.empty_like(x)
    assert flat.get(out) is out
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(out, np.concatenate([v.numpy().reshape(-1) for v in flat.model.trainable_variables]))


@pytest.mark.parametrize("n", [1, 17, 4096])
def test_aligned_is_a_copy_at_an_aligned_place(n):
    values = np.arange(n + 1, dtype=np.float32)[1:]
    copy = aligned(values)
    assert copy.ctypes.data % ALIGNMENT == 0
    assert copy.dtype == np.float32
    np.testing.assert_array_equal(copy, values)
    assert not np.shares_memory(copy, values)


class Counting(layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(shape=(), dtype="int32", trainable=False, initializer="zeros")

    def call(self, inputs):
        return inputs


def test_state_holds_moving_statistics_and_neither_seeds_nor_counters():
    model = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(), Counting(), layers.Dropout(0.5), layers.Dense(1)]
    )
    flat = FlatModel(model)
    assert (flat.n, flat.state_n) == (4 + 4 + 5, 8)
    seed = [v.numpy() for v in model.non_trainable_variables if "seed" in v.path]
    flat.set_state(np.arange(8, dtype=np.float32))
    np.testing.assert_array_equal(model.layers[0].moving_variance.numpy(), [4, 5, 6, 7])
    np.testing.assert_array_equal(flat.get_state(), np.arange(8))
    assert len(seed) == 1
    np.testing.assert_array_equal(seed[0], next(v for v in model.non_trainable_variables if "seed" in v.path).numpy())


def test_narrow_variables_are_rounded_once():
    flat = FlatModel(keras.Sequential([keras.Input((4,)), layers.Dense(3, dtype="bfloat16")]))
    x = np.linspace(-1, 1, flat.n, dtype=np.float32)
    flat.set(x)
    once = flat.get()
    np.testing.assert_allclose(once, x, rtol=2**-8)
    flat.set(once)
    np.testing.assert_array_equal(flat.get(), once)


def test_a_returned_vector_does_not_follow_the_model():
    flat = FlatModel(sequential())
    x = flat.get()
    before = x.copy()
    flat.set(x + 1)
    np.testing.assert_array_equal(x, before)
    x += 5
    np.testing.assert_array_equal(flat.get(), before + 1)


@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.zeros(36, np.float64), [0.0] * 36])
def test_a_wrong_vector_is_refused(wrong):
    flat = FlatModel(keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(1), layers.Dense(1)]))
    with pytest.raises(TrainingError, match=f"float32\\[{flat.n}\\]"):
        flat.set(wrong)
    if isinstance(wrong, np.ndarray):
        with pytest.raises(TrainingError):
            flat.get(wrong)


def test_models_without_variables_are_refused():
    with pytest.raises(ConfigError, match="unknown"):
        FlatModel(keras.Sequential([layers.Dense(1)]))
    with pytest.raises(ConfigError, match="no trainable weights"):
        FlatModel(keras.Sequential([keras.Input((2,)), layers.ReLU()]))


def test_a_place_in_the_vector_has_a_name():
    flat = FlatModel(keras.Sequential([keras.Input((4,)), layers.Dense(5, name="a"), layers.Dense(1, name="b")]))
    assert [flat.name_of(i) for i in (0, 8, 24, 25, flat.n - 1)] == [
        "a/kernel[0, 0]",
        "a/kernel[1, 3]",
        "a/bias[4]",
        "b/kernel[0, 0]",
        "b/bias[0]",
    ]
    flat = FlatModel(keras.Sequential([keras.Input((4,)), layers.BatchNormalization(name="c")]))
    assert flat.state_name_of(5) == "c/moving_variance[1]"
