"""Weights of several outputs' losses, through driver, worker and validation, against ``keras.Model.fit``."""

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core import rules
from dkeras_core.data.spool import Column

ROWS, EPOCHS, RATE = 64, 4, 0.1
INPUTS, LABELS = (Column("features", shape=(4,)),), (Column("sign"), Column("size"))


@pytest.fixture
def rows():
    random = np.random.default_rng(2)
    x = random.normal(size=(ROWS, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.float32), 3 * x[:, 1]


@pytest.fixture
def batch(rows):
    x, sign, size = rows
    features = pa.FixedSizeListArray.from_arrays(x.ravel(), 4)
    return pa.RecordBatch.from_pydict({"features": features, "sign": sign, "size": size})


def two_outputs():
    import keras

    keras.utils.set_random_seed(6)
    inputs = keras.Input((4,), name="features")
    hidden = keras.layers.Dense(6, "tanh")(inputs)
    ends = [keras.layers.Dense(1, "sigmoid", name="sign"), keras.layers.Dense(1, name="size")]
    return keras.Model(inputs, [end(hidden) for end in ends])


@pytest.mark.slow
@pytest.mark.parametrize("loss_weights", [[1.0, 0.2], {"size": 0.2, "sign": 1.0}, None])
def test_a_run_makes_the_steps_of_fit(run, rows, batch, loss_weights):
    import keras

    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.training.validation import Validation

    losses = ["binary_crossentropy", "mse"]
    model, reference = two_outputs(), two_outputs()
    reference.compile(
        keras.optimizers.SGD(RATE), losses, loss_weights=[1.0, 0.2] if loss_weights else None, jit_compile=False
    )
    x, sign, size = rows
    reference.fit(x, (sign, size), batch_size=ROWS, epochs=EPOCHS, verbose=0)  # whole: no order in it
    outcome, _ = run(
        [[batch]],
        model=model,
        center=FlatModel(model).get(),
        rule=rules.get("sequential"),
        optimizer={"name": "sgd", "learning_rate": RATE},
        loss=losses,
        loss_weights=loss_weights,
        epochs=EPOCHS,
        batch_size=ROWS,
        inputs=INPUTS,
        labels=LABELS,
        validation=Validation.from_batches([batch], INPUTS, LABELS),
    )
    np.testing.assert_allclose(outcome.weights, FlatModel(reference).get(), atol=2e-6)
    expected = reference.evaluate(x, (sign, size), verbose=0, return_dict=True)["loss"]
    assert outcome.history.final["val_loss"] == pytest.approx(expected, rel=1e-4)
