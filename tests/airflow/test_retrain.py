"""The DAGs as an operator uses them: over REST, on real Airflow, YARN and HDFS, from raw rows to a promoted alias."""

import os
import shutil
import time
from datetime import datetime

import pytest

from dkeras_core.airflow.hdfs import read_json
from dkeras_core.data.higgs import write_events
from dkeras_core.registry import Registry
from dkeras_core.storage.webhdfs import WebHdfsStorage

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(2400)]
ROOT = "/retrain"
CHAIN = ("wait_for_data", "preprocess", "changed", "train", "evaluate", "gate", "publish", "candidate")
ORDER = (*CHAIN, "approve", "promote")
LONG = 1500  # seconds; at rest it is a tenth
FINAL = {"success", "failed", "skipped", "upstream_failed"}


@pytest.fixture(scope="module")
def dags(airflow_on_hadoop, project_root):
    """The bundle's DAGs with a small pipeline of their own."""
    folder = airflow_on_hadoop.dags
    for file in (project_root / "dags").glob("*.py"):
        shutil.copy(file, folder)
    (folder / "pipelines").mkdir()
    text = (project_root / "dags/pipelines/higgs.yaml").read_text()
    changes = {"root: /dkeras": f"root: {ROOT}", "hidden: [600, 600]": "hidden: [16]", "epochs: 5": "epochs: 1"}
    changes |= {"{min: 0.80, max_drop: 0.01}": "{min: 0.60, max_drop: 0.2}", "executors: 2": "executors: 1"}
    changes |= {"  model: higgs": "  model: higgs\n  promotion: {environment: running, max_drop: 0.2, negligible: 0.2}"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "pipelines/higgs.yaml").write_text(text)
    rest, deadline = airflow_on_hadoop.rest, time.monotonic() + 60
    while (
        not {"retrain_higgs", "rollback_model", "housekeeping", "tune_higgs", "cross_validate_higgs"}
        <= rest.dags().keys()
    ):
        assert time.monotonic() < deadline, (rest.dags().keys(), rest.import_errors())
        time.sleep(0.5)
    assert rest.import_errors() == []
    return rest


@pytest.fixture(scope="module")
def registry(hadoop):
    storage = WebHdfsStorage(hadoop.namenode_http, timeout=(5, 30), failover=5)
    return Registry(storage, ROOT)


@pytest.fixture(scope="module")
def first(dags, registry, tmp_path_factory):
    """A run from the REST trigger until it waits for the approval: (run, seconds when it was triggered)."""
    data = write_events(tmp_path_factory.mktemp("events") / "training.csv", 20000, seed=1)
    run, begun = dags.trigger("retrain_higgs"), time.time()
    dags.wait_for_task("retrain_higgs", run, "wait_for_data", {"deferred"}, seconds=180)
    registry.storage.upload(data, f"{ROOT}/raw/higgs/training.csv")
    found = dags.wait_for_task("retrain_higgs", run, "approve", {"awaiting_input", *FINAL}, seconds=LONG)
    assert found["state"] == "awaiting_input", {
        task: dags.log("retrain_higgs", run, task) for task in failed(dags, run)
    }
    return run, begun


def answer(rest, dag, run, option, reason):
    rest.wait_for_task(dag, run, "approve", {"awaiting_input"}, seconds=120)
    rest.answer(dag, run, "approve", [option], {"reason": reason})


def failed(rest, run, dag="retrain_higgs"):
    return [task for task, state in rest.states(dag, run).items() if state == "failed"]


def test_from_rest_to_a_promoted_alias_with_an_approval_over_rest(dags, registry, first):
    run, begun = first
    assert registry.aliases("higgs") == {}
    shown = dags.xcom("retrain_higgs", run, "candidate")
    assert shown["passed"] and "| roc_auc | 0." in shown["text"] and "integrity" in shown["text"]

    answer(dags, "retrain_higgs", run, "Approve", "better than nothing")
    assert dags.wait("retrain_higgs", run, seconds=300) == "success", dags.states("retrain_higgs", run)
    tasks = dags.tasks("retrain_higgs", run)
    assert {task: tasks[task]["state"] for task in ORDER} == dict.fromkeys(ORDER, "success")
    assert registry.alias("higgs", "production") == 1
    entry = registry.history("higgs", "production")[0].entry
    assert "better than nothing" in entry.reason and "approved by admin" in entry.reason and run in entry.reason

    print(f"\n{time.time() - begun:.0f} s from the trigger to the alias, at a load of {os.getloadavg()[1]:.0f}")
    print_times(tasks, begun)
    assert "checked" in entry.checks[1]["message"], "the checks that candidate made were taken over"
    work = read_json(registry.storage, f"{ROOT}/runs/{dags.xcom('retrain_higgs', run, 'train')['run']}/publish.json")
    assert work["version"] == 1 and registry.versions("higgs") == [1]


