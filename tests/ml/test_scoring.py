"""What outputs mean, and scores of Arrow columns against ``model.predict`` on the same rows; without Spark."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.errors import ConfigError, DataError
from dkeras_core.ml import scoring
from dkeras_core.ml.outputs import inputs_of, outputs_of
from dkeras_core.ml.packed import PackedModel

VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)


@pytest.fixture(scope="module")
def keras():
    return pytest.importorskip("keras")


@pytest.fixture
def network(keras):
    """A model of the given inputs' shapes and the given outputs' (units, activation)."""

    def build(shapes, *ends, dtypes=("float32",) * 9):
        keras.utils.set_random_seed(1)
        pairs = zip(shapes, dtypes, strict=False)
        inputs = [keras.Input(shape, name=f"in{i}", dtype=kind) for i, (shape, kind) in enumerate(pairs)]
        flat = [keras.layers.Flatten()(x) if len(x.shape) > 2 else keras.ops.cast(x, "float32") for x in inputs]
        hidden = keras.layers.Concatenate()(flat) if len(flat) > 1 else flat[0]
        outputs = [keras.layers.Dense(n, end, name=f"out{i}")(hidden) for i, (n, end) in enumerate(ends)]
        return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs[0] if len(outputs) == 1 else outputs)

    return build


def score(model, columns, loss=None, names=None, batch_size=7):
    inputs = tuple(inputs_of(model))
    names = names or tuple((f"column{i}",) for i in range(len(inputs)))
    plan = scoring.Scoring("", names, inputs, outputs_of(model, loss), batch_size)
    return plan(model, columns)


def dense(rows):
    """Rows as Spark's dense vectors arrive."""
    return pa.array([{"type": 1, "size": None, "indices": None, "values": list(row)} for row in rows], VECTOR)


def sparse(rows):
    found = [np.flatnonzero(row) for row in rows]
    return pa.array(
        [
            {"type": 0, "size": len(row), "indices": at.tolist(), "values": row[at].tolist()}
            for row, at in zip(rows, found, strict=True)
        ],
        VECTOR,
    )


def values_of(vectors):
    return np.array([row["values"] for row in vectors.to_pylist()])


@pytest.mark.parametrize(
    "units, activation, loss, kind, classes",
    [
        (1, "sigmoid", "binary_crossentropy", "binary", 2),
        (1, "sigmoid", None, "binary", 2),
        (1, "sigmoid", "mse", "values", None),
        (1, None, {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}, "binary", 2),
        (3, "softmax", "sparse_categorical_crossentropy", "classes", 3),
        (3, "softmax", None, "classes", 3),
        (3, "sigmoid", "binary_crossentropy", "labels", 3),
        (3, "sigmoid", "categorical_crossentropy", "classes", 3),
        (2, "linear", {"class_name": "CategoricalCrossentropy", "config": {"from_logits": True}}, "classes", 2),
        (1, "linear", "mae", "values", None),
        (4, "relu", None, "values", None),
    ],
)
def test_loss_and_activation_say_what_an_output_is(network, units, activation, loss, kind, classes):
    model = network([(3,)], (units, activation))
    (output,) = outputs_of(model, loss)
    assert (output.kind, output.classes, output.name) == (kind, classes, "")
    assert output.logits == isinstance(loss, dict)


def test_several_outputs_have_their_own_losses(network):
    model = network([(3,)], (1, "sigmoid"), (2, None))
    for loss in ({"out1": "mse", "out0": "binary_crossentropy"}, ["binary_crossentropy", "mse"]):
        assert [(o.name, o.kind) for o in outputs_of(model, loss)] == [("out0", "binary"), ("out1", "values")]


