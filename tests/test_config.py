"""The pipeline file: complete round trip, and one clear message for each mistake."""

from pathlib import Path

import pytest

from dkeras_core.config import Pipeline, mebibytes
from dkeras_core.errors import ConfigError

HIGGS = Path(__file__).parents[1] / "dags" / "pipelines" / "higgs.yaml"
TEXT = HIGGS.read_text()


def test_the_example_loads_and_survives_a_round_trip():
    pipeline = Pipeline.load(HIGGS)
    assert pipeline.input_path == "/dkeras/raw/higgs/training.csv"
    assert pipeline.workers == 2
    assert pipeline.schema_.missing == -999.0
    assert Pipeline.parse(pipeline.to_yaml()) == pipeline


@pytest.mark.parametrize(
    ("before", "after", "where", "parts"),
    [
        ("label: Label", "labl: Label", 0, ["unknown key schema.labl", "did you mean 'label'"]),
        ("impute: median", "impute: medain", 0, ["features.impute", "'medain'", "did you mean 'median'"]),
        ("\n  memory: 1g", "\n  memory: 1x", 1, ["resources.memory", "512m or 2g"]),
        ("epochs: 5", "epochs: many", 0, ["training.epochs", "valid integer"]),
        ("epochs: 5", "epochs: 0", 0, ["training.epochs", "greater than or equal to 1"]),
        ("roc_auc:", "roc_acu:", -1, ["roc_acu", "did you mean 'roc_auc'"]),
        ("{min: 0.80", "{mn: 0.80", 0, ["roc_auc.mn", "did you mean 'min'"]),
        ("test: 0.2", "test: 1.2", 0, ["split.test", "less than 1"]),
        ("\ntraining:", "\ntrainin:", 1, ["unknown key trainin", "did you mean 'training'"]),
        ("builder: mlp", "function: nonsense", 0, ["model.function"]),
        ("weight: Weight", "weight: Label", None, ["Label", "two roles"]),
        ("name: asynchronous_easgd", "name: asynchronous_esgd", None, ["asynchronous_esgd", "asynchronous_easgd"]),
        ("moving_rate: 0.5", "moving_rate: 1.5", None, ["moving_rate", "1.5"]),
        ("moving_rate: 0.5", "movin_rate: 0.5", None, ["movin_rate", "moving_rate"]),
        ("root: /dkeras", "root: dkeras", 0, ["root", "absolute"]),
    ],
)
def test_a_mistake_is_named_with_file_line_key_and_reason(before, after, where, parts):
    """``where``: lines between the replaced text and the line that the message names; None for any line."""
    assert TEXT.count(before) == 1, "the example no longer holds what this test replaces"
    with pytest.raises(ConfigError) as caught:
        Pipeline.parse(TEXT.replace(before, after), source="p.yaml")
    message = str(caught.value)
    line = TEXT[: TEXT.index(before)].count("\n") + 1
    assert ("p.yaml:" if where is None else f"p.yaml:{line + where}:") in message, message
    for part in parts:
        assert part in message, message


def test_a_missing_key_is_named():
    with pytest.raises(ConfigError, match=r"key registry is missing"):
        Pipeline.parse(TEXT.replace("registry:\n  model: higgs\n", ""))


def test_all_mistakes_come_in_one_message():
    broken = TEXT.replace("label: Label", "labl: Label").replace("epochs: 5", "epochs: x")
    with pytest.raises(ConfigError) as caught:
        Pipeline.parse(broken)
    assert "schema.labl" in str(caught.value) and "training.epochs" in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a list", "just words", "a: [", "\ta: b"])
def test_what_is_no_pipeline_is_refused(text):
    with pytest.raises(ConfigError):
        Pipeline.parse(text)


def test_a_key_written_twice_is_refused():
    with pytest.raises(ConfigError, match="written twice"):
        Pipeline.parse(TEXT + "\nname: again\n")


def test_a_missing_file_names_those_beside_it():
    with pytest.raises(ConfigError, match=r"higgs\.yaml"):
        Pipeline.load(HIGGS.with_name("higs.yaml"))


def test_overrides_win_and_are_checked():
    assert Pipeline.load(HIGGS, ["training.epochs=2"]).training.epochs == 2
    with pytest.raises(ConfigError, match="epohcs"):
        Pipeline.load(HIGGS, ["training.epohcs=2"])
    with pytest.raises(ConfigError, match=r"key\.sub=value"):
        Pipeline.load(HIGGS, ["training.epochs"])


@pytest.mark.parametrize("key", ["spark.dynamicAllocation.enabled", "spark.speculation"])
def test_settings_that_break_a_fixed_membership_are_refused(key):
    with pytest.raises(ConfigError, match="fixed"):
        Pipeline.load(HIGGS, [f"resources.conf={{{key}: true}}"])


def test_memory_in_mebibytes():
    assert (mebibytes("2g"), mebibytes("512m")) == (2048, 512)
