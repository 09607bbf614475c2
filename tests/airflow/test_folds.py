"""The folds of a cross-validation as applications, what they say together, and what becomes of their data."""

import json

import pytest

from dkeras_core.airflow import folds
from dkeras_core.airflow.tags import part_of
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.evaluation.resampling import interval
from dkeras_core.paths import NAME
from dkeras_core.registry import Registry
from dkeras_core.registry.readonly import remove
from dkeras_core.storage.local import LocalStorage

RUN = "higgs-20261123t010203-abcdef01"


@pytest.fixture
def file(project_root):
    return project_root / "dags/pipelines/higgs.yaml"


@pytest.fixture
def write(tmp_path):
    """Put a JSON file below the root folder."""

    def put(path, value):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))

    return put


def test_each_part_of_the_rows_is_tested_on_once(file):
    found = folds.folds(file, RUN, 4, 1, ["training.epochs=1"])
    assert [fold["run"] for fold in found] == [f"{RUN}-f{fold}" for fold in (1, 2, 3, 4)]
    pipelines = [Pipeline.load(file, fold["overrides"]) for fold in found]
    assert [one.split.span for one in pipelines] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert {one.split.seed for one in pipelines} == {Pipeline.load(file).split.seed}
    assert all(one.training.epochs == 1 and one.evaluation.gates == {} for one in pipelines)
    with pytest.raises(ConfigError, match="unknown key"):
        folds.folds(file, RUN, 4, 1, ["training.epoch=1"])


def test_each_repeat_cuts_the_rows_anew(file):
    found = folds.folds(file, RUN, 2, 3, ["split.seed=7"])
    pipelines = [Pipeline.load(file, fold["overrides"]) for fold in found]
    assert [(one.split.seed, one.split.fold) for one in pipelines] == [(7, 1), (7, 2), (8, 1), (8, 2), (9, 1), (9, 2)]
    assert len({fold["run"] for fold in found}) == 6


def test_long_names_stay_names():
    name = part_of(f"{'x' * 38}-20261123t010203-abcdef01", "f19-100")
    assert NAME.fullmatch(name) and name.endswith("-20261123t010203-abcdef01-f19-100") and len(name) == 64


def test_mean_spread_and_interval_of_the_folds_that_succeeded(tmp_path, write):
    planned, aucs = [{"run": f"f{index}"} for index in range(4)], {0: 0.8, 2: 0.9, 3: 0.85}
    for index, auc in aucs.items():
        write(f"runs/f{index}/metrics.json", {"challenger": {"roc_auc": auc, "ams": None, "rows": 5}})
        write(f"runs/f{index}/preprocess.json", {"rows": {"test": 250, "train": 750}})
    said = []
    found = folds.summary(tmp_path.as_uri(), "all", planned, said.append)
    assert (found["planned"], found["folds"], found["runs"]) == (4, 3, ["f0", "f2", "f3"])
    auc = found["metrics"].pop("roc_auc")
    assert found["metrics"] == {}
    assert auc["mean"] == pytest.approx(0.85) and auc["sd"] == pytest.approx(0.05)
    assert auc["values"] == [0.8, 0.9, 0.85] and auc["interval"] == pytest.approx(interval(auc["values"], 1 / 3))
    assert said[0] == "f1 has no metrics" and said[2].startswith("roc_auc: 0.8500 ± 0.0500, 0.6")
    written = json.loads((tmp_path / "runs/all/cross_validation.json").read_text())
    assert written["metrics"]["roc_auc"] == auc
    with pytest.raises(TrainingError, match="1 of 2 folds"):
        folds.summary(tmp_path.as_uri(), "all", planned[:2])


@pytest.fixture
def data(tmp_path, write):
    """A fold's run and its data set; returns the folder."""
    folder = tmp_path / "data/higgs/abc"
    write("runs/f0/preprocess.json", {"path": str(folder), "fingerprint": "abc"})
    write("data/higgs/abc/dataset.json", {"run": "f0"})
    write("data/higgs/other/dataset.json", {"run": "f1"})
    return folder


def test_data_of_a_fold_go(tmp_path, data):
    said = []
    assert folds.clean(tmp_path.as_uri(), "f0", said.append) == str(data)
    assert not data.exists() and (data.parent / "other").exists() and said == [f"removing {data}"]
    assert folds.clean(tmp_path.as_uri(), "f0") is None, "again"
    assert folds.clean(tmp_path.as_uri(), "never ran") is None


@pytest.mark.parametrize("who", ["higgs-20261122t010203-abcd", None])
def test_data_that_another_run_has_made_stay(tmp_path, data, write, who):
    write("data/higgs/abc/dataset.json", {"run": who} if who else {})
    said = []
    assert folds.clean(tmp_path.as_uri(), "f0", said.append) is None
    assert data.exists() and "was made by" in said[0]


def test_data_that_a_version_was_made_from_stay(tmp_path, data):
    storage, root = LocalStorage(), tmp_path.as_uri()
    version = tmp_path / "version"
    version.mkdir()
    (version / "model.keras").write_bytes(b"1")
    Registry(storage, root).publish("other", version, run_id="mine", lineage={"data_fingerprint": "abc"}, metrics={})
    said = []
    assert folds.clean(root, "f0", said.append) is None
    assert data.exists() and "other@1 was made from it" in said[0]
    remove(storage, root)
