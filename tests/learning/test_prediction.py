import keras
import numpy as np
import pytest
from keras import layers

from dkeras_core.learning.prediction import predict


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 20])
def test_predicts_every_row_in_order(rows):
    model = keras.Sequential([keras.Input((3,)), layers.Dropout(0.9), layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    kernel, bias = (v.numpy() for v in model.layers[-1].weights)
    scores = predict(model, x, batch_size=8)
    assert isinstance(scores, np.ndarray) and scores.shape == (rows, 2)
    np.testing.assert_allclose(scores, x @ kernel + bias, atol=1e-6)


def test_several_inputs_and_outputs():
    a, b = keras.Input((3,)), keras.Input((2,))
    model = keras.Model([a, b], [layers.Dense(1)(a), layers.Dense(4)(b)])
    one, four = predict(model, [np.ones((9, 3), np.float32), np.ones((9, 2), np.float32)], batch_size=4)
    assert (one.shape, four.shape) == ((9, 1), (9, 4))


def test_repeated_calls_trace_once():
    traces = []

    class Counted(layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return inputs

    model = keras.Sequential([keras.Input((3,)), Counted()])
    traces.clear()
    for rows in (8, 8, 5, 6, 3, 8):
        predict(model, np.ones((rows, 3), np.float32), batch_size=8)
    assert len(traces) <= 2
