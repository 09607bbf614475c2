"""Forty runs that wait, on real Airflow, YARN and HDFS: none holds a worker slot, and Airflow's memory stays flat."""

import contextlib
import shutil
import statistics
import time
from types import SimpleNamespace

import psutil
import pytest

from dkeras_core.singlenode.airflow import COMMANDS
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]
PIPELINES, FOLLOWING, ASKING = 20, 10, 10
ROOT = "/crowd"
WARM_UP, WATCHED, EVERY = 60, 180, 5  # seconds
FLAT = 1.15
DAGS = f"""
from airflow.sdk import DAG, BaseOperator, Param, task
from dkeras_core.airflow.promotion import Approval
from dkeras_core.airflow.trigger import ApplicationTrigger


class Follow(BaseOperator):
    template_fields = ("application",)

    def __init__(self, *, application, **settings):
        super().__init__(**settings)
        self.application = application

    def execute(self, context):
        self.defer(trigger=ApplicationTrigger(self.application, "none", {ROOT!r}), method_name="done")

    def done(self, context, event):
        return event["end"]


for number in range({FOLLOWING}):
    with DAG(f"follow_{{number:02}}", schedule=None, params={{"application": Param("", type="string")}}):
        Follow(task_id="wait", application="{{{{ params.application }}}}")

for number in range({ASKING}):
    with DAG(f"ask_{{number:02}}", schedule=None):
        Approval(task_id="wait", subject="Go on?", hours=1)

with DAG("further", schedule=None):

    @task
    def work():
        return "done"

    work()
"""


@pytest.fixture(scope="module")
def crowd(fresh_airflow_on_hadoop, project_root):
    """An Airflow with the bundle's DAGs for twenty pipelines, and DAGs that follow an application or ask a person."""
    folder, rest = fresh_airflow_on_hadoop.dags, fresh_airflow_on_hadoop.rest
    (folder / "pipelines").mkdir()
    text = (project_root / "dags/pipelines/higgs.yaml").read_text()
    names = [f"crowd{number:02}" for number in range(PIPELINES)]
    for name in names:
        changes = {"name: higgs": f"name: {name}", "root: /dkeras": f"root: {ROOT}", "model: higgs": f"model: {name}"}
        mine = text
        for old, new in (changes | {"raw/higgs/": f"raw/{name}/"}).items():
            assert old in mine
            mine = mine.replace(old, new)
        (folder / f"pipelines/{name}.yaml").write_text(mine)
    (folder / "others.py").write_text(DAGS)
    shutil.copy(project_root / "dags/retrain.py", folder)  # the others would make 40 DAGs more, and a lot of writing
    waiting = {f"retrain_{name}": "wait_for_data" for name in names}
    waiting |= {f"follow_{number:02}": "wait" for number in range(FOLLOWING)}
    waiting |= {f"ask_{number:02}": "wait" for number in range(ASKING)}
    deadline = time.monotonic() + 180
    while not {*waiting, "further"} <= rest.dags().keys():
        assert time.monotonic() < deadline, rest.import_errors()
        time.sleep(1)
    assert rest.import_errors() == []
    return SimpleNamespace(local=fresh_airflow_on_hadoop.local, rest=rest, waiting=waiting, names=names)


@pytest.fixture(scope="module")
def application(hadoop):
    """An application that never begins to work: its master sleeps, until YARN misses it, twice after 200 s."""
    rm = ResourceManager.of(HadoopConfig.load(hadoop.conf_dir))
    made = rm.session.post(f"{rm.urls[0]}/ws/v1/cluster/apps/new-application", timeout=30).json()["application-id"]
    body = {
        "application-id": made,
        "application-name": "sleeps",
        "application-type": "YARN",
        "am-container-spec": {"commands": {"command": "sleep 3600"}},
        "resource": {"memory": 512, "vCores": 1},
        "max-app-attempts": 2,
    }
    answer = rm.session.post(f"{rm.urls[0]}/ws/v1/cluster/apps", json=body, timeout=30)
    assert answer.status_code == 202, answer.text
    yield SimpleNamespace(rm=rm, id=made)
    rm.kill(made)


