import keras
import pytest

from dkeras_core.config import Model
from dkeras_core.errors import ConfigError
from dkeras_core.learning.builders import build_model
from dkeras_core.learning.model_io import to_json


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def test_the_network_of_the_published_results():
    parameters = {"hidden": [600, 600], "activation": "relu", "dropout": 0.0}
    model = build_model({"builder": "mlp", "parameters": parameters}, 30)
    assert (model.input_shape, model.output_shape) == ((None, 30), (None, 1))
    assert model.count_params() == 380_402 - 601  # two outputs there, one here
    assert build_model(Model(builder="mlp", parameters={"hidden": [3]}), 5).count_params() == 5 * 3 + 3 + 3 + 1


def test_parameters_reach_the_layers():
    parameters = {"hidden": [4, 3], "dropout": 0.2, "batch_normalization": True, "activation": "tanh"}
    model = build_model({"builder": "mlp", "parameters": parameters}, 5, n_classes=3)
    kinds = [type(layer).__name__ for layer in model.layers]
    assert kinds == ["Dense", "BatchNormalization", "Activation", "Dropout"] * 2 + ["Dense"]
    assert model.output_shape == (None, 3)
    assert model.layers[3].rate == 0.2
    assert build_model({"builder": "linear"}, 5).count_params() == 6


MODULE = """
import keras
def build(n_features, width=3):
    return keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(width), keras.layers.Dense(1)])
def unbuilt(n_features):
    return keras.Sequential([keras.layers.Dense(1)])
def fixed(n_features):
    return keras.Sequential([keras.Input((28,)), keras.layers.Dense(1)])
def two(n_features):
    a, b = keras.Input((n_features,)), keras.Input((1,))
    return keras.Model([a, b], keras.layers.Concatenate()([a, b]))
def nothing(n_features):
    return None
def broken(n_features):
    return keras.layers.Dense(0)
def bare():
    return None
def classes(n_features, n_classes):
    return keras.Sequential([keras.Input((n_features,)), keras.layers.Dense(n_classes)])
number = 3
"""


def test_a_function_of_the_user(user_module):
    name = user_module("user_model", MODULE)
    model = build_model({"function": f"{name}:build", "parameters": {"width": 7}}, 30)
    assert model.count_params() == 30 * 7 + 7 + 7 + 1
    assert build_model({"function": f"{name}:unbuilt"}, 30).count_params() == 31
    assert build_model({"function": f"{name}:classes"}, 30, 4).output_shape == (None, 4)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("user_modell:build", "module 'user_modell' not found"),
        ("user_model:biuld", "no function 'biuld'.*did you mean 'build'"),
        ("user_model:number", "a value named 'number'"),
        ("user_model:fixed", r"takes input of shape \[28\], the data have 30 features"),
        ("user_model:two", "takes 2 inputs"),
        ("user_model:nothing", "NoneType, not a keras.Model"),
        ("user_model:broken", "failed with no parameters: ValueError"),
        ("user_model:bare", "cannot be called.*n_features"),
        ("user_model", "not of the form module:function"),
    ],
)
def test_what_is_wrong_with_a_function_is_named(user_module, function, message):
    user_module("user_model", MODULE)
    with pytest.raises(ConfigError, match=message):
        build_model({"function": function}, 30)


def test_a_missing_import_of_the_users_module_is_named(user_module):
    name = user_module("needs_more", "import not_installed_anywhere\n")
    with pytest.raises(ConfigError, match="imports 'not_installed_anywhere'"):
        build_model({"function": f"{name}:build"}, 3)
    name = user_module("does_not_parse", "def build(:\n")
    with pytest.raises(ConfigError, match="importing 'does_not_parse' failed: SyntaxError"):
        build_model({"function": f"{name}:build"}, 3)


def test_a_wrong_parameter_is_named():
    with pytest.raises(ConfigError, match=r"no parameter 'hiden'.*did you mean 'hidden'"):
        build_model({"builder": "mlp", "parameters": {"hiden": [3]}}, 3)
    with pytest.raises(ConfigError, match=r"builder mlp failed with .*activation"):
        build_model({"builder": "mlp", "parameters": {"activation": "rellu"}}, 3)
    with pytest.raises(ConfigError, match=r"unknown builder 'mpl'.*did you mean 'mlp'"):
        build_model({"builder": "mpl"}, 3)
    with pytest.raises(ConfigError, match="exactly one of"):
        build_model({"builder": "mlp", "json": "x.json"}, 3)


def test_a_keras_json_file(tmp_path):
    path = tmp_path / "model.json"
    path.write_text(to_json(keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])))
    assert build_model({"json": str(path)}, 4).count_params() == 5
    with pytest.raises(ConfigError, match="the data have 5 features"):
        build_model({"json": str(path)}, 5)
    with pytest.raises(ConfigError, match="takes no parameters"):
        build_model({"json": str(path), "parameters": {"hidden": 3}}, 4)
    with pytest.raises(ConfigError, match="does not exist"):
        build_model({"json": str(tmp_path / "other.json")}, 4)
    path.write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        build_model({"json": str(path)}, 4)
    path.write_text('{"class_name": "Dense", "config": {"units": 1}}')
    with pytest.raises(ConfigError, match=r"model.json (describes|does not describe)"):
        build_model({"json": str(path)}, 4)
