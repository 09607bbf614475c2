"""What ends applications that no trigger has ended, against a ResourceManager that is played."""

import time

import pytest
from played import TAG, Played, Stage

from dkeras_core.airflow.orphans import Orphans
from dkeras_core.airflow.reaper import OVER, reap
from dkeras_core.airflow.work import Work
from dkeras_core.yarn.resource_manager import ResourceManager


@pytest.fixture
def rm():
    played = Played()
    yield played
    played.close()


@pytest.mark.parametrize(
    ("state", "airflow", "ended"),
    [("failed", "here", True), ("removed", "here", True), ("deferred", "here", False), ("failed", "there", False)],
)
def test_the_reaper_ends_what_belongs_to_a_task_that_is_over(tmp_path, rm, monkeypatch, state, airflow, ended):
    stage = Stage(tmp_path, None, rm)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    rm.has(1, tag="dkeras,dkeras-run-by-hand")
    mine = rm.has(2, tag=f"dkeras,dkeras-run-the-run,{TAG}")
    rm.has(3, "FINISHED", tag=f"dkeras,dkeras-run-the-run,{TAG}")
    asked, owner = [], {"airflow": airflow, "dag": "d", "run": "r", "task": "t", "index": -1}
    Work(f"file://{stage.root}", "the-run", TAG, ("train",)).own(owner)
    said = []
    done = reap(
        f"file://{stage.root}", state=lambda owner: asked.append(owner) or state, airflow="here", say=said.append
    )
    assert done == rm.killed == ([mine] if ended else [])
    assert len(said) == len(done) and asked == ([owner] if airflow == "here" else [])


class Told:
    """Airflow's REST interface: the task instances that it would show."""

    def __init__(self, *tasks):
        self.tasks, self.asked = tasks, []

    def changed(self, states, since):
        self.asked.append((states, since.timestamp()))
        return [{"dag_id": dag, "dag_run_id": "manual", "task_id": task, "map_index": -1, "state": "failed"}
                for dag, task in self.tasks]  # fmt: skip


@pytest.fixture
def yarn(rm):
    return ResourceManager([f"http://{rm.address}"])


def test_what_no_trigger_has_ended_is_ended_at_the_second_look(rm, yarn):
    missed = rm.has(1, tag=f"dkeras,{TAG}", started=7000)
    rm.has(2, tag="dkeras,dkeras-run-by-hand")
    rm.has(3, tag="dkeras,dkeras-task-of-another-airflow", started=9000)
    said, told = [], Told(("retrain", "train"), ("retrain", "evaluate"))
    orphans = Orphans(yarn, told, said.append)
    orphans.look()
    assert rm.killed == []
    orphans.look()
    assert rm.killed == [missed] and told.asked == [(OVER, 7.0), (OVER, 7.0)]
    assert len(said) == 1 and missed in said[0] and "train of retrain, manual, is failed" in said[0]


def test_of_a_long_training_airflow_is_asked_for_what_is_new(rm, yarn):
    rm.has(1, tag=f"dkeras,{TAG}", started=7000)
    told = Told()
    orphans = Orphans(yarn, told, print)
    orphans.look(), orphans.look()
    assert told.asked[0][1] == 7.0 and time.time() - 700 < told.asked[1][1] < time.time() - 500


def test_what_ends_by_itself_is_left_alone(rm, yarn):
    app = rm.has(1, tag=f"dkeras,{TAG}")
    orphans = Orphans(yarn, Told(("retrain", "train")), print)
    orphans.look()
    rm.apps[app].update(state="FINISHED", finalStatus="SUCCEEDED")
    orphans.look()
    assert rm.killed == []


def test_without_an_application_airflow_is_not_asked(yarn):
    told = Told(("retrain", "train"))
    Orphans(yarn, told, print).look()
    assert told.asked == []
