"""Which pipelines there are, when they run, and that one broken file takes away only its own DAGs."""

import shutil

import pytest

from dkeras_core.airflow import pipelines
from dkeras_core.airflow.pipelines import Plan
from dkeras_core.airflow.text import in_words, of_task, state_of


@pytest.fixture
def folder(tmp_path, project_root):
    (tmp_path / "pipelines").mkdir()
    shutil.copy(project_root / "dags/pipelines/higgs.yaml", tmp_path / "pipelines")
    return tmp_path


def test_the_bundles_own_files_are_right(project_root):
    found, wrong = pipelines.find(project_root / "dags")
    assert wrong == [] and "higgs" in [one.name for one in found]


def test_a_plan_is_what_holds_for_all_and_what_is_different(folder):
    (folder / "schedules.yaml").write_text(
        "every: {retries: 4, mail: [a@b.c]}\npipelines: {higgs: {schedule: '@daily', retries: 1}}"
    )
    [higgs], wrong = pipelines.find(folder)
    assert wrong == []
    assert higgs.plan == Plan(retries=1, mail=("a@b.c",), schedule="@daily")
    (folder / "schedules.yaml").unlink()
    assert pipelines.find(folder)[0][0].plan == Plan()


def test_the_roots_are_those_of_the_pipelines_and_those_that_are_named(folder):
    assert pipelines.roots(folder) == ["/dkeras"]
    (folder / "schedules.yaml").write_text("roots: [/models/, 'hdfs://other/dkeras', /dkeras]")
    assert pipelines.roots(folder) == ["/dkeras", "/models", "hdfs://other/dkeras"] and pipelines.find(folder)[1] == []
    (folder / "schedules.yaml").write_text("roots: 7")
    assert pipelines.roots(folder) == ["/dkeras"] and "roots" in str(pipelines.find(folder)[1][0])


def test_a_broken_file_takes_only_its_own_dags_away(folder):
    text = (folder / "pipelines/higgs.yaml").read_text()
    (folder / "pipelines/bad.yaml").write_text(text.replace("epochs: 5", "epoch: 5"))
    found, wrong = pipelines.find(folder)
    assert [one.name for one in found] == ["higgs"]
    assert len(wrong) == 1 and "bad.yaml" in str(wrong[0]) and "did you mean 'epochs'" in str(wrong[0])


@pytest.mark.parametrize(
    ("schedules", "said"),
    [
        ("every: {retrys: 1}", "unknown key retrys"),
        ("pipelines: {hicks: {}}", "no pipeline is named hicks"),
        ("every: {approval: nobody}", "approval"),
        ("pipelines: {higgs: {schedule: every day}}", "schedule = 'every day': is no cron expression such as"),
        ("each: {}", "unknown key each"),
    ],
)
def test_a_mistake_in_the_schedules_is_told(folder, schedules, said):
    (folder / "schedules.yaml").write_text(schedules)
    _, wrong = pipelines.find(folder)
    assert len(wrong) == 1 and said in str(wrong[0]) and "schedules.yaml" in str(wrong[0])


def test_what_a_message_says():
    subject, text = in_words("failed", "retrain_higgs", {"dag_run": {"dag_run_id": "r1"}, "reason": "x"}, "http://a/")
    assert subject == "dkeras: retrain_higgs failed"
    assert "run r1" in text and "Reason: x" in text and "http://a/dags/retrain_higgs/runs/r1" in text
    assert in_words("is late", "d", {})[1].startswith("d is late.")
    assert state_of({"dag_run": {"state": "failed"}}) == "failed" and state_of({}) is None


def test_a_task_says_what_the_list_of_its_dag_says_of_it():
    doc = """Trains.

- **train**, **evaluate** are red: the application
  failed; see **gate**.
- **gate** is red: worse.

**train** again."""
    assert of_task(doc, "evaluate") == "- **train**, **evaluate** are red: the application\n  failed; see **gate**."
    assert of_task(doc, "gate") == "- **gate** is red: worse." and of_task(doc, "tune") is None
