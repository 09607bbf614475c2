"""Every estimator in the same table: params, copies, JSON and messages; nothing is trained."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import ClassVar

import pytest
from pyspark.ml.param import Param
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter

from dkeras_core import ml, rules
from dkeras_core.errors import ConfigError
from dkeras_core.ml.estimators import ESTIMATORS, estimator_of
from dkeras_core.rules.registry import RULES

JSON = json.dumps({"class_name": "Sequential", "config": {"name": "tiny", "layers": []}})
ALL = pytest.mark.parametrize("kind", ESTIMATORS.values(), ids=ESTIMATORS)


def other(field):
    """A value that is not the default, by trying what a rule takes."""
    for value in (3, 0.25, "epoch", True, 1, 0.7):
        if value != field.default and type(value) is type(field.default):
            return value
    return field.default


def changed(kind):
    """Hyper-parameters that differ from the defaults as far as the rule allows."""
    values = {}
    for field in fields(kind.rule):
        try:
            kind.rule(**{field.name: other(field)})
        except ConfigError:
            continue
        values[field.name] = other(field)
    return values


def test_every_rule_has_an_estimator_of_its_name():
    assert {kind.rule for kind in ESTIMATORS.values()} == set(RULES.values())
    assert all(getattr(ml, rule.__name__).__name__ == rule.__name__ for rule in RULES.values())


@ALL
def test_hyper_parameters_are_params_with_the_rules_defaults_and_words(kind):
    estimator = kind()
    for name, text in rules.describe(kind.rule.name).items():
        param = estimator.getParam(name)
        assert text in estimator.explainParam(param)
        assert estimator.getOrDefault(name) == next(f.default for f in fields(kind.rule) if f.name == name)
    assert kind.rule.__doc__.split("\n")[0] in kind.__doc__
    assert set(inspect.signature(kind).parameters) == {param.name for param in estimator.params}
    assert all(param.doc for param in estimator.params)


@ALL
def test_a_copy_takes_extra_values_and_leaves_the_original(kind):
    estimator = kind(JSON, workers=3, epochs=7, featuresCol="x")
    values = changed(kind)
    extra = {estimator.getParam(name): value for name, value in values.items()} | {estimator.epochs: 2}
    copied = estimator.copy(extra)
    assert (copied.uid, copied.getOrDefault("epochs"), copied.getFeaturesCol()) == (estimator.uid, 2, "x")
    assert copied._rule() == kind.rule(**values)
    assert (estimator.getOrDefault("epochs"), estimator._rule()) == (7, kind.rule())
    assert copied.getOrDefault("model") is estimator.getOrDefault("model")


@ALL
def test_params_survive_json(kind):
    estimator = kind(
        JSON,
        **changed(kind),
        workers=3,
        optimizer={"name": "sgd", "learning_rate": 0.1},
        loss={"a": "mse", "b": {"class_name": "Huber", "config": {"delta": 0.5}}},
        class_weight={0: 1, 1: 2.5},
        early_stopping={"patience": 4},
        labelCols=["a", "b"],
        target_loss=0.1,
        overlap=False,
        callbacks=[print],
    )
    held = {param.name: value for param, value in estimator._paramMap.items() if param.name not in kind.unsaved}
    text = DefaultParamsWriter._get_metadata_to_save(estimator, SimpleNamespace(version="4.0.0"), None, held)
    again = kind()._resetUid(estimator.uid)
    DefaultParamsReader.getAndSetParams(again, json.loads(text))
    expected = {param: value for param, value in estimator._paramMap.items() if param.name not in kind.unsaved}
    assert again._paramMap == expected
    assert again._defaultParamMap == estimator._defaultParamMap
    assert again.getOrDefault("class_weight") == {0: 1.0, 1: 2.5}
    assert again._rule() == estimator._rule()


def test_names_of_spark_have_setters_and_ours_are_keywords():
    estimator = ml.EASGD(JSON)
    assert estimator.setFeaturesCol("x").setLabelCol("y").setWeightCol("w") is estimator
    assert (estimator.getInputCols(), estimator.getLabelCols(), estimator.getWeightCol()) == (["x"], ["y"], "w")
    estimator.setParams(moving_rate=0.25, inputCols=["a", "b"], labelCols="c")
    assert (estimator.getInputCols(), estimator.getLabelCols()) == (["a", "b"], ["c"])
    assert estimator.getOrDefault(estimator.moving_rate) == 0.25
    assert isinstance(ml.EASGD.moving_rate, Param)


@pytest.mark.parametrize(
    "values, error, said",
    [
        ({"moving_rates": 0.5}, ConfigError, r"EASGD has no param 'moving_rates' \(did you mean 'moving_rate'\?\)"),
        ({"moving_rate": 2.0}, ConfigError, r"moving_rate must be a number .*not 2\.0"),
        ({"moving_rate": [1]}, TypeError, r"a value of type float or str is needed, not \[1\]"),
        ({"communication_period": True}, TypeError, r"int or str is needed, not True"),
        ({"workers": 0}, ConfigError, r"param workers: a number of at least 1 is needed, not 0"),
        ({"validation_split": 1.5}, ConfigError, r"a number from 0 to 0\.9"),
        ({"wire": "float8"}, ConfigError, r"param wire: one of float32, bfloat16, float16"),
        ({"optimizer": 3}, TypeError, r"an optimizer is a name, a mapping"),
        ({"loss": 3}, TypeError, r"a loss is a name"),
        ({"loss_weights": ["a"]}, TypeError, r"weights of losses are numbers"),
        ({"class_weight": {"a": 1}}, TypeError, r"a mapping of class to weight"),
        ({"class_weight": {0: -1}}, ConfigError, r"not 0: -1"),
        ({"early_stopping": {"patients": 3}}, TypeError, r"some of monitor, patience"),
        ({"early_stopping": {"monitor": "accuracy"}}, ConfigError, r"cannot monitor 'accuracy'"),
        ({"inputCols": ["a", "a"]}, ConfigError, r"every name may stand once"),
        ({"model": "no JSON"}, ConfigError, r"the text given as model is not JSON"),
        ({"model": "{}"}, ConfigError, r"is JSON, but of no model"),
        ({"model": 3}, ConfigError, r"a model is a keras.Model or its JSON, not a int"),
    ],
)
def test_wrong_values_are_named(values, error, said):
    with pytest.raises(error, match=said):
        ml.EASGD(**values)


def test_none_leaves_the_default():
    assert ml.EASGD(JSON, workers=None, epochs=4).setParams(epochs=None).getOrDefault("epochs") == 1


def test_what_is_needed_to_train_is_asked_for():
    with pytest.raises(ConfigError, match=r"EASGD has no model"):
        ml.EASGD().fit(None)
    with pytest.raises(ConfigError, match=r"EASGD has no loss"):
        ml.EASGD(JSON).fit(None)


def test_a_hyper_parameter_must_not_hide_a_param_of_all(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Clashing(rules.Rule):
        """A rule.

        Parameters
        ----------
        communication_period : int
            tau.
        epochs : int
            Something else.
        """

        name: ClassVar[str] = "clashing"
        epochs: int = 3

    monkeypatch.setitem(RULES, "clashing", Clashing)
    with pytest.raises(TypeError, match=r"Clashing\.epochs is the name of a param of all estimators"):
        estimator_of(Clashing)


def test_a_compiled_model_brings_optimizer_and_loss_along():
    import keras

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    rate = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    model.compile(keras.optimizers.SGD(rate, momentum=0.5), keras.losses.BinaryCrossentropy(from_logits=True))
    estimator = ml.EASGD(model)
    optimizer, loss = estimator.getOrDefault("optimizer"), estimator.getOrDefault("loss")
    assert (optimizer["name"], optimizer["momentum"]) == ("sgd", 0.5)
    assert optimizer["learning_rate"]["class_name"] == "ExponentialDecay"
    assert (loss["class_name"], loss["config"]["from_logits"]) == ("BinaryCrossentropy", True)
    assert ml.EASGD(model, loss="mse", optimizer="adam").getOrDefault("optimizer") == {"name": "adam"}
    assert ml.EASGD(model, loss=keras.losses.mean_squared_error).getOrDefault("loss") == "mean_squared_error"
    model.compile("adam", "mse", loss_weights=[2.0])
    assert ml.EASGD(model).getOrDefault("loss_weights") == [2.0]
    assert not ml.EASGD(model, loss="mse").isSet("loss_weights")
    assert ml.EASGD(model, loss_weights={"a": 1}).getOrDefault("loss_weights") == {"a": 1.0}
    with pytest.raises(ConfigError, match=r"has no variables yet"):
        ml.EASGD(keras.Sequential([keras.layers.Dense(1)]))