def test_mappings_of_inputs_and_outputs(keras):
    inputs = {"b": keras.Input((2,), name="b"), "a": keras.Input((1,), name="a")}
    hidden = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    ends = {"y": keras.layers.Dense(1, name="one")(hidden), "x": keras.layers.Dense(1, "sigmoid", name="two")(hidden)}
    model = keras.Model(inputs, ends)
    assert [(o.name, o.kind) for o in outputs_of(model, {"y": "mse", "x": "bce"})] == [("x", "binary"), ("y", "values")]
    a, b = np.random.default_rng(1).normal(size=(6, 1)), np.random.default_rng(2).normal(size=(6, 2))
    expected = model.predict({"a": a, "b": b}, verbose=0)
    answer = score(model, [pa.array(a[:, 0]), dense(b)])
    assert np.allclose(values_of(answer.field("probability0"))[:, 1], expected["x"][:, 0], atol=1e-6)
    assert np.allclose(answer.field("prediction1").to_numpy(), expected["y"][:, 0], atol=1e-6)


def test_activations_are_found_within_models_and_ensembles(keras, network):
    inner = network([(3,)], (3, "softmax"))
    outer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), inner])
    assert outputs_of(outer)[0].kind == "classes"
    apart = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), keras.layers.Activation("softmax")])
    assert outputs_of(apart)[0].kind == "classes"
    both = keras.Input((3,))
    mean = keras.Model(both, keras.layers.Average()([inner(both), network([(3,)], (3, "softmax"))(both)]))
    assert outputs_of(mean)[0].kind == "classes"


def test_probabilities_and_classes_are_those_of_predict(network):
    rows = np.random.default_rng(1).normal(size=(20, 3))
    rows[rows < -0.5] = 0
    model = network([(3,)], (1, "sigmoid"))
    expected = model.predict(rows, verbose=0)[:, 0].astype(float)
    for column in (dense(rows), sparse(rows), pa.array(list(rows), pa.list_(pa.float64()))):
        answer = score(model, [column])
        assert np.allclose(values_of(answer.field("probability0"))[:, 1], expected, atol=1e-6)
        assert np.array_equal(answer.field("prediction0").to_numpy(), expected >= 0.5)
    assert np.allclose(values_of(answer.field("probability0")).sum(1), 1)

    model = network([(3,)], (3, "softmax"))
    answer = score(model, [dense(rows)])
    expected = model.predict(rows, verbose=0)
    assert np.allclose(values_of(answer.field("probability0")), expected, atol=1e-6)
    assert np.array_equal(answer.field("prediction0").to_numpy(), expected.argmax(1))


def test_logits_become_probabilities(network):
    rows = np.random.default_rng(1).normal(size=(20, 3))
    model = network([(3,)], (1, None))
    loss = {"class_name": "BinaryCrossentropy", "config": {"from_logits": True}}
    logits = model.predict(rows, verbose=0)[:, 0]
    answer = score(model, [dense(rows)], loss)
    assert np.allclose(values_of(answer.field("probability0"))[:, 1], 1 / (1 + np.exp(-logits)), atol=1e-6)
    model = network([(3,)], (4, None))
    logits = np.exp(model.predict(rows, verbose=0))
    answer = score(model, [dense(rows)], "categorical_crossentropy")
    assert not np.allclose(values_of(answer.field("probability0")).sum(1), 1)  # no logits were announced
    answer = score(model, [dense(rows)], {"class_name": "CategoricalCrossentropy", "config": {"from_logits": True}})
    assert np.allclose(values_of(answer.field("probability0")), logits / logits.sum(1, keepdims=True), atol=1e-6)


def test_several_inputs_and_outputs(network):
    random = np.random.default_rng(1)
    words, rest = random.integers(0, 9, 12), random.normal(size=(12, 2, 2)).astype(np.float32)
    model = network([(1,), (2, 2)], (1, "linear"), (2, "linear"), (2, "sigmoid"), dtypes=("int32", "float32"))
    columns = [pa.array(words), pa.array([row.ravel() for row in rest], pa.list_(pa.float32()))]
    value, pair, many = model.predict([words[:, None], rest], verbose=0)
    answer = score(model, columns, [None, None, "binary_crossentropy"])
    assert np.allclose(answer.field("prediction0").to_numpy(), value[:, 0], atol=1e-6)
    assert np.allclose(values_of(answer.field("prediction1")), pair, atol=1e-6)
    assert np.array_equal(values_of(answer.field("prediction2")), many >= 0.5)
    assert [field.name for field in answer.type] == ["prediction0", "prediction1", "prediction2", "probability2"]


