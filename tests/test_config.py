"""The pipeline file: complete round trip, and one clear message for each mistake."""

from pathlib import Path

import pytest

from dkeras_core.config import Pipeline, mebibytes
from dkeras_core.errors import ConfigError

HIGGS = Path(__file__).parents[1] / "dags" / "pipelines" / "higgs.yaml"
TEXT = HIGGS.read_text()
LOSS = "loss: binary_crossentropy"  # a line of the example that another setting can take the place of


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
        ("test: 0.2", "folds: 10", -1, ["split", "folds and fold belong together"]),
        ("test: 0.2", "fold: 3", -1, ["split", "folds and fold belong together"]),
        ("  test: 0.2", "  folds: 2\n  fold: 3", -1, ["split", "there is no fold 3 of 2; the first one is 1"]),
        ("  test: 0.2", "  folds: 2\n  fold: 1\n  validation: 0.5", -1, ["test (0.5) + validation leave no rows"]),
        ("\ntraining:", "\ntrainin:", 1, ["unknown key trainin", "did you mean 'training'"]),
        ("builder: mlp", "function: nonsense", 0, ["model.function"]),
        ("weight: Weight", "weight: Label", None, ["Label", "two roles"]),
        ("name: asynchronous_easgd", "name: asynchronous_esgd", None, ["asynchronous_esgd", "asynchronous_easgd"]),
        ("name: asynchronous_easgd", "name: asynchronous_easgd\n  moving_rate: 1.5", None, ["moving_rate", "1.5"]),
        (
            "name: asynchronous_easgd",
            "name: asynchronous_easgd\n  movin_rate: 0.5",
            None,
            ["movin_rate", "moving_rate"],
        ),
        ("root: /dkeras", "root: dkeras", 0, ["root", "absolute"]),
        (LOSS, "result: meen", 0, ["training.result", "did you mean 'mean'"]),
        (
            LOSS,
            "learning_rate_scaling: fast",
            0,
            ["learning_rate_scaling = 'fast'", "auto, none, or a number"],
        ),
        (LOSS, "learning_rate_scaling: 0", 0, ["learning_rate_scaling = 0", "above 0"]),
        (LOSS, "wire: bf16", 0, ["training.wire", "did you mean 'bfloat16'"]),
        (LOSS, "exchange_share: 5", 0, ["training.exchange_share = 5", "less than 1"]),
        (LOSS, "class_weight: {2: 1.0}", 0, ["training.class_weight: the classes are 0", "not 2"]),
        (LOSS, "validation: {row: 5}", 0, ["training.validation.row", "did you mean 'rows'"]),
        (LOSS, "early_stopping: {monitor: accuracy}", 0, ["cannot monitor 'accuracy'", "val_<metric>"]),
        (LOSS, "early_stopping: {patience: 3}", 0, ["training.early_stopping", "set split.validation"]),
        (LOSS, "loss: 5", 0, ["training.loss = 5", "by name"]),
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


@pytest.mark.parametrize(
    ("overrides", "line", "parts"),
    [
        (
            ["algorithm={name: averaging}", "training.result=center"],
            "training",
            ["training.result: workers of averaging"],
        ),
        (["algorithm={name: sequential}"], "training", ["training.workers: ", "sequential"]),
        (["algorithm={name: gradient_averaging}", "training.overlap=true"], "training", ["training.overlap: "]),
        (["algorithm={name: averaging}", "training.warm_start=50"], "training", ["training.warm_start: "]),
        (["algorithm={name: diloco}", "training.wire=bfloat16"], "training", ["training.wire: ", "use float16"]),
    ],
)
def test_settings_that_the_algorithm_cannot_have_are_named_with_the_reason(overrides, line, parts):
    with pytest.raises(ConfigError) as caught:
        Pipeline.parse(TEXT, source="p.yaml", overrides=overrides)
    written = next(n for n, text in enumerate(TEXT.splitlines(), start=1) if text.strip().startswith(f"{line}:"))
    assert f"p.yaml:{written}: " in str(caught.value)
    for part in parts:
        assert part in str(caught.value)


def test_all_training_settings_survive_a_round_trip():
    overrides = [
        "split.validation=0.1", "training.class_weight={0: 1, 1: 2.5}", "training.learning_rate_scaling=2.5",
        "training.loss={class_name: BinaryFocalCrossentropy, config: {gamma: 3}}", "training.target_loss=0.3",
        "training.early_stopping={monitor: val_AUC, restore_best: true}", "training.result=ensemble",
    ]  # fmt: skip
    pipeline = Pipeline.parse(TEXT, overrides=overrides)
    assert pipeline.training.class_weight == {0: 1.0, 1: 2.5}
    assert Pipeline.parse(pipeline.to_yaml()) == pipeline


def test_the_guide_names_every_setting():
    guide = (HIGGS.parents[2] / "docs" / "pipeline.md").read_text()
    for section in ("input", "split", "features", "training", "resources", "evaluation"):
        kind = Pipeline.model_fields[section].annotation
        for name in kind.model_fields:
            assert f"`{section}.{name}" in guide or f"`.{name}`" in guide, f"docs/pipeline.md: {section}.{name}"


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
    with pytest.raises(ConfigError, match=r"yaml:\d+: set by training\.epohcs=2: unknown key training\.epohcs \(did"):
        Pipeline.load(HIGGS, ["training.epohcs=2"])
    with pytest.raises(ConfigError, match=r"key\.sub=value"):
        Pipeline.load(HIGGS, ["training.epochs"])


@pytest.mark.parametrize("key", ["spark.dynamicAllocation.enabled", "spark.speculation"])
def test_settings_that_break_a_fixed_membership_are_refused(key):
    with pytest.raises(ConfigError, match="fixed"):
        Pipeline.load(HIGGS, [f"resources.conf={{{key}: true}}"])


def test_memory_in_mebibytes():
    assert (mebibytes("2g"), mebibytes("512m")) == (2048, 512)
