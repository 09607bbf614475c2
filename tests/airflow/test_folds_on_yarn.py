"""A cross-validation and sweeps on real Airflow, YARN and HDFS: one with a trial that fails, one in which all do."""

import shutil
import time

import pytest

from dkeras_core.airflow.hdfs import read_json
from dkeras_core.data.higgs import write_events
from dkeras_core.storage.webhdfs import WebHdfsStorage
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]
ROOT = "/folds"
ROWS = 4000
HOPELESS = 1e30  # a learning rate that no loss survives
SMALL = {
    "root: /dkeras": f"root: {ROOT}",
    "hidden: [600, 600]": "hidden: [8]",
    "epochs: 5": "epochs: 1",
    "executors: 2": "executors: 1",
    "    roc_auc: {min: 0.80, max_drop: 0.01}": "    roc_auc: {min: 0.60}",
}


@pytest.fixture(scope="module")
def cluster(hadoop, tmp_path_factory):
    """(storage, rm) with the events in HDFS."""
    storage = WebHdfsStorage(hadoop.namenode_http, timeout=(5, 30), failover=5)
    data = write_events(tmp_path_factory.mktemp("events") / "training.csv", ROWS, seed=1)
    storage.upload(data, f"{ROOT}/raw/higgs/training.csv")
    return storage, ResourceManager.of(HadoopConfig.load(hadoop.conf_dir))


@pytest.fixture(scope="module")
def rest(cluster, fresh_airflow_on_hadoop, project_root):
    """Airflow over REST, with a small pipeline; two applications of a run at a time."""
    folder, found = fresh_airflow_on_hadoop.dags, fresh_airflow_on_hadoop.rest
    (folder / "pipelines").mkdir()
    text = (project_root / "dags/pipelines/higgs.yaml").read_text()
    for old, new in SMALL.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "pipelines/higgs.yaml").write_text(text)
    (folder / "schedules.yaml").write_text("every: {retries: 1, trials: 2}\n")
    for name in ("cross_validate.py", "tune.py"):
        shutil.copy(project_root / "dags" / name, folder)
    deadline = time.monotonic() + 120
    while not {"tune_higgs", "cross_validate_higgs"} <= found.dags().keys():
        assert time.monotonic() < deadline, found.import_errors()
        time.sleep(0.5)
    return found


def ended(rest, dag, conf, state):
    """Run a DAG, alone, to its end; return the id of the run."""
    run = rest.trigger(dag, conf)
    assert rest.wait(dag, run, seconds=1500) == state, {
        task: (found["state"], rest.log(dag, run, found["task_id"], found["try_number"], found["map_index"])[-1500:])
        for task, found in rest.tasks(dag, run).items()
        if found["state"] == "failed"
    }
    return run


def of_run(storage, run, name):
    return read_json(storage, f"{ROOT}/runs/{run}/{name}.json")


def most_at_once(rm, applications):
    """The greatest number of applications that lived at one time."""
    apps = [rm.app(one) for one in applications]
    return max(sum(other.started <= one.started < other.finished for other in apps) for one in apps)


def test_three_folds_test_each_row_once_and_leave_no_data(rest, cluster):
    (storage, rm), dag = cluster, "cross_validate_higgs"
    run = ended(rest, dag, {"folds": 3}, "success")
    planned = [fold["run"] for fold in rest.xcom(dag, run, "folds")]
    data = [of_run(storage, one, "preprocess") for one in planned]
    assert sum(one["rows"]["test"] for one in data) == ROWS and len({one["fingerprint"] for one in data}) == 3
    assert not any(storage.exists(one["path"]) for one in data), "cleaned up"

    found = rest.xcom(dag, run, "summary")
    auc = found["metrics"]["roc_auc"]
    assert found["folds"] == 3 and found["runs"] == planned
    assert auc["values"] == [of_run(storage, one, "metrics")["challenger"]["roc_auc"] for one in planned]
    low, high = auc["interval"]
    assert low < auc["mean"] < high and auc["mean"] > 0.6 and auc["sd"] > 0
    assert read_json(storage, f"{ROOT}/runs/{planned[0].removesuffix('-f1')}/cross_validation.json") == found
    assert "3 of 3 folds" in rest.log(dag, run, "summary")
    applications = [rest.xcom(dag, run, "fold", "application", index) for index in range(3)]
    assert most_at_once(rm, applications) <= 2


def test_a_trial_that_fails_does_not_fail_its_sweep(rest, cluster):
    (storage, rm), dag = cluster, "tune_higgs"
    run = ended(rest, dag, {"learning_rate": [HOPELESS, 0.001, 0.01]}, "success")
    trials = rest.xcom(dag, run, "trials")
    best, made = rest.xcom(dag, run, "best"), rest.xcom(dag, run, "train_best")
    table = of_run(storage, made["run"], "trials")
    assert [one["val_loss"] is None for one in table["trials"]] == [False, False, True]
    assert table["trials"][0]["val_loss"] < table["trials"][1]["val_loss"]
    assert table["trials"][0]["run"] == best["run"] and "1e+30" not in " ".join(best["overrides"])
    assert "the loss of worker 0" in table["trials"][2]["cause"] and table["trials"][2]["run"] == trials[0]["run"]
    assert "the loss of worker 0" in rest.log(dag, run, "best") and "seconds" in rest.log(dag, run, "best")

    data = of_run(storage, trials[0]["data"]["run"], "preprocess")
    of_trials = [of_run(storage, one["run"], "preprocess") for one in trials]
    assert not data["reused"] and all(one["reused"] and one["path"] == data["path"] for one in of_trials)
    applications = [rest.xcom(dag, run, "trial", "application", index) for index in range(3)]
    assert most_at_once(rm, applications) <= 2
    version = rest.xcom(dag, run, "publish_best")["version"]
    assert version == 1 and storage.list(f"{ROOT}/models/higgs/versions")


def test_a_sweep_in_which_every_trial_fails_says_why(rest, cluster):
    dag = "tune_higgs"
    run = ended(rest, dag, {"learning_rate": [HOPELESS]}, "failed")
    states = rest.states(dag, run)
    assert (states["best"], states["train_best"], states["publish_best"]) == (
        "failed", "upstream_failed", "upstream_failed",
    )  # fmt: skip
    said = rest.log(dag, run, "best")
    assert "no trial has succeeded" in said and "the loss of worker 0" in said
