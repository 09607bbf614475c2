"""Which combinations a sweep tries, and which one it takes."""

import json

import pytest

from dkeras_core.airflow import sweep
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.paths import NAME

ASKED = {
    "algorithms": [], "executors": [], "communication_period": [], "moving_rate": [], "learning_rate": [],
    "epochs": 1, "most": 12, "overrides": [],
}  # fmt: skip
RUN = "higgs-20261123t010203-abcdef01"


@pytest.fixture
def file(project_root):
    return project_root / "dags/pipelines/higgs.yaml"


def test_all_combinations_each_once(file):
    asked = ASKED | {"executors": [1, 2], "learning_rate": [0.1, 0.01], "communication_period": [5], "epochs": 2}
    found = sweep.trials(file, RUN, asked)
    assert [trial["run"] for trial in found] == [f"{RUN}-t{index}" for index in range(4)]
    pipelines = [Pipeline.load(file, trial["overrides"]) for trial in found]
    assert {(p.resources.executors, p.training.optimizer.learning_rate) for p in pipelines} == {
        (1, 0.1), (1, 0.01), (2, 0.1), (2, 0.01),
    }  # fmt: skip
    for one in pipelines:
        assert one.training.epochs == 2 and one.algorithm.parameters["communication_period"] == 5
        assert one.split.validation == sweep.VALIDATION, "never judged on the test split"
    assert all("epochs" not in text and "validation" not in text for trial in found for text in trial["chosen"])


def test_what_an_algorithm_does_not_know_is_left_out(file):
    asked = ASKED | {"algorithms": ["asynchronous_easgd", "diloco"], "moving_rate": [0.1, 0.2]}
    found = [Pipeline.load(file, trial["overrides"]).algorithm for trial in sweep.trials(file, RUN, asked)]
    assert [one.name for one in found] == ["asynchronous_easgd", "asynchronous_easgd", "diloco"]
    assert [one.parameters.get("moving_rate") for one in found] == [0.1, 0.2, None]


def test_contradictions_are_told_and_left_out(file):
    said = []
    with pytest.raises(ConfigError, match="no combination is possible"):
        sweep.trials(file, RUN, ASKED | {"moving_rate": [-1.0]}, said.append)
    assert "moving_rate" in said[0]
    found = sweep.trials(file, RUN, ASKED | {"moving_rate": [-1.0, 0.2]}, said.append)
    assert [trial["chosen"] for trial in found] == [["algorithm.moving_rate=0.2"]] and len(said) == 2
    with pytest.raises(ConfigError, match="3 trials, more than 2"):
        sweep.trials(file, RUN, ASKED | {"learning_rate": [1.0, 2.0, 3.0], "most": 2})


def test_long_names_stay_names(file):
    found = sweep.trials(file, f"{'x' * 38}-20261123t010203-abcdef01", ASKED)
    assert NAME.fullmatch(found[0]["run"]) and found[0]["run"].endswith("-abcdef01-t0")


def test_the_least_validation_loss_is_the_best(tmp_path):
    tried = [{"run": f"r{index}", "chosen": [f"training.seed={index}"], "overrides": []} for index in range(4)]
    with pytest.raises(TrainingError, match="no trial has succeeded"):
        sweep.best(tmp_path.as_uri(), tried)
    for index, loss in ((0, 0.5), (1, 0.4), (2, None)):  # the fourth has written nothing
        folder = tmp_path / f"runs/r{index}"
        folder.mkdir(parents=True)
        (folder / "train.json").write_text(json.dumps({"final": {"val_loss": loss, "val_AUC": 0.9}}))
    said = []
    found = sweep.best(tmp_path.as_uri(), tried, said.append)
    assert found == {"run": "r1", "val_loss": 0.4, "overrides": ["training.seed=1"]}
    assert [line.split()[0] for line in said] == ["0.40000", "0.50000", "no", "no"]


def test_folds_have_splits_of_their_own(file):
    found = sweep.folds(file, RUN, 4, ["training.epochs=1"])
    assert [fold["run"] for fold in found] == [f"{RUN}-f{index}" for index in range(4)]
    pipelines = [Pipeline.load(file, fold["overrides"]) for fold in found]
    own = Pipeline.load(file).split.seed
    assert len({one.split.seed for one in pipelines} | {own}) == 5 and {one.split.test for one in pipelines} == {0.25}
    assert all(one.training.epochs == 1 and one.evaluation.gates == {} for one in pipelines)
    with pytest.raises(ConfigError, match="unknown key"):
        sweep.folds(file, RUN, 4, ["training.epoch=1"])


def test_mean_and_spread_of_the_folds_that_succeeded(tmp_path):
    planned = [{"run": f"f{index}"} for index in range(3)]
    for index, auc in ((0, 0.8), (2, 0.9)):
        folder = tmp_path / f"runs/f{index}"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"challenger": {"roc_auc": auc, "ams": None, "rows": 5}}))
    said = []
    found = sweep.summary(tmp_path.as_uri(), "all", planned, said.append)
    assert found["folds"] == 2 and list(found["metrics"]) == ["roc_auc"]
    assert found["metrics"]["roc_auc"]["mean"] == pytest.approx(0.85)
    assert found["metrics"]["roc_auc"]["sd"] == pytest.approx(0.1 / 2**0.5)
    assert said == ["f1 has no metrics", "roc_auc: 0.8500 ± 0.0707"]
    assert json.loads((tmp_path / "runs/all/cross_validation.json").read_text()) == found
    with pytest.raises(TrainingError, match="1 of 2 folds"):
        sweep.summary(tmp_path.as_uri(), "all", planned[:2])
