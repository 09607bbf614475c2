"""Every DAG loads and obeys the rules of the house (docs/dags.md); the graphs are what they are said to be."""

import json
import shutil
import subprocess
from itertools import pairwise

import pytest

from dkeras_core.config import Pipeline

pytestmark = pytest.mark.slow
RETRAIN = [
    "wait_for_data", "preprocess", "changed", "train", "evaluate", "gate", "publish", "candidate", "approve", "promote",
]  # fmt: skip


def read(python, folder, project_root):
    script = project_root / "tests/airflow/describe_dags.py"
    done = subprocess.run([python, script, folder], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(airflow_python, project_root):
    """The bundle's DAGs as tests/airflow/describe_dags.py tells of them."""
    return read(airflow_python, project_root / "dags", project_root)


@pytest.fixture(scope="module")
def names(project_root):
    return [Pipeline.load(file).name for file in (project_root / "dags/pipelines").glob("*.yaml")]


def test_every_dag_loads_without_spark_and_tensorflow(found, names):
    assert found["errors"] == {} and found["modules"] == []
    of_all = {"promote_model", "rollback_model", "housekeeping"}
    assert set(found["dags"]) >= of_all | {
        f"{kind}_{name}" for kind in ("retrain", "tune", "cross_validate") for name in names
    }


def test_the_rules_of_the_house(found):
    broken = []
    for name, dag in found["dags"].items():
        rules = {
            "says what to do at night": len(dag["doc"]) > 200 and "red" in dag["doc"],
            "does not catch up": dag["catchup"] is False,
            "one run at a time": dag["max_active_runs"] == 1,
            "is tagged and owned": "dkeras" in dag["tags"] and dag["owner"] == "dkeras",
            "has a deadline and tells of failures": dag["deadline"] and dag["told"],
            "no braces are left in its words": "{name}" not in dag["doc"],
        }
        for key, param in dag["params"].items():
            rules[f"param {key} has a type and a title"] = (
                "title" in param["schema"] and {"type", "enum"} & param["schema"].keys()
            )
        for key, task in dag["tasks"].items():
            rules[f"{key} says what to do"] = len(task["doc"]) > 40
            rules[f"{key} is tried again"] = task["retries"] >= 1
            rules[f"{key} ends"] = bool(task["timeout"])
            if task["type"] == "DkerasJobOperator":
                rules[f"{key} is in the package"] = task["module"].startswith("dkeras_core.airflow")
                rules[f"{key} has a long enough time"] = task["timeout"] >= 3600
                rules[f"{key} leaves room for others"] = not task["mapped"] or bool(task["limit"])
            if task["type"] == "Approval":
                rules[f"{key} does not wait for ever"] = bool(task["response"])
                rules[f"{key} asks for a reason only"] = task["asked"] == ["reason"]
        broken += [f"{name}: {rule}" for rule, kept in rules.items() if not kept]
    assert broken == []


def test_the_graph_of_a_retraining(found, names):
    for name in names:
        tasks = found["dags"][f"retrain_{name}"]["tasks"]
        assert set(tasks) == set(RETRAIN)
        for before, task in pairwise(RETRAIN):
            assert before in tasks[task]["upstream"], f"{task} comes before {before}"
        for step in ("preprocess", "train", "evaluate", "publish"):
            assert tasks[step]["steps"] == [step], "one task is one step"


def test_lineage(found, project_root):
    pipeline = Pipeline.load(project_root / "dags/pipelines/higgs.yaml")
    tasks, raw = found["dags"]["retrain_higgs"]["tasks"], f"hdfs://{pipeline.input_path}"
    assert tasks["wait_for_data"]["inlets"] == [raw] and tasks["wait_for_data"]["outlets"] == []
    assert (tasks["preprocess"]["inlets"], tasks["preprocess"]["outlets"]) == ([raw], ["higgs_data"])
    assert tasks["train"]["inlets"] == ["higgs_data"]
    assert tasks["candidate"]["outlets"] == ["higgs_versions"] and tasks["promote"]["outlets"] == ["higgs_production"]


def test_new_data_start_the_pipelines_that_say_so(airflow_python, project_root, tmp_path):
    folder = shutil.copytree(project_root / "dags", tmp_path / "dags")
    text = (folder / "pipelines/higgs.yaml").read_text()
    (folder / "pipelines/other.yaml").write_text(text.replace("name: higgs", "name: other"))  # the same rows
    (folder / "schedules.yaml").write_text(
        "every: {mail: [ml@example.org], pool: yarn}\npipelines: {higgs: {schedule: data}, other: {schedule: '@daily'}}"
    )
    found = read(airflow_python, folder, project_root)
    raw = f"hdfs://{Pipeline.load(folder / 'pipelines/higgs.yaml').input_path}"
    assert found["dags"]["retrain_higgs"]["started_by"] == [raw] and found["dags"]["retrain_other"]["started_by"] == []
    assert {task["pool"] for task in found["dags"]["tune_other"]["tasks"].values()} == {"yarn"}
    assert found["dags"]["retrain_higgs"]["owners"] == {"dkeras": "mailto:ml@example.org"}
    outlets = {name for task in found["dags"]["retrain_higgs"]["tasks"].values() for name in task["outlets"]}
    assert raw not in outlets, "a run would bring about the next"
    names = {}
    for name, uri in (pair for dag in found["dags"].values() for pair in dag["assets"]):
        names.setdefault(uri, set()).add(name)
    assert all(len(of_one) == 1 for of_one in names.values()), "Airflow runs no task with a second asset of an address"


def test_the_graphs_of_promotion_and_roll_back(found):
    for name, last in (("promote_model", "promote"), ("rollback_model", "rollback")):
        tasks = found["dags"][name]["tasks"]
        assert tasks["approve"]["upstream"] == ["look"] and "approve" in tasks[last]["upstream"]


def test_a_broken_pipeline_is_told_and_takes_no_other_away(airflow_python, project_root, tmp_path):
    folder = shutil.copytree(project_root / "dags", tmp_path / "dags")
    text = (folder / "pipelines/higgs.yaml").read_text()
    (folder / "pipelines/worse.yaml").write_text(text.replace("name: higgs", "name: worse").replace("epochs", "epoch"))
    (folder / "pipelines/early.yaml").write_text(text.replace("name: higgs", "name: early"))
    (folder / "schedules.yaml").write_text("pipelines: {early: {schedule: 0 25 * * *}}")
    found = read(airflow_python, folder, project_root)
    assert list(found["errors"]) == ["broken_pipelines.py"]
    told = found["errors"]["broken_pipelines.py"]
    assert "worse.yaml" in told and "schedules.yaml: early: schedule = '0 25 * * *': is no cron expression" in told
    assert {name for name in found["dags"] if name.startswith("retrain_")} == {"retrain_higgs"}
