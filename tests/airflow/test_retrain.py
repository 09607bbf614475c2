"""The DAGs as an operator uses them: over REST, on real Airflow, YARN and HDFS, from raw rows to a promoted alias."""

import shutil
import time
from itertools import pairwise

import pytest

from dkeras_core.airflow.hdfs import read_json
from dkeras_core.data.higgs import write_events
from dkeras_core.registry import Registry
from dkeras_core.storage.webhdfs import WebHdfsStorage

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = "/retrain"
CHAIN = ("wait_for_data", "preprocess", "changed", "train", "evaluate", "gate", "publish", "candidate")
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
    changes |= {"  model: higgs": "  model: higgs\n  promotion: {environment: running, max_drop: 0.2}"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "pipelines/higgs.yaml").write_text(text)
    rest, deadline = airflow_on_hadoop.rest, time.monotonic() + 60
    while not {"retrain_higgs", "rollback_model"} <= rest.dags().keys():
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
    dags.wait_for_task("retrain_higgs", run, "wait_for_data", {"deferred"}, seconds=60)
    registry.storage.upload(data, f"{ROOT}/raw/higgs/training.csv")
    found = dags.wait_for_task("retrain_higgs", run, "approve", {"awaiting_input", *FINAL}, seconds=480)
    assert found["state"] == "awaiting_input", {
        task: dags.log("retrain_higgs", run, task) for task in failed(dags, run)
    }
    return run, begun


def failed(rest, run, dag="retrain_higgs"):
    return [task for task, state in rest.states(dag, run).items() if state == "failed"]


def test_from_rest_to_a_promoted_alias_with_an_approval_over_rest(dags, registry, first):
    run, begun = first
    assert registry.aliases("higgs") == {}
    shown = dags.xcom("retrain_higgs", run, "candidate")
    assert shown["passed"] and "| roc_auc | 0." in shown["text"] and "integrity" in shown["text"]

    asked = time.time()
    dags.answer("retrain_higgs", run, "approve", ["Approve"], {"reason": "better than nothing"})
    assert dags.wait("retrain_higgs", run, seconds=120) == "success", dags.states("retrain_higgs", run)
    tasks = dags.tasks("retrain_higgs", run)
    assert {task: tasks[task]["state"] for task in (*CHAIN, "approve", "promote")} == dict.fromkeys(
        (*CHAIN, "approve", "promote"), "success"
    )
    assert registry.alias("higgs", "production") == 1
    entry = registry.history("higgs", "production")[0].entry
    assert "better than nothing" in entry.reason and "approved by admin" in entry.reason and run in entry.reason

    moments = [(_when(tasks[one]["end_date"]), _when(tasks[other]["start_date"])) for one, other in pairwise(CHAIN)]
    gaps = [start - end for end, start in moments]
    taken = asked - begun + time.time() - asked
    print(f"{taken:.0f} s from trigger to alias, between tasks at most {max(gaps):.1f} s: {gaps}")
    work = read_json(registry.storage, f"{ROOT}/runs/{dags.xcom('retrain_higgs', run, 'train')['run']}/publish.json")
    assert work["version"] == 1 and registry.versions("higgs") == [1]


def test_the_same_data_are_not_trained_again(dags, registry, first):
    run = dags.trigger("retrain_higgs")
    assert dags.wait("retrain_higgs", run, seconds=180) == "success", dags.states("retrain_higgs", run)
    states = dags.states("retrain_higgs", run)
    assert [states[task] for task in ("preprocess", "changed", "train", "promote")] == [
        "success", "success", "skipped", "skipped",
    ]  # fmt: skip
    assert "data and settings are those of the newest version" in dags.log("retrain_higgs", run, "changed")


def _when(text):
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
