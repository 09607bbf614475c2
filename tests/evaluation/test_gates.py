"""Every rule of a gate on both sides of its bound."""

from __future__ import annotations

import json

import pytest

from dkeras_core.config import Gate
from dkeras_core.errors import ConfigError
from dkeras_core.evaluation.gates import gates

METRICS = {"roc_auc": 0.88, "log_loss": 0.40, "f1": None}
CHAMPION = {"roc_auc": 0.90, "log_loss": 0.35, "f1": 0.5}


@pytest.mark.parametrize(
    ("metric", "rule", "bound", "passed"),
    [
        ("roc_auc", "min", 0.88, True),
        ("roc_auc", "min", 0.881, False),
        ("log_loss", "max", 0.40, True),
        ("log_loss", "max", 0.399, False),
        ("roc_auc", "max_drop", 0.021, True),
        ("roc_auc", "max_drop", 0.019, False),
        ("roc_auc", "min_gain", -0.021, True),
        ("roc_auc", "min_gain", 0.0, False),
        ("log_loss", "max_drop", 0.051, True),  # less is better: it rose by 0.05
        ("log_loss", "max_drop", 0.049, False),
        ("log_loss", "min_gain", 0.0, False),
    ],
)
def test_rules(metric, rule, bound, passed):
    (result,) = gates({metric: {rule: bound}}, METRICS, CHAMPION)
    assert (result.passed, result.value, result.champion_value) == (passed, METRICS[metric], CHAMPION[metric])
    assert metric in result.message
    assert json.loads(json.dumps(result.to_json()))["bound"] == bound


def test_the_gates_of_a_pipeline_file_are_judged_in_order_without_those_left_out():
    config = {"roc_auc": Gate(min=0.8, max_drop=0.01), "log_loss": Gate(max=0.5)}
    results = gates(config, METRICS, CHAMPION)
    assert [(r.metric, r.rule, r.passed) for r in results] == [
        ("roc_auc", "min", True),
        ("roc_auc", "max_drop", False),
        ("log_loss", "max", True),
    ]


def test_without_a_champion_relative_gates_pass_and_say_so():
    for champion, words in ((None, "no champion yet"), ({"log_loss": 1.0}, "champion has no roc_auc")):
        for rule in ("max_drop", "min_gain"):
            (result,) = gates({"roc_auc": {rule: 0.01}}, METRICS, champion)
            assert result.passed and words in result.message
    (absolute,) = gates({"roc_auc": {"min": 0.9}}, METRICS, None)
    assert not absolute.passed


def test_an_undefined_metric_does_not_pass():
    for rule in ("min", "max", "max_drop", "min_gain"):
        (result,) = gates({"f1": {rule: 0.0}}, METRICS, CHAMPION)
        assert not result.passed and "undefined" in result.message


def test_unknown_names_are_refused_with_the_near_one():
    with pytest.raises(ConfigError, match=r"'roc_acu'(.|\n)*did you mean 'roc_auc'"):
        gates({"roc_acu": {"min": 0.5}}, METRICS)
    with pytest.raises(ConfigError, match=r"'max_dorp'(.|\n)*did you mean 'max_drop'"):
        gates({"roc_auc": {"max_dorp": 0.5}}, METRICS)
    with pytest.raises(ConfigError, match=r"not computed(.|\n)*schema\.weight"):
        gates({"ams": {"min": 3.0}}, METRICS)
