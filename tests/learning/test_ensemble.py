"""An ensemble predicts the mean of its members, whatever their inputs and outputs, and travels like any model."""

import keras
import numpy as np
import pytest

from dkeras_core.errors import ConfigError
from dkeras_core.learning import model_io
from dkeras_core.learning.ensemble import ensemble_model
from dkeras_core.learning.flat import FlatModel


def vectors_of(model, count):
    random = np.random.default_rng(1)
    return [random.normal(scale=0.5, size=FlatModel(model).n).astype(np.float32) for _ in range(count)]


def sequential():
    return keras.Sequential([keras.Input((5,), name="features"), keras.layers.Dense(3, "relu"), keras.layers.Dense(1)])


def two_in_two_out():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    merged = keras.layers.Dense(4, "tanh")(keras.layers.Concatenate()([a, b]))
    return keras.Model({"a": a, "b": b}, [keras.layers.Dense(1)(merged), keras.layers.Dense(2, "softmax")(merged)])


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("build", [sequential, two_in_two_out])
def test_it_predicts_the_mean_also_after_a_journey(build, members):
    model = build()
    untouched = FlatModel(model).get()
    random = np.random.default_rng(2)
    x = (
        {"a": random.normal(size=(7, 3)), "b": random.normal(size=(7, 2))}
        if build is two_in_two_out
        else random.normal(size=(7, 5))
    )
    vectors = vectors_of(model, members)
    ensemble = ensemble_model(model, vectors)
    assert np.array_equal(FlatModel(model).get(), untouched)
    expected = []
    for vector in vectors:
        FlatModel(model).set(vector)
        expected.append(keras.tree.flatten(model.predict_on_batch(x)))
    copy = model_io.from_json(model_io.to_json(ensemble))
    model_io.weights_from_bytes(copy, model_io.weights_to_bytes(ensemble))
    for one in (ensemble, copy):
        found = keras.tree.flatten(one.predict_on_batch(x))
        for output, parts in zip(found, zip(*expected, strict=True), strict=True):
            np.testing.assert_allclose(output, np.mean(parts, axis=0), rtol=1e-5, atol=1e-6)


def test_the_names_of_the_inputs_stay():
    assert [tensor.name for tensor in ensemble_model(sequential(), vectors_of(sequential(), 2)).inputs] == ["features"]


def test_the_names_of_several_outputs_stay():
    model = two_in_two_out()
    assert ensemble_model(model, vectors_of(model, 2)).output_names == model.output_names


def test_each_member_has_its_own_moving_statistics():
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(), keras.layers.Dense(1)])
    flat = FlatModel(model)
    vectors, x = vectors_of(model, 2), np.random.default_rng(3).normal(size=(5, 3))
    states = [np.full(flat.state_n, value, np.float32) for value in (0.5, 2.0)]
    expected = []
    for vector, state in zip(vectors, states, strict=True):
        flat.set(vector)
        flat.set_state(state)
        expected.append(model.predict_on_batch(x))
    found = ensemble_model(model, vectors, states).predict_on_batch(x)
    np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5)


def test_what_cannot_be_a_member_is_refused_with_the_reason():
    normalised = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    with pytest.raises(ConfigError, match="2 members need as many states, not 0"):
        ensemble_model(normalised, vectors_of(normalised, 2))
    with pytest.raises(ConfigError, match="at least one"):
        ensemble_model(sequential(), [])
