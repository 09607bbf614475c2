"""Models by name: a registered builder, a user's ``module:function``, or a Keras JSON file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path

from dkeras_core.config_file import meant
from dkeras_core.errors import ConfigError

_BUILDERS: dict[str, Callable] = {}


def builder(function: Callable) -> Callable:
    """Register ``function(n_features, n_classes, **parameters) -> keras.Model`` under its own name."""
    _BUILDERS[function.__name__] = function
    return function


def build_model(setting, n_features: int, n_classes: int | None = None):
    """Return a built Keras model whose only input takes rows of ``n_features`` numbers.

    Parameters
    ----------
    setting : mapping or config.Model
        The section ``model`` of the pipeline file: one of ``builder``, ``function`` or ``json`` (a path), and
        ``parameters``. Relative paths stand below the current folder.
    n_features : int
        Width of a row.
    n_classes : int, optional
        More than two for several classes; otherwise the task is binary and the model ends in one unit.

    Raises
    ------
    ConfigError
        Module, function, builder or parameter not found (named, with the one probably meant); something that is
        not a Keras model; an input that does not take ``n_features``.
    """
    import keras

    if hasattr(setting, "model_dump"):
        setting = setting.model_dump(by_alias=True)
    sources = [key for key in ("builder", "function", "json") if setting.get(key)]
    if len(sources) != 1:
        raise ConfigError(f"a model needs exactly one of builder, function, json; found {sources or 'none'}")
    parameters = dict(setting.get("parameters") or {})
    name = setting[sources[0]]
    if sources[0] == "json":
        model, where = _from_file(name, parameters), f"model file {name}"
    else:
        function = _registered(name) if sources[0] == "builder" else _imported(name)
        where = f"{sources[0]} {name}"
        model = _called(function, where, n_features, n_classes, parameters)
    if not isinstance(model, keras.Model):
        raise ConfigError(f"{where} returned a {type(model).__module__}.{type(model).__name__}, not a keras.Model")
    return _fitting(model, where, n_features)


@builder
def mlp(
    n_features: int,
    n_classes: int | None = None,
    *,
    hidden=(600, 600),
    activation: str = "relu",
    dropout: float = 0.0,
    batch_normalization: bool = False,
):
    """Dense layers of ``hidden`` units; the default has 380,402 parameters on 30 features with two classes' outputs,
    379,801 with one sigmoid unit."""
    import keras
    from keras import layers

    stack = [keras.Input((n_features,), name="features")]
    for units in hidden:
        stack.append(layers.Dense(units, use_bias=not batch_normalization))
        if batch_normalization:
            stack.append(layers.BatchNormalization())
        stack.append(layers.Activation(activation))
        if dropout:
            stack.append(layers.Dropout(dropout))
    return keras.Sequential([*stack, _output(n_classes)])


@builder
def linear(n_features: int, n_classes: int | None = None):
    """Logistic regression: the comparison that a network must beat."""
    import keras

    return keras.Sequential([keras.Input((n_features,), name="features"), _output(n_classes)])


def _output(n_classes):
    from keras import layers

    if n_classes is None or n_classes <= 2:
        return layers.Dense(1, activation="sigmoid", dtype="float32", name="score")
    return layers.Dense(n_classes, activation="softmax", dtype="float32", name="score")


def _registered(name: str) -> Callable:
    if name not in _BUILDERS:
        raise ConfigError(f"unknown builder {name!r}{meant(name, _BUILDERS)}; builders are {', '.join(_BUILDERS)}")
    return _BUILDERS[name]


def _imported(name: str) -> Callable:
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"model function {name!r} is not of the form module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigError(
                f"model function {name}: module {error.name!r} not found",
                "name its file under model.files, or install it into the environment",
            ) from None
        raise ConfigError(
            f"model function {name}: module {module_name!r} imports {error.name!r}, which is not installed",
            "add the package to the environment, or import it only where it is needed",
        ) from error
    except Exception as error:  # the user's module may raise anything
        raise ConfigError(f"model function {name}: importing {module_name!r} failed: {_said(error)}") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        what = "has no function" if function is None else "holds no function but a value named"
        raise ConfigError(f"module {module_name!r} {what} {function_name!r}{meant(function_name, known)}")
    return function


def _called(function, where, n_features, n_classes, parameters):
    signature = inspect.signature(function)
    arguments = {"n_features": n_features, **parameters}
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    if "n_classes" in signature.parameters or (takes_any and n_classes is not None):
        arguments.setdefault("n_classes", n_classes)
    accepted = [key for key in signature.parameters if key not in ("n_features", "n_classes")]
    if not takes_any:
        strange = [key for key in parameters if key not in accepted]
        if strange:
            raise ConfigError(
                f"{where} takes no parameter {strange[0]!r}{meant(strange[0], accepted)}; "
                f"it takes {', '.join(accepted) or 'none'}"
            )
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{where} cannot be called: {error}", "it is called with n_features and the model's parameters, by name"
        ) from None
    try:
        return function(**arguments)
    except ConfigError:
        raise
    except Exception as error:  # the builder may raise anything, Keras included
        raise ConfigError(f"{where} failed with {parameters or 'no parameters'}: {_said(error)}") from error


def _from_file(path: str, parameters: Mapping):
    from dkeras_core.learning.model_io import from_json

    if parameters:
        raise ConfigError(f"model file {path} is complete: it takes no parameters ({', '.join(parameters)})")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"model file {path} does not exist", "check model.json in the pipeline file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"model file {path} cannot be read: {error}") from error
    return from_json(text, f"model file {path}")


def _fitting(model, where: str, n_features: int):
    """Return the model, built, or say why it cannot take rows of ``n_features``."""
    if not model.built:
        try:
            model.build((None, n_features))
        except Exception as error:  # a subclassed model may raise anything
            raise ConfigError(f"{where}: the model cannot take {n_features} features: {_said(error)}") from error
    inputs = model.inputs or []
    if len(inputs) > 1:
        raise ConfigError(f"{where}: the model takes {len(inputs)} inputs, a pipeline feeds one array of features")
    if inputs and tuple(inputs[0].shape) not in ((None, n_features), (None, None)):
        raise ConfigError(
            f"{where}: the model takes input of shape {list(inputs[0].shape[1:])}, "
            f"the data have {n_features} features in a row",
            "take the width from n_features when building the model",
        )
    return model


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
