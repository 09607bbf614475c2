"""fit_local: from arrays, tables and files to a trained model, without Spark."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError, DataError
from dkeras_core.training import local
from dkeras_core.training.local import fit_local

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def network():
    import keras

    def make(*, rows=(4,), units=1, **compiled):
        layers = [keras.Input(rows), keras.layers.Flatten(), keras.layers.Dense(units, "sigmoid")]
        model = keras.Sequential(layers)
        if compiled:
            model.compile(**compiled)
        return model

    return make


@pytest.fixture
def asked(monkeypatch):
    """What ``train`` is given, without training; the weights it returns are all 1."""
    from dkeras_core.training.driver import TrainingResult
    from dkeras_core.training.history import History

    seen = {}

    def train(architecture, center, state, settings, launcher, **others):
        seen.update(settings=settings, launcher=launcher, center=center, **others)
        ones = np.ones_like(center)
        return TrainingResult(ones, ones, ones, None, {}, History())

    monkeypatch.setattr(local, "train", train)
    return seen


def test_arrays_become_columns(network, asked):
    model = network(rows=(2, 3), loss="mse", optimizer="sgd")
    images = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    fit_local(model, (images, np.zeros((10, 1)), np.ones(10)))
    settings = asked["settings"]
    assert [(c.dtype, c.shape) for c in (*settings.inputs, *settings.labels)] == [("uint8", (2, 3)), ("float32", (1,))]
    assert (settings.rows, settings.weight, settings.loss, settings.optimizer) == (10, "weight", "mse", {"name": "sgd"})
    batch = next(asked["launcher"]._rows.batches(["x0", "weight"]))
    assert batch.column("x0")[3].as_py() == list(range(18, 24))
    assert all((weight == 1).all() for weight in model.get_weights())  # the result's


def test_a_table_and_a_file_are_read_off(network, asked, rows_of, tmp_path):
    table = pa.Table.from_batches([rows_of(20, 1)])
    pq.write_table(table, tmp_path / "rows.parquet")
    for source in (table, tmp_path / "rows.parquet", str(tmp_path)):
        fit_local(network(), source, loss="mse", rule=rules.get("easgd"), workers=4, seed=7)
        settings = asked["settings"]
        assert [(c.name, c.shape) for c in (*settings.inputs, *settings.labels)] == [("features", (4,)), ("label", ())]
        assert (settings.rows, settings.rule.name, settings.workers, settings.seed) == (20, "easgd", 4, 7)


def test_columns_of_numbers_form_one_input(network, asked):
    table = pa.table({name: np.arange(9, dtype=np.float32) for name in "abcdy"})
    fit_local(network(), table, loss="mse", inputs=[["a", "b", "c", "d"]], labels="y")
    assert asked["settings"].inputs[0].sources == ("a", "b", "c", "d")


def test_a_compiled_model_brings_optimizer_and_loss(network, asked):
    import keras

    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 100, 0.9)
    model = network(optimizer=keras.optimizers.SGD(decay, momentum=0.5), loss=keras.losses.BinaryCrossentropy())
    fit_local(model, (np.zeros((8, 4)), np.zeros(8)))
    settings = asked["settings"]
    assert (settings.optimizer["name"], settings.optimizer["momentum"]) == ("sgd", 0.5)
    assert settings.optimizer["learning_rate"]["class_name"] == "ExponentialDecay"
    assert settings.loss["class_name"] == "BinaryCrossentropy"
    from dkeras_core.learning.settings import make_loss, make_optimizer

    assert make_optimizer(settings.optimizer).get_config()["momentum"] == 0.5
    assert isinstance(make_loss(settings.loss), keras.losses.BinaryCrossentropy)


def test_weights_of_losses_come_with_the_loss_they_were_compiled_with(network, asked):
    model, rows = network(), (np.zeros((8, 4)), np.zeros(8))
    model.compile("adam", "mse", loss_weights=[2.0])
    fit_local(model, rows)
    assert asked["settings"].loss_weights == [2.0]
    fit_local(model, rows, loss_weights=0.5)
    assert asked["settings"].loss_weights == 0.5
    fit_local(model, rows, loss="mae")
    assert asked["settings"].loss_weights is None
    with pytest.raises(ConfigError, match="2 loss_weights are given for 1 outputs"):
        fit_local(model, rows, loss_weights=[1.0, 2.0])


def test_early_stopping_may_be_given_by_its_fields(network, asked):
    x, y = np.zeros((8, 4)), np.zeros(8)
    fit_local(network(), (x, y), loss="mse", validation_data=(x, y), early_stopping={"patience": 5})
    assert (asked["settings"].early_stopping.patience, asked["settings"].early_stopping.monitor) == (5, "val_loss")


def test_validation_rows_are_held_by_this_process(network, asked):
    x, y = np.random.default_rng(1).random((30, 4)), np.zeros(30)
    fit_local(network(), (x, y), loss="mse", validation_data=(x[:10], y[:10]), metrics=["mae"])
    assert asked["validation"].rows == 10
    assert asked["validation"].metrics == ["mae"]


def test_what_cannot_work_is_refused_before_anything_starts(network, asked, rows_of, tmp_path):
    table = pa.Table.from_batches([rows_of(20, 1)])
    for error, message, arguments in [
        (ConfigError, "no loss to train with", ((table,), {})),
        (
            ConfigError,
            "takes no 'barier_deadline' .did you mean 'barrier_deadline'",
            ((table,), {"barier_deadline": 1}),
        ),
        (DataError, "'lable' is missing; the rows have features, label", ((table,), {"labels": "lable"})),
        (DataError, "10, 20 rows; all need the same", (((np.zeros((20, 4)), np.zeros(10)),), {})),
        (DataError, r"holds <U1, a model takes numbers", (((np.zeros((1, 4)), np.array(["a"])),), {})),
        (ConfigError, "cannot train on a list", (([1, 2],), {})),
        (DataError, "does not exist", ((tmp_path / "none",), {})),
        (DataError, r"4 values .* takes \(5\)", ((table,), {"rows": 5})),
        (ConfigError, "workers is a whole number of at least 1, not 0", ((table,), {"workers": 0})),
        (ConfigError, "epochs is a whole number of at least 1, not 0", ((table,), {"epochs": 0})),
        (ConfigError, "an algorithm is a name or a Rule, not 3", ((table, 3), {})),
        (
            ConfigError,
            "early_stopping has no 'patients' .did you mean 'patience'",
            ((table,), {"early_stopping": {"patients": 1}}),
        ),
        (
            ConfigError,
            r"validation_data: column 'x0' has rows of shape \[5\], input .* takes \[4\]",
            ((table,), {"validation_data": (np.zeros((3, 5)), np.zeros(3))}),
        ),
    ]:
        given, settings = arguments
        model = network(rows=(settings.pop("rows", 4),))
        loss = {} if "no loss" in message else {"loss": "mse"}
        with pytest.raises(error, match=message):
            fit_local(model, *given, **loss, **settings)
    assert not asked


@pytest.mark.slow
def test_the_example_of_the_guide(tmp_path, monkeypatch):
    """The page's code runs as it stands, on rows like those that it names."""
    page = (ROOT / "docs" / "training.md").read_text()
    examples = [code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "fit_local" in code]
    assert examples
    random = np.random.default_rng(1)
    x = random.normal(size=(4000, 30)).astype(np.float32)
    y = (x[:, 0] - x[:, 1] > 0).astype(np.float32)
    features = pa.FixedSizeListArray.from_arrays(x.ravel(), 30)
    pq.write_table(pa.table({"features": features, "label": y}), tmp_path / "train.parquet")
    monkeypatch.chdir(tmp_path)
    for code in examples:
        names = {"x": x, "y": y}
        exec(code, names)  # the example trains a model and looks at its result
        assert names["result"].account["rows_trained"] > 0
        scores = names["model"].predict(x, verbose=0)[:, 0]
        assert np.mean((scores > 0.5) == y) > 0.9
