import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import layers

from dkeras_core.errors import ConfigError, DataError
from dkeras_core.learning.model_io import from_json, to_json, weights_from_bytes, weights_to_bytes


@keras.saving.register_keras_serializable("tests")
class Scaled(layers.Layer):
    def __init__(self, factor=2.0, **arguments):
        super().__init__(**arguments)
        self.factor = factor

    def build(self, shape):
        self.offset = self.add_weight(shape=(shape[-1],), initializer="ones", dtype="bfloat16")
        self.count = self.add_weight(shape=(), dtype="int32", trainable=False, initializer="ones")

    def call(self, inputs):
        return inputs * self.factor + keras.ops.cast(self.offset, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


def network():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3),
            Scaled(3.0),
            layers.BatchNormalization(),
            layers.Dropout(0.5),
            layers.Dense(1),
        ]
    )


def test_a_model_travels_as_json_and_bytes():
    model = network()
    for variable in model.weights:
        variable.assign(np.random.default_rng(0).integers(1, 9, variable.shape).astype(variable.numpy().dtype))
    copy = from_json(to_json(model))
    weights_from_bytes(copy, weights_to_bytes(model))
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    rows = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(copy(rows), model(rows))


def test_a_lambda_layer_is_refused_on_both_sides():
    model = keras.Sequential(
        [keras.Input((2,)), keras.Sequential([layers.Lambda(lambda x: x + 1, name="shift")]), layers.Dense(1)]
    )
    with pytest.raises(ConfigError, match=r"'shift' is a Lambda.*bytecode"):
        to_json(model)
    with pytest.raises(ConfigError, match=r"lambda|Lambda"):
        from_json(model.to_json())


def test_an_unregistered_layer_is_explained():
    text = to_json(network()).replace("tests>Scaled", "elsewhere>Scaled").replace('"Scaled"', '"Scalde"')
    with pytest.raises(ConfigError, match="register_keras_serializable"):
        from_json(text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "end within"),
        (lambda data: data + b"x", "1 bytes follow"),
        (lambda data: b"PK" + data[2:], "not weights of a model"),
        (lambda data: data[:9] + b"\xff" + data[10:], "header of the weights is damaged"),
        (lambda data: b"", "not weights of a model"),
    ],
)
def test_damaged_weights_are_refused_before_anything_is_assigned(damage, message):
    model = network()
    before = [v.numpy().copy() for v in model.weights]
    other = network()
    with pytest.raises(DataError, match=message):
        weights_from_bytes(model, damage(weights_to_bytes(other)))
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_weights_of_another_architecture_are_refused():
    one = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    other = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    with pytest.raises(DataError, match=r"kernel are float32\[5, 3\], the model's .*kernel is float32\[4, 3\]"):
        weights_from_bytes(one, weights_to_bytes(other))
    with pytest.raises(DataError, match=r"2 variables, model .* has"):
        weights_from_bytes(network(), weights_to_bytes(one))


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A folder on the path with a module that registers a layer, and a model's architecture that uses it."""
    (tmp_path / "ourlayers.py").write_text(
        textwrap.dedent("""
        import keras

        @keras.saving.register_keras_serializable(package="ours")
        class Doubled(keras.layers.Layer):
            def call(self, x):
                return 2.0 * x
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from ourlayers import Doubled

    yield tmp_path, to_json(keras.Sequential([keras.Input((3,)), Doubled(), layers.Dense(1)]))
    sys.modules.pop("ourlayers")
    keras.saving.get_custom_objects().pop("ours>Doubled")


def read_elsewhere(text, path):
    """Rebuild an architecture in a process that has imported nothing of it."""
    code = "import sys; from dkeras_core.learning import model_io; "
    code += "print(model_io.from_json(sys.stdin.read()).layers[0].name)"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, input=text, env={"PYTHONPATH": f"{path}:."}, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow  # a Python of its own, which imports Keras
def test_a_registered_layer_is_imported_where_the_model_is_rebuilt(own_module):
    folder, text = own_module
    assert read_elsewhere(text, folder).stdout.strip() == "doubled"


@pytest.mark.slow  # a Python of its own, which imports Keras
def test_the_module_of_a_registered_layer_that_is_missing_is_named(own_module, tmp_path_factory):
    _, text = own_module
    answer = read_elsewhere(text, tmp_path_factory.mktemp("nothing"))
    assert answer.returncode != 0
    assert "needs Doubled of the module ourlayers" in answer.stderr and "model.files" in answer.stderr
