"""The operator on real Airflow, YARN and HDFS: what is killed when, and what comes of it.

Each case is a DAG run of its own. `dkeras_core/airflow/job.py` claims that one application does the work whatever dies,
and that none is alive within 15 s after a person or a deadline has ended the task.
"""

import json
import os
import signal
import time
from types import SimpleNamespace

import psutil
import pytest

from dkeras_core.airflow.tags import task_tag
from dkeras_core.storage import open_storage
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(500)]
ROOT = "/tests-job"
KILL_DEADLINE = 15.0

DAG = """
from datetime import timedelta
from airflow.sdk import dag
from dkeras_core.airflow.job import DkerasJobOperator

SHARED = dict(
    pipeline="dags/pipelines/higgs.yaml",
    data={data!r},
    overrides=["root={root}", "resources.executors=1", "training.epochs={{{{ params.epochs }}}}",
               "training.optimizer.name={{{{ params.optimizer }}}}", "evaluation.gates={{}}",
               "registry.model={{{{ params.model }}}}"],
    retries=2, retry_delay=timedelta(seconds=1), retry_exponential_backoff=False, poll=1.0,
)

@dag(schedule=None, params={{"steps": "preprocess", "epochs": 1, "model": "higgs", "optimizer": "adam"}})
def job():
    DkerasJobOperator(task_id="work", steps="{{{{ params.steps }}}}", **SHARED)

job()

@dag(schedule=None, params={{"epochs": 5000, "model": "late", "optimizer": "adam"}})
def late():
    DkerasJobOperator(task_id="work", steps=["preprocess", "train"], execution_timeout=timedelta(seconds=45),
                      **(SHARED | {{"retries": 0}}))

late()
"""


@pytest.fixture(scope="module")
def there(airflow_on_hadoop, hadoop, tmp_path_factory, project_root):
    """Airflow with the two DAGs, and the cluster behind it."""
    from dkeras_core.data.higgs import write_events

    data = write_events(tmp_path_factory.mktemp("events") / "events.csv", 2000, seed=1)
    (airflow_on_hadoop.dags / "job.py").write_text(DAG.format(data=str(data), root=ROOT))
    deadline = time.monotonic() + 120
    while not {"job", "late"} <= set(airflow_on_hadoop.rest.dags()):
        assert airflow_on_hadoop.rest.import_errors() == []
        assert time.monotonic() < deadline
        time.sleep(0.5)
    config = HadoopConfig.load(hadoop.conf_dir)
    yield SimpleNamespace(
        **vars(airflow_on_hadoop),
        hadoop=hadoop,
        rm=ResourceManager.of(config),
        storage=open_storage(ROOT, hadoop=config),
    )


@pytest.fixture(autouse=True)
def nothing_left_for_the_next(there):
    yield
    for app in there.rm.apps(tags=["dkeras"], states=LIVE_STATES):
        there.rm.kill(app.id)


class Run:
    """One DAG run of one task, and what YARN has of it."""

    def __init__(self, there, dag="job", **params):
        self.there, self.rest, self.dag = there, there.rest, dag
        self.id = there.rest.trigger(dag, params)
        self.tag = task_tag(dag, self.id, "work")

    def apps(self, *states):
        return self.there.rm.apps(tags=[self.tag], states=states)

    def live(self):
        return self.apps(*LIVE_STATES)

    def task(self):
        return self.rest.tasks(self.dag, self.id)["work"]

    def log(self):
        return "\n".join(
            self.rest.log(self.dag, self.id, "work", attempt) for attempt in range(1, self.task()["try_number"] + 1)
        )

    def submitting(self):
        """The process of the command that submits, None before and after."""
        for process in psutil.process_iter(["cmdline"]):
            if self.tag in (process.info["cmdline"] or ()) and "submit" in process.info["cmdline"]:
                return process
        return None

    def spark_submit(self):
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if self.tag in words and "SparkSubmit" in words:
                return process
        return None

    def driver(self):
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or ()
            if self.tag in words and "python" in words[0] and any(word.endswith("main.py") for word in words):
                return process
        return None

    def until(self, question, seconds=300):
        """The first answer that is something; the run must not have ended before."""
        deadline = time.monotonic() + seconds
        while not (found := question()):
            state = self.rest.run(self.dag, self.id)["state"]
            assert state not in ("success", "failed"), f"{state}\n{self.log()}"
            assert time.monotonic() < deadline, self.rest.states(self.dag, self.id)
            time.sleep(0.1)
        return found

    def deferred(self):
        return self.task()["state"] == "deferred"

    def green(self, seconds=330):
        """The run succeeds, and one application has done its work."""
        state = self.rest.wait(self.dag, self.id, seconds=seconds)
        assert state == "success", self.log()
        done = [app for app in self.apps() if app.final_status == "SUCCEEDED"]
        assert len(done) == 1, self.apps()
        assert self.live() == []
        answer = self.rest.xcom(self.dag, self.id, "work")
        assert answer["application"] == done[0].id == self.rest.xcom(self.dag, self.id, "work", "application")
        result = json.loads(self.there.storage.read_bytes(f"{ROOT}/runs/{answer['run']}/result.json"))
        assert (result["application"], result["status"], result["tag"]) == (done[0].id, "succeeded", self.tag)
        return answer

    def nothing_lives(self, app_id):
        """Seconds until the application has ended."""
        begun = time.monotonic()
        while not self.there.rm.app(app_id).ended:
            assert time.monotonic() - begun < KILL_DEADLINE, f"{app_id} is alive\n{self.log()}"
            time.sleep(0.1)
        assert self.there.rm.app(app_id).state == "KILLED"
        return time.monotonic() - begun