@pytest.fixture(scope="module")
def all_wait(crowd, application):
    """All DAGs triggered, and all waiting: DAG -> run."""
    runs = {}
    for dag, task in crowd.waiting.items():
        # One after the other: with SQLite a burst of triggers locks the API server against itself.
        runs[dag] = crowd.rest.trigger(dag, {"application": application.id} if dag.startswith("follow") else {})
        parked = "awaiting_input" if dag.startswith("ask") else "deferred"
        crowd.rest.wait_for_task(dag, runs[dag], task, {parked}, seconds=200)
    return runs


def test_what_waits_holds_no_slot_and_no_process_and_others_run_at_once(crowd, all_wait):
    pool = until_idle(crowd)
    assert pool["deferred_slots"] == PIPELINES + FOLLOWING and pool["open_slots"] == pool["slots"]
    begun = time.monotonic()
    run = crowd.rest.trigger("further")
    assert crowd.rest.wait("further", run, seconds=120) == "success"
    task = crowd.rest.tasks("further", run)["work"]
    print(
        f"\n{len(all_wait)} runs wait; another one took {time.monotonic() - begun:.1f} s, its task {task['duration']} s"
    )
    assert {crowd.rest.run(dag, run)["state"] for dag, run in all_wait.items()} == {"running"}


def test_the_memory_stays_flat_while_they_wait(crowd, all_wait):
    """What Airflow takes in the middle and in the last third of some minutes, after its first ones."""
    until_idle(crowd)
    time.sleep(WARM_UP)
    samples, end = [], time.monotonic() + WATCHED
    while time.monotonic() < end:
        samples.append(memory(crowd.local))
        time.sleep(EVERY)
    third = len(samples) // 3
    print(f"\n{len(samples)} samples in {WATCHED} s, {len(all_wait)} runs waiting; MB in each third, and the growth")
    for name in (*COMMANDS, "all"):
        values = [sum(sample.values()) if name == "all" else sample[name] for sample in samples]
        parts = [statistics.median(values[at : at + third]) for at in (0, third, 2 * third)]
        print(f"{name:14} {' '.join(f'{part:7.1f}' for part in parts)} {parts[2] / parts[1] - 1:+7.1%}")
        assert parts[2] < FLAT * parts[1], name
    assert until_idle(crowd)["deferred_slots"] == PIPELINES + FOLLOWING


def test_all_of_them_wake_up(crowd, all_wait, application, webhdfs):
    for dag in all_wait:
        if dag.startswith("ask"):
            crowd.rest.answer(dag, all_wait[dag], "wait", ["Approve"], {"reason": ""})
    application.rm.kill(application.id)
    for dag, run in all_wait.items():
        if not dag.startswith("retrain"):
            assert crowd.rest.wait(dag, run, seconds=300) == "success", dag
    for dag in crowd.waiting:
        if dag.startswith("follow"):
            assert crowd.rest.xcom(dag, all_wait[dag], "wait") == "ended"
    name = crowd.names[-1]
    webhdfs.write_bytes(f"{ROOT}/raw/{name}/training.csv", b"nothing\n")
    dag = f"retrain_{name}"
    crowd.rest.wait_for_task(dag, all_wait[dag], "wait_for_data", {"success"}, seconds=120)


def until_idle(crowd):
    """The pool, once no task runs: the processes of tasks that have just been parked end a moment later."""
    deadline = time.monotonic() + 120
    while True:
        pool = crowd.rest.pools()["default_pool"]
        busy = working(crowd.local)
        if not busy and pool["occupied_slots"] == pool["running_slots"] == pool["queued_slots"] == 0:
            return pool
        assert time.monotonic() < deadline, (busy, pool)
        time.sleep(1)


def working(local):
    """Processes of tasks, and workers of the executor that are not idle; all are children of the scheduler."""
    titles = [title for one in family(local, "scheduler") if (title := told(one)).startswith("airflow worker -- ")]
    assert any("<idle>" in title for title in titles), titles
    return [title for title in titles if "LocalExecutor: <idle>" not in title]


def family(local, name):
    """A component and all that descends from it."""
    root = psutil.Process(local.processes()[name].pid)
    return [root, *root.children(recursive=True)]


def told(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def memory(local):
    """Component -> what it and its children take, MB: memory that they share counts by its share (PSS)."""
    found = dict.fromkeys(COMMANDS, 0.0)
    for name in COMMANDS:
        for one in family(local, name):
            with contextlib.suppress(psutil.NoSuchProcess):
                found[name] += one.memory_full_info().pss / 1e6
    return found
