"""Which combinations a sweep tries, and which one it takes."""

import json

import pytest

from dkeras_core.airflow import sweep
from dkeras_core.config import Pipeline
from dkeras_core.data.fingerprint import fingerprint
from dkeras_core.errors import ConfigError, TrainingError

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


def test_all_trials_share_the_data_that_one_application_makes(file):
    asked = ASKED | {"algorithms": ["asynchronous_easgd", "diloco"], "executors": [1, 3], "learning_rate": [0.1]}
    found = sweep.trials(file, RUN, asked | {"overrides": ["features.impute=mean"]})
    shared = found[0]["data"]
    assert all(trial["data"] == shared for trial in found) and shared["run"] not in {RUN, *(t["run"] for t in found)}
    wanted = fingerprint(Pipeline.load(file, shared["overrides"]), "input")
    assert {fingerprint(Pipeline.load(file, trial["overrides"]), "input") for trial in found} == {wanted}
    assert wanted != fingerprint(Pipeline.load(file), "input")


TRIED = [
    {"run": f"r{index}", "chosen": ["common=1", f"training.seed={index}"], "data": {"overrides": ["common=1"]}}
    for index in range(6)
]


@pytest.fixture
def write(tmp_path):
    """Put the files of a trial's run below the root folder: ``write("r0", train={...})``."""

    def put(run, **files):
        folder = tmp_path / "runs" / run
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / f"{name}.json").write_text(json.dumps(value))

    return put


def succeeded(loss, seconds=5.0, data="abc"):
    train = {"final": {"val_loss": loss, "val_AUC": 0.9}, "seconds": seconds}
    return {"result": {"status": "succeeded"}, "train": train, "preprocess": {"fingerprint": data}}


def test_the_least_validation_loss_is_the_best(tmp_path, write):
    write(f"{RUN}-data", preprocess={"fingerprint": "abc"})
    write("r0", **succeeded(0.5))
    write("r1", **succeeded(0.4, 61.0))
    write("r2", **succeeded(float("nan")))
    write("r3", **succeeded(0.1, data="of an input that was changed"))
    # It was trained once, cleared, and failed then.
    write("r4", **succeeded(0.1) | {"result": {"status": "failed", "error": {"what": "worker 1 was\nlost"}}})
    said = []
    found = sweep.best(tmp_path.as_uri(), RUN, TRIED, said.append)
    assert found == {"run": "r1", "val_loss": 0.4, "overrides": ["common=1", "training.seed=1"]}
    assert [" ".join(line.split()) for line in said] == [
        "loss seconds settings run",
        "0.40000 61.0 training.seed=1 r1",
        "0.50000 5.0 training.seed=0 r0",
        "- 5.0 training.seed=2 r2 the loss on the validation rows is nan",
        "- 5.0 training.seed=3 r3 the input was changed while the sweep ran",
        "- - training.seed=4 r4 worker 1 was lost",
        "- - training.seed=5 r5 no application of it has come to an end",
    ]
    written = json.loads((tmp_path / f"runs/{RUN}/trials.json").read_text())
    assert [one["run"] for one in written["trials"]] == ["r1", "r0", "r2", "r3", "r4", "r5"]
    assert written["trials"][0] == {
        "run": "r1", "settings": "training.seed=1", "val_loss": 0.4, "seconds": 61.0, "cause": None,
    }  # fmt: skip


def test_a_sweep_without_a_loss_fails_with_the_causes(tmp_path, write):
    failed = {"status": "failed", "error": {"what": "executor memory (9 GB) is above the limit"}}
    for trial in TRIED[:3]:
        write(trial["run"], result=failed)
    with pytest.raises(TrainingError, match=r"no trial has succeeded: executor memory \(9 GB\).*; no application"):
        sweep.best(tmp_path.as_uri(), RUN, TRIED[:4])
    assert (tmp_path / f"runs/{RUN}/trials.json").exists()
    with pytest.raises(TrainingError, match="there was none"):
        sweep.best(tmp_path.as_uri(), RUN, [])