def kill_task_process(run):
    """The process that waits for the submission is the task's."""
    command = run.submitting()
    assert command is not None
    os.kill(command.ppid(), signal.SIGKILL)


def before_submission(run):
    run.until(run.submitting)
    kill_task_process(run)


def during_submission(run):
    run.until(run.spark_submit)
    kill_task_process(run)


def after_submission(run):
    run.until(run.live)
    kill_task_process(run)


def triggerer(run):
    run.until(run.deferred)
    run.there.local.kill("triggerer")
    run.there.local.up()


def scheduler(run):
    run.until(run.deferred)
    run.there.local.kill("scheduler")
    run.there.local.up()


def resource_manager(run):
    run.until(run.deferred)
    os.kill(run.there.hadoop.status().daemon("resourcemanager").pid, signal.SIGKILL)
    run.there.hadoop.up()


def application_master(run):
    run.until(run.deferred)
    run.until(run.driver).kill()


KILLED = [
    # what dies, and how many tries the task needs then
    (before_submission, 2),
    (during_submission, 2),
    (after_submission, 2),
    (triggerer, 1),
    (scheduler, 1),
    (resource_manager, 2),  # the single node's keeps no state: it has forgotten the application, which is dead
    (application_master, 2),
]


def test_a_task_runs_and_shows_where(there):
    run = Run(there, steps="preprocess,train,evaluate,publish", model="plain")
    run.until(run.deferred)
    links = there.rest.links("job", run.id, "work")
    assert run.until(run.live)[0].id in links["YARN"] and "proxy" in links["Spark UI"]
    answer = run.green()
    assert answer["published"].endswith("/models/plain/versions/1") and answer["version"] == 1
    assert run.task()["try_number"] == 1
    log = run.log()
    for line in ("is RUNNING", "preprocess running", "train done after", "published hdfs://"):
        assert line in log, log
    assert "report.html" in there.rest.links("job", run.id, "work")["Report"]
    assert not there.storage.exists(f"{ROOT}/runs/{answer['run']}/staging")


@pytest.mark.parametrize(("dies", "tries"), KILLED, ids=lambda value: getattr(value, "__name__", ""))
def test_one_application_does_the_work_whatever_dies(there, dies, tries):
    run = Run(there)
    dies(run)
    run.green()
    assert run.task()["try_number"] == tries, run.log()


def test_a_version_is_published_once(there):
    run = Run(there, steps="preprocess,train,evaluate,publish", model="once")
    after_submission(run)
    assert run.green()["version"] == 1
    assert len(there.storage.list(f"{ROOT}/models/once/versions")) == 1


def working(there, reconnect=False):
    """A run whose application trains for long."""
    run = Run(there, steps="preprocess,train", epochs=5000)
    run.until(run.deferred)
    app = run.until(lambda: run.apps("RUNNING"))[0]
    if reconnect:
        there.local.kill("triggerer")
        there.local.up()
        time.sleep(8)  # a triggerer takes over what another has left after some seconds
    return run, app.id


@pytest.mark.parametrize("reconnect", [False, True], ids=["", "after a reconnect"])
def test_marked_failed(there, reconnect):
    run, app = working(there, reconnect)
    there.rest.set_state("job", run.id, "work", "failed")
    run.nothing_lives(app)
    time.sleep(5)
    assert run.live() == [] and run.task()["state"] == "failed"


def test_marked_failed_during_the_submission(there):
    run = Run(there, steps="preprocess,train", epochs=5000)
    run.until(run.spark_submit)
    there.rest.set_state("job", run.id, "work", "failed")
    time.sleep(KILL_DEADLINE)
    assert run.live() == [] and run.submitting() is None and run.spark_submit() is None
    assert run.task()["state"] == "failed"


def test_cleared(there):
    """The application of before ends, and another one does the work."""
    run, app = working(there)
    there.rest.clear("job", run.id, ["work"])
    run.nothing_lives(app)
    again = run.until(run.live)
    assert [one.id for one in again] != [app]
    there.rest.set_state("job", run.id, "work", "success")
    run.nothing_lives(run.live()[0].id)


def test_cleared_after_success_runs_again(there):
    run = Run(there)
    first = run.green()["application"]
    there.rest.clear("job", run.id, ["work"])
    run.until(lambda: [app for app in run.apps() if app.id != first])
    assert there.rest.wait("job", run.id, seconds=200) == "success"
    assert there.rest.xcom("job", run.id, "work")["application"] != first


def test_timed_out(there):
    run = Run(there, "late")
    app = run.until(lambda: run.apps("RUNNING"))[0].id
    assert there.rest.wait("late", run.id, seconds=150) == "failed"
    assert run.live() == [] and there.rm.app(app).state == "KILLED"
    assert "not done after 0:00:45" in run.log()


def test_a_failure_shows_its_cause_and_a_hopeless_one_is_not_tried_again(there):
    run = Run(there, steps="preprocess,train", optimizer="nosuch")
    assert there.rest.wait("job", run.id, seconds=200) == "failed"
    log = run.log()
    assert "nosuch" in log, log
    assert run.task()["try_number"] == 1 and run.live() == []
