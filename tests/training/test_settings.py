"""Settings that contradict each other are refused before anything starts, with the reason."""

import pytest

from dkeras_core import rules
from dkeras_core.data.spool import Column
from dkeras_core.errors import ConfigError
from dkeras_core.training.settings import EarlyStopping, TrainingSettings


def settings(rule, period=None, **values):
    given = {
        "optimizer": {"name": "adam"}, "loss": "mse", "epochs": 2, "batch_size": 10, "workers": 2, "rows": 2000,
        "inputs": (Column("features", shape=(4,)),),
    }  # fmt: skip
    rule = rules.get(rule, **({"communication_period": period} if period else {}))
    return TrainingSettings(rule=rule, **{**given, **values})


@pytest.mark.parametrize(
    ("rule", "values", "message"),
    [
        ("averaging", {"result": "center"}, "result: workers of averaging never exchange, so there is no center"),
        ("gradient_averaging", {"result": "ema"}, "no average of a center"),
        ("ensemble", {"result": "ema"}, "there is no ema"),
        ("asynchronous_easgd", {"result": "best"}, "result: must be one of mean, center, ema, ensemble, not 'best'"),
        ("sequential", {}, "workers: .*sequential"),
        ("gradient_averaging", {"overlap": True}, "overlap: .*needs the answer"),
        ("averaging", {"overlap": True}, "overlap: .*never exchanges"),
        ("averaging", {"warm_start": 50}, "warm_start: "),
        ("averaging", {"early_stopping": EarlyStopping()}, "early_stopping: the center of averaging does not move"),
        ("asynchronous_easgd", {"wire": "int8"}, "wire: must be one of float32, bfloat16, float16, not 'int8'"),
        ("easgd", {"wire": "bfloat16"}, "wire: workers of easgd go on from whole vectors.*use float16"),
        ("asynchronous_easgd", {"on_nonfinite": "ignore"}, 'on_nonfinite: must be "stop" or "drop"'),
    ],
)
def test_contradictions_are_refused(rule, values, message):
    with pytest.raises(ConfigError, match=message):
        settings(rule, **values)


def test_half_precision_that_a_rule_bears_is_taken():
    assert settings("easgd", wire="float16").wire == "float16"
    assert settings("delta_averaging", wire="bfloat16").wire == "bfloat16"


def test_a_center_that_moves_once_cannot_be_monitored():
    with pytest.raises(ConfigError, match="does not move before the end"):
        settings("asynchronous_delta_averaging", "fit", early_stopping=EarlyStopping())
    settings("asynchronous_delta_averaging", "fit", early_stopping=EarlyStopping("loss"))


def test_the_result_is_the_rules_own_unless_it_is_set():
    assert settings("asynchronous_easgd").chosen_result == "mean"
    assert settings("ensemble").chosen_result == "ensemble"
    assert settings("ensemble", result="mean").chosen_result == "mean"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"monitor": "accuracy"}, "cannot monitor 'accuracy'"),
        ({"monitor": "val_"}, "cannot monitor"),
        ({"patience": -1}, "must not be negative"),
        ({"mode": "least"}, 'mode must be "auto"'),
        ({"monitor": "loss", "restore_best": True}, "each with its own parameters"),
    ],
)
def test_early_stopping_checks_its_values(values, message):
    with pytest.raises(ConfigError, match=message):
        EarlyStopping(**values)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "workers is a whole number of at least 1, not 0"),
        ({"workers": 1.5}, "workers is a whole number of at least 1, not 1.5"),
        ({"epochs": 0}, "epochs is a whole number"),
        ({"batch_size": -1}, "batch_size is a whole number of at least 1, not -1"),
        ({"seed": None}, "seed is a whole number of at least 0, not None"),
        ({"class_weight": {0: 1.0, "a": 2.0}}, "classes 0, 1, ..., not 'a': 2.0"),
        ({"class_weight": {1: float("nan")}}, "not 1: nan"),
    ],
)
def test_numbers_that_cannot_work_are_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        settings("easgd", **given)


def test_a_run_has_the_numbers_that_its_workers_ask_for():
    """So that its account and its report tell them; what was asked for stays in the pipeline file."""
    rule = settings("asynchronous_easgd", workers=64).rule
    assert (rule.communication_period, rule.moving_rate) == (2, 0.7)
    assert settings("asynchronous_easgd", 10, workers=64).rule.communication_period == 10
    assert settings("downpour", workers=4).rule.to_config()["commit_rate"] == 0.25
