"""Losses of several outputs and their weights: in any form the same steps as Keras makes. Also run on JAX."""

import keras
import numpy as np
import pytest
from keras import layers

from dkeras_core.errors import ConfigError
from dkeras_core.learning.checks import check_model
from dkeras_core.learning.local import LocalTrainer
from dkeras_core.learning.losses import compiled_losses, losses_of, weights_of

STEPS, ROWS = 3, 8


def network(kind="list"):
    """Two outputs whose names are not in alphabetical order: as a list, or as a mapping."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((4,), name="rows")
    hidden = layers.Dense(5, "tanh", name="hidden")(inputs)
    zeta, alpha = layers.Dense(1, name="zeta")(hidden), layers.Dense(2, name="alpha")(hidden)
    if kind == "one":
        return keras.Model(inputs, zeta)
    return keras.Model(inputs, [zeta, alpha] if kind == "list" else {"zeta": zeta, "alpha": alpha})


def batches():
    random = np.random.default_rng(5)
    return [random.normal(size=(STEPS, ROWS, width)).astype(np.float32) for width in (4, 1, 2)]


def by_keras(model, loss, loss_weights):
    """Losses and weights after ``train_on_batch``, of what Keras itself takes."""
    model.compile(keras.optimizers.SGD(0.1), loss, loss_weights=loss_weights)
    rows, zeta, alpha = batches()
    losses = []
    for step in range(STEPS):
        labels = (zeta[step], alpha[step])
        if isinstance(model.output, dict):
            labels = {"zeta": zeta[step], "alpha": alpha[step]}
        losses.append(float(model.train_on_batch(rows[step], labels, return_dict=True)["loss"]))
    return losses, by_name(model)


def by_name(model):
    """A mapping has its outputs, and so its variables, in another order than a list."""
    return {variable.path: variable.numpy() for variable in model.weights}


FORMS = {  # as Keras takes them, but for the second: weights by name for a list of losses
    "lists": ("list", ["mse", "mae"], [3.0, 0.25]),
    "names": ("list", ["mse", "mae"], {"alpha": 0.25, "zeta": 3}),
    "mappings": ("list", {"alpha": "mae", "zeta": "mse"}, {"zeta": 3.0, "alpha": 0.25}),
    "a tuple": ("list", {"alpha": "mae", "zeta": "mse"}, (3.0, 0.25)),
    "named outputs": ("mapping", {"zeta": "mse", "alpha": "mae"}, {"zeta": 3.0, "alpha": 0.25}),
    "named outputs, a list": ("mapping", {"zeta": "mse", "alpha": "mae"}, [0.25, 3.0]),
    "named outputs, lists": ("mapping", ["mae", "mse"], [0.25, 3.0]),
}


@pytest.mark.parametrize(
    "form", [form if form == "names" else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]
)
def test_weights_make_the_steps_of_keras_in_any_form(form):
    kind, loss, loss_weights = FORMS[form]
    expected, theirs = by_keras(network(), ["mse", "mae"], [3.0, 0.25])
    if kind == "mapping":
        again, _ = by_keras(network(kind), {"zeta": "mse", "alpha": "mae"}, {"zeta": 3.0, "alpha": 0.25})
        np.testing.assert_allclose(again, expected, rtol=1e-5)
    local = LocalTrainer(
        network(kind),
        keras.optimizers.SGD(0.1),
        loss,
        loss_weights=loss_weights,
        batch_size=ROWS,
        communication_period=3,
    )
    x = local.flat.get()
    rows, zeta, alpha = batches()
    gradient = np.empty(local.flat.n, np.float32)
    labels = (zeta, alpha) if kind == "list" else (alpha, zeta)
    first = tuple(array[:1] for array in labels)
    assert local.gradient((rows[:1], first), gradient, x) == pytest.approx(expected[0], rel=1e-5)
    local.window((rows, labels), x)
    assert not local.fused.startswith("no")
    np.testing.assert_allclose(local.losses, expected, rtol=1e-5)
    mine = by_name(local.model)
    assert mine.keys() == theirs.keys()
    for name, values in theirs.items():
        np.testing.assert_allclose(mine[name], values, atol=2e-6, err_msg=name)


@pytest.mark.slow
def test_one_loss_for_all_outputs_takes_weights():
    expected, _ = by_keras(network(), ["mse", "mse"], [3.0, 0.25])
    local = LocalTrainer(
        network(), keras.optimizers.SGD(0.1), "mse", loss_weights=[3.0, 0.25], batch_size=ROWS, communication_period=3
    )
    rows, *labels = batches()
    local.window((rows, tuple(labels)))
    np.testing.assert_allclose(local.losses, expected, rtol=1e-5)


def test_an_output_without_a_loss_needs_no_weight():
    model = network()
    assert weights_of(model, {"zeta": "mse"}, {"zeta": 2}) == [2.0, 1.0]
    compiled = compiled_losses(model, {"zeta": "mse"}, {"zeta": 2})
    assert compiled == {"loss": ["mse", None], "loss_weights": [2.0, 1.0]}
    assert losses_of(network("mapping"), {"zeta": "mse"}) == [None, "mse"]


@pytest.mark.parametrize("given", [0.5, [0.5], (0.5,)])
def test_one_output_takes_a_factor(given):
    assert compiled_losses(network("one"), "mse", given) == {"loss": "mse", "loss_weights": 0.5}
    assert compiled_losses(network("one"), "mse", None) == {"loss": "mse"}


@pytest.mark.parametrize(
    ("loss", "loss_weights", "message"),
    [
        (["mse", "mae"], [1.0], "1 loss_weights are given for 2 outputs"),
        (["mse", "mae"], 2.0, "1 loss_weights are given for 2 outputs"),
        (
            ["mse", "mae"],
            {"zeta": 1.0, "alfa": 1.0},
            r"output 'alfa' .did you mean 'alpha'\?.; the outputs are zeta, al",
        ),
        (["mse", "mae"], {"zeta": 1.0}, "no weight for output 'alpha'"),
        (["mse", "mae"], [1.0, float("nan")], "a finite number, not nan"),
        (["mse", "mae"], [1.0, True], "a finite number, not True"),
        (["mse", "mae"], [1.0, "2"], "a finite number, not '2'"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_starts(loss, loss_weights, message):
    from dkeras_core.data.columns import Column

    columns = [Column("features", shape=(4,))], [Column("a", shape=(1,)), Column("b", shape=(2,))]
    with pytest.raises(ConfigError, match=message):
        check_model(network(), *columns, loss, loss_weights)