def test_the_same_data_are_not_trained_again(dags, registry, first):
    run = dags.trigger("retrain_higgs")
    assert dags.wait("retrain_higgs", run, seconds=600) == "success", dags.states("retrain_higgs", run)
    states = dags.states("retrain_higgs", run)
    assert [states[task] for task in ("preprocess", "changed", "train", "promote")] == [
        "success", "success", "skipped", "skipped",
    ]  # fmt: skip
    assert "same data and settings" in dags.log("retrain_higgs", run, "changed")


@pytest.fixture(scope="module")
def side_by_side(dags, registry, first):
    """Three runs at once, after the first has been promoted: a second training, a sweep, a validation."""
    deadline = time.monotonic() + 300
    while registry.alias("higgs", "production") != 1:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    small = ["model.parameters.hidden=[8]"]
    return {
        "retrain_higgs": dags.trigger("retrain_higgs", {"approval": "checks", "overrides": small}),
        "tune_higgs": dags.trigger("tune_higgs", {"learning_rate": [0.001, 0.01], "overrides": small}),
        "cross_validate_higgs": dags.trigger("cross_validate_higgs", {"folds": 2, "overrides": small}),
    }


def finished(rest, dag, run, seconds):
    assert rest.wait(dag, run, seconds=seconds) == "success", {
        task: (found["state"], rest.log(dag, run, found["task_id"], found["try_number"], found["map_index"])[-1500:])
        for task, found in rest.tasks(dag, run).items()
        if found["state"] == "failed"
    }


@pytest.mark.long
def test_other_settings_are_trained_and_promoted_without_asking(dags, registry, side_by_side):
    run = side_by_side["retrain_higgs"]
    finished(dags, "retrain_higgs", run, LONG)
    assert "settings changed since higgs@1: model" in dags.log("retrain_higgs", run, "changed")
    done = dags.xcom("retrain_higgs", run, "promote")
    assert done["was"] == 1 and registry.alias("higgs", "production") == done["version"] > 1
    assert "by its checks" in registry.history("higgs", "production")[0].entry.reason


@pytest.mark.long
def test_a_sweep_publishes_its_best_as_a_candidate(dags, registry, side_by_side):
    run = side_by_side["tune_higgs"]
    finished(dags, "tune_higgs", run, LONG)
    best, trials = dags.xcom("tune_higgs", run, "best"), dags.xcom("tune_higgs", run, "trials")
    losses = {}
    for trial in trials:
        losses[trial["run"]] = read_json(registry.storage, f"{ROOT}/runs/{trial['run']}/train.json")["final"][
            "val_loss"
        ]
    assert len(losses) == 2 and best["val_loss"] == losses[best["run"]] == min(losses.values())
    table = read_json(registry.storage, f"{ROOT}/runs/{dags.xcom('tune_higgs', run, 'train_best')['run']}/trials.json")
    assert [row["val_loss"] for row in table["trials"]] == sorted(losses.values())
    assert all(read_json(registry.storage, f"{ROOT}/runs/{trial}/preprocess.json")["reused"] for trial in losses)
    number = dags.xcom("tune_higgs", run, "publish_best")["version"]
    pipeline = registry.storage.read_bytes(f"{registry.version('higgs', number).path}/pipeline.yaml").decode()
    rate = next(text for text in best["overrides"] if "learning_rate" in text).partition("=")[2]
    assert f"learning_rate: {rate}" in pipeline and registry.alias("higgs", "production") != number


@pytest.mark.long
def test_a_validation_tells_mean_and_spread(dags, registry, side_by_side):
    run = side_by_side["cross_validate_higgs"]
    finished(dags, "cross_validate_higgs", run, LONG)
    found = dags.xcom("cross_validate_higgs", run, "summary")
    values = found["metrics"]["roc_auc"]["values"]
    assert found["folds"] == len(values) == 2 and values[0] != values[1] and found["metrics"]["roc_auc"]["mean"] > 0.6
    low, high = found["metrics"]["roc_auc"]["interval"]
    assert low < found["metrics"]["roc_auc"]["mean"] < high
    for fold in dags.xcom("cross_validate_higgs", run, "folds"):
        data = read_json(registry.storage, f"{ROOT}/runs/{fold['run']}/preprocess.json")["path"]
        assert not registry.storage.exists(data), "the data of a fold go with it"


def test_housekeeping_spares_what_is_young(dags, registry, first):
    versions = registry.versions("higgs")
    run = dags.trigger("housekeeping")
    finished(dags, "housekeeping", run, 300)
    assert registry.versions("higgs") == versions
    assert dags.xcom("housekeeping", run, "old_runs") == [] == dags.xcom("housekeeping", run, "reap")


def print_times(tasks, begun):
    """How long each task took, and how long nothing went on before it; asserted is nothing of it, machines differ."""
    before, gaps = begun, []
    for task in ORDER:
        start, end = (datetime.fromisoformat(tasks[task][key]).timestamp() for key in ("start_date", "end_date"))
        gaps.append(start - before)
        print(f"{task:14} {end - start:6.1f} s, {gaps[-1]:4.1f} s after the one before")
        before = end
    print(f"between tasks: {sum(gaps):.1f} s, at most {max(gaps):.1f} s")