def test_columns_of_numbers_side_by_side(network):
    rows = np.random.default_rng(1).normal(size=(9, 3))
    model = network([(3,)], (1, "linear"))
    answer = score(model, [pa.array(rows[:, i]) for i in range(3)], names=(("a", "b", "c"),))
    assert np.allclose(answer.field("prediction0").to_numpy(), model.predict(rows, verbose=0)[:, 0], atol=1e-6)


def test_no_rows_make_no_predictions(network):
    for end in ((1, "sigmoid"), (3, "softmax"), (3, "linear")):
        answer = score(network([(3,)], end), [pa.array([], VECTOR)])
        assert len(answer) == 0
        full = score(network([(3,)], end), [dense(np.ones((2, 3)))])
        assert answer.type == full.type


def test_wide_rows_are_scored_in_pieces(network, monkeypatch):
    monkeypatch.setattr(scoring, "_BYTES", 4 * 3 * 2)
    rows = np.random.default_rng(1).normal(size=(5, 3))
    model = network([(3,)], (1, "linear"))
    sizes = []
    original = scoring.Scoring._predict
    monkeypatch.setattr(
        scoring.Scoring, "_predict", lambda self, m, batch: sizes.append(batch.num_rows) or original(self, m, batch)
    )
    answer = score(model, [dense(rows)])
    assert sizes == [2, 2, 1]
    assert np.allclose(answer.field("prediction0").to_numpy(), model.predict(rows, verbose=0)[:, 0], atol=1e-6)


@pytest.mark.parametrize(
    "column, said",
    [
        (dense(np.ones((3, 4))), r"column 'column0' holds 4 values .*the model takes \(3"),
        (pa.array([[1.0, 2.0, 3.0], [1.0]]), r"column 'column0', row 1: 1 values"),
        (pa.array([[1.0, 2.0, float("nan")]]), r"column 'column0', row 0, value 2: nan"),
        (pa.array([[1.0, 2.0, 3.0], None]), r"column 'column0', row 1: null"),
        (pa.array(["text"]), r"column 'column0' holds string"),
    ],
)
def test_rows_that_do_not_fit_are_named(network, column, said):
    with pytest.raises(DataError, match=said):
        score(network([(3,)], (1, "sigmoid")), [column])


def test_a_worker_builds_a_model_once_and_keeps_a_few(monkeypatch):
    built = []

    class Pack:
        def __init__(self, name):
            self.name = name

        def unpack(self):
            built.append(self.name)
            return self.name

    monkeypatch.setattr(scoring, "_models", type(scoring._models)())
    monkeypatch.setattr("dkeras_core.learning.settings.configure_threads", lambda cores: None)
    for name in ("a", "a", "b", "c", "d", "a", "e", "a", "b"):
        assert scoring.loaded(name, lambda name=name: Pack(name)) == name
    assert built == ["a", "b", "c", "d", "e", "b"]
    assert len(scoring._models) == scoring._KEPT


def test_a_packed_model_is_the_same_model(network):
    model = network([(3,)], (3, "softmax"))
    packed = PackedModel.of(model)
    rows = np.random.default_rng(1).normal(size=(4, 3))
    assert np.array_equal(packed.unpack().predict(rows, verbose=0), model.predict(rows, verbose=0))
    assert packed == PackedModel.of(packed.unpack()) and packed.digest == PackedModel.of(packed.unpack()).digest
    bare = PackedModel.of(packed.architecture)
    first, again, other = (bare.unpack(seed).get_weights()[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert bare.digest != packed.digest and "yet to be initialised" in repr(bare)


def test_a_model_of_unknown_inputs_is_refused(keras):
    class Shapeless(keras.Model):
        def get_build_config(self):
            return None

    with pytest.raises(ConfigError, match=r"the shape of the inputs of model"):
        inputs_of(Shapeless())
