"""What ends applications that no trigger has ended, against a ResourceManager that is played."""

import pytest
from played import TAG, Played, Stage

from dkeras_core.airflow import orphans
from dkeras_core.airflow.reaper import OVER, reap
from dkeras_core.airflow.work import Work


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


def test_a_triggerer_that_starts_ends_what_it_has_missed(tmp_path, rm):
    from dkeras_core.yarn.resource_manager import ResourceManager

    yarn = ResourceManager([f"http://{rm.address}"])
    missed = rm.has(1, tag=f"dkeras,{TAG}", started=7000)
    rm.has(2, tag="dkeras,dkeras-run-by-hand")
    rm.has(3, tag="dkeras,dkeras-task-of-another-airflow", started=9000)
    said, told = [], Told(("retrain", "train"), ("retrain", "evaluate"))
    orphans.end(yarn, told, said.append)
    assert rm.killed == [missed] and told.asked == [(OVER, 7.0)]
    assert len(said) == 1 and missed in said[0] and "train of retrain, manual, is failed" in said[0]


def test_without_an_application_airflow_is_not_asked(rm):
    from dkeras_core.yarn.resource_manager import ResourceManager

    told = Told(("retrain", "train"))
    orphans.end(ResourceManager([f"http://{rm.address}"]), told, print)
    assert told.asked == []
