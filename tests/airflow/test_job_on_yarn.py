"""The operator on real Airflow, YARN and HDFS: what is killed when, and what comes of it.

Each case is a DAG run of its own. `dkeras_core/airflow/job.py` claims that one application does the work whatever dies,
and that none is alive within 15 s after a person or a deadline has ended the task. The measured times are printed as a
table at the end.
"""

import time
from types import SimpleNamespace

import pytest
import task_on_yarn as dies
from task_on_yarn import KILL_DEADLINE, ROOT, Run

from dkeras_core.airflow.rest import FINAL
from dkeras_core.storage import open_storage
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]

DAG = """
from datetime import timedelta
from airflow.sdk import dag
from dkeras_core.airflow.job import DkerasJobOperator

SHARED = dict(
    pipeline="dags/pipelines/higgs.yaml",
    data={data!r},
    overrides=["root={root}", "resources.executors=1", "training.epochs={{{{ params.epochs }}}}",
               "training.optimizer.name={{{{ params.optimizer }}}}", "evaluation.gates={{}}",
               "registry.model={{{{ params.model }}}}", "{{{{ params.more }}}}"],
    retries=2, retry_delay=timedelta(seconds=1), retry_exponential_backoff=False, poll=1.0,
)

@dag(schedule=None, params={{"steps": "preprocess", "epochs": 1, "model": "higgs", "optimizer": "adam", "more": ""}})
def job():
    DkerasJobOperator(task_id="work", steps="{{{{ params.steps }}}}", **SHARED)

job()

@dag(schedule=None, params={{"epochs": 5000, "model": "late", "optimizer": "adam", "more": ""}})
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


@pytest.fixture(scope="module", autouse=True)
def measured(request):
    """Seconds by what was done; printed at the end."""
    seconds = {}
    yield seconds
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    terminal.write_line("")
    for what, took in seconds.items():
        terminal.write_line(f"{took:7.1f} s  {what}")


@pytest.fixture
def note(request, measured):
    """Note how long something took in this test."""
    return lambda what, since: measured.update({f"{request.node.name}: {what}": time.monotonic() - since})


@pytest.fixture(autouse=True)
def nothing_left_for_the_next(there):
    yield
    for run in Run.all:  # of a test that has failed; its task would try again
        if run.task()["state"] not in FINAL:
            there.rest.set_state(run.dag, run.id, "work", "failed")
    Run.all.clear()
    for app in there.rm.apps(tags=["dkeras"], states=LIVE_STATES):
        there.rm.kill(app.id)


KILLED = [
    # what dies, and how many tries the task needs then
    (dies.before_submission, 2),
    (dies.during_submission, 2),
    (dies.after_submission, 2),
    (dies.triggerer, 1),
    (dies.scheduler, 1),
    (dies.resource_manager, 1),
    (dies.application_master, 2),
    (dies.driver, 2),
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


@pytest.mark.parametrize(("kill", "tries"), KILLED, ids=lambda value: getattr(value, "__name__", ""))
def test_one_application_does_the_work_whatever_dies(there, note, kill, tries):
    run = Run(there)
    kill(run)
    since = time.monotonic()
    run.green()
    note("from the repair to the end", since)
    assert run.task()["try_number"] == tries, run.log()


PUBLISHED = [dies.after_submission, dies.resource_manager, dies.driver_while_it_publishes]


@pytest.mark.parametrize("kill", PUBLISHED, ids=lambda value: value.__name__)
def test_a_version_is_published_once(there, note, kill):
    run = Run(there, steps="preprocess,train,evaluate,publish", model=kill.__name__)
    kill(run)
    since = time.monotonic()
    assert run.green()["version"] == 1
    note("from the repair to the version", since)
    names = [file.name for file in there.storage.list(f"{ROOT}/models/{kill.__name__}/versions")]
    assert [name for name in names if not name.startswith(".")] == ["1"]  # the others are no versions to any reader


def working(there, reconnect=False):
    """A run whose application trains for long; after a reconnect a later try and another triggerer follow it."""
    run = Run(there, steps="preprocess,train", epochs=5000)
    if reconnect:
        dies.after_submission(run)
        run.until(lambda: run.task()["try_number"] == 2)
    run.until(run.deferred)
    app = run.until(lambda: run.apps("RUNNING"))[0]
    run.until(run.followed)
    if reconnect:
        before = run.followed()
        there.local.kill("triggerer")
        there.local.up()
        run.until(lambda: run.followed() > before)
        assert "taking over" in run.log()
    return run, app.id


@pytest.mark.parametrize("reconnect", [False, True], ids=["", "after a reconnect"])
@pytest.mark.parametrize("state", ["failed", "success"])
def test_marked(there, note, reconnect, state):
    run, app = working(there, reconnect)
    since = time.monotonic()
    there.rest.set_state("job", run.id, "work", state)
    run.nothing_lives(app)
    note("until the application had ended", since)
    time.sleep(5)
    assert run.live() == [] and run.task()["state"] == state


def test_marked_failed_during_the_submission(there):
    run = Run(there, steps="preprocess,train", epochs=5000)
    run.until(run.spark_submit)
    there.rest.set_state("job", run.id, "work", "failed")
    time.sleep(KILL_DEADLINE)
    assert run.live() == [] and run.submitting() is None and run.spark_submit() is None
    assert run.task()["state"] == "failed"


def test_marked_failed_while_the_triggerer_is_down(there, note):
    """Airflow calls nothing then; the process beside the next triggerer finds it."""
    run, app = working(there)
    there.local.kill("triggerer")
    there.rest.set_state("job", run.id, "work", "failed")
    there.local.up()
    since = time.monotonic()
    run.nothing_lives(app)
    note("from the triggerer's first sign of life until the application had ended", since)


@pytest.mark.parametrize("reconnect", [False, True], ids=["", "after a reconnect"])
def test_cleared(there, note, reconnect):
    """The application of before ends, and another one does the work."""
    run, app = working(there, reconnect)
    since = time.monotonic()
    there.rest.clear("job", run.id, ["work"])
    run.nothing_lives(app)
    note("until the application had ended", since)
    again = run.until(run.live)
    assert [one.id for one in again] != [app]
    run.until(run.deferred)
    run.until(run.followed)
    there.rest.set_state("job", run.id, "work", "success")
    run.nothing_lives(run.live()[0].id)


def test_cleared_after_success_runs_again(there):
    run = Run(there)
    first = run.green()["application"]
    there.rest.clear("job", run.id, ["work"])
    run.until(lambda: [app for app in run.apps() if app.id != first])
    assert there.rest.wait("job", run.id, seconds=500) == "success"
    assert there.rest.xcom("job", run.id, "work")["application"] != first


@pytest.mark.parametrize("reconnect", [False, True], ids=["", "after a reconnect"])
def test_paused(there, note, reconnect):
    """The application ends and the task waits without one; unpaused, the same try submits anew."""
    run, app = working(there, reconnect)
    tries = run.task()["try_number"]
    since = time.monotonic()
    there.rest.unpause("job", paused=True)
    run.nothing_lives(app)
    note("until the application had ended", since)
    run.until(lambda: run.task()["state"] == "scheduled")
    assert run.live() == []
    there.rest.unpause("job")
    again = run.until(run.live)[0].id
    assert again != app and run.task()["try_number"] == tries
    run.until(run.deferred)
    run.until(run.followed)
    there.rest.set_state("job", run.id, "work", "success")
    run.nothing_lives(again)


def test_paused_and_unpaused_the_run_ends_green_in_one_try(there):
    run = Run(there)
    app = run.until(run.live)[0].id
    there.rest.unpause("job", paused=True)
    run.nothing_lives(app)
    there.rest.unpause("job")
    assert run.green()["application"] != app
    assert run.task()["try_number"] == 1, run.log()


def test_paused_during_the_submission(there):
    run = Run(there)
    run.until(run.spark_submit)
    there.rest.unpause("job", paused=True)
    deadline = time.monotonic() + KILL_DEADLINE
    while run.live() or run.submitting() or run.spark_submit() or run.task()["state"] == "running":
        assert time.monotonic() < deadline, run.log()
        time.sleep(0.2)
    there.rest.unpause("job")
    run.green()
    assert run.task()["try_number"] == 1, run.log()


def test_timed_out(there):
    run = Run(there, "late")
    app = run.until(lambda: run.apps("RUNNING"))[0].id
    assert there.rest.wait("late", run.id, seconds=400) == "failed"
    assert run.live() == [] and there.rm.app(app).state == "KILLED"
    assert "not done after 0:00:45" in run.log()


def test_a_failure_shows_its_cause_and_a_hopeless_one_is_not_tried_again(there):
    run = Run(there, steps="preprocess,train", optimizer="nosuch")
    assert there.rest.wait("job", run.id, seconds=500) == "failed"
    log = run.log()
    assert "nosuch" in log, log
    assert run.task()["try_number"] == 1 and run.live() == []


def test_an_exception_of_the_training_is_in_the_log(there, tmp_path):
    module = tmp_path / "of_the_driver.py"
    module.write_text("def build(n_features):\n    raise RuntimeError('the flux ' + 'capacitor is empty')\n")
    run = Run(there, steps="preprocess,train", more=f"model={{function: 'of_the_driver:build', files: [{module}]}}")
    assert there.rest.wait("job", run.id, seconds=500) == "failed"
    assert "RuntimeError: the flux capacitor is empty" in run.log()
    assert run.task()["try_number"] == 1 and run.live() == []
