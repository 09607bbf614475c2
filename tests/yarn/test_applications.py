"""Real applications on real YARN: submission, kill, refusals in words, and root causes of real failures."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from dkeras_core.config import Pipeline, Resources
from dkeras_core.errors import ClusterError
from dkeras_core.storage import open_storage
from dkeras_core.yarn.container_logs import ContainerLogs
from dkeras_core.yarn.doctor import Surroundings, Work, examine, first_failure
from dkeras_core.yarn.explain import explain
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.submission import SparkSubmission
from dkeras_core.yarn.submit import submit

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
SESSION = "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\nsc = spark.sparkContext\n"
EAT = (
    "import time\nheld = []\nfor _ in range(40):\n    held.append(bytearray(b'x' * (100 << 20)))\n    time.sleep(0.2)\n"
)


@pytest.fixture(scope="session")
def config(hadoop):
    return HadoopConfig.load(hadoop.conf_dir)


@pytest.fixture(scope="session")
def rm(config):
    return ResourceManager.of(config)


@pytest.fixture
def script(tmp_path, config):
    """Turn Python text into a submission; executors have little room, so that a test can fill it."""

    def make(text, **changes):
        main = tmp_path / "app.py"
        main.write_text(text)
        small = Resources(
            executors=1,
            memory="512m",
            driver_memory="512m",
            conf={"spark.task.maxFailures": 1, **changes.pop("conf", {})},
        )
        settings = {
            "name": "test",
            "main": main,
            "arguments": (),
            "resources": small,
            "memory_overhead": 512,
            "driver_memory_overhead": 512,
            "conf_dir": config.conf_dir,
            "single_node": True,
            "tags": ("dkeras-test",),
        }
        return SparkSubmission(**{**settings, **changes})

    return make


def ended(rm, app, seconds=150):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = rm.app(app.id)
        if now.ended:
            return now
        time.sleep(0.3)
    rm.kill(app.id)
    raise AssertionError(f"{app.id} has not ended after {seconds} s: {now}")


def processes_of(app_id):
    return [
        path.parent.name
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if app_id in _read(path) and "pytest" not in _read(path)
    ]


def _read(path):
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_an_application_runs_with_what_it_was_given(script, rm, config, tmp_path):
    staging = f"{config.default_fs}/tests/staging"
    module = tmp_path / "shipped.py"
    module.write_text("WORD = 'shipped'\n")
    text = SESSION + (
        "import os, sys, shipped\n"
        "def seen(_):\n    import shipped\n    return shipped.WORD, os.environ['OMP_NUM_THREADS']\n"
        "assert sc.parallelize(range(2), 2).map(seen).collect() == [('shipped', '1')] * 2\n"
        "assert sys.argv[1:] == ['--root', '/x'], sys.argv\n"
        "spark.stop()\n"
    )
    submission = script(text, staging=staging, py_files=(module,), arguments=("--root", "/x"))
    accepted = submit(submission, rm, tmp_path / "log")
    assert accepted.name == "test" and "dkeras-test" in accepted.tags
    assert ended(rm, accepted).final_status == "SUCCEEDED"
    storage = open_storage("/", hadoop=config)
    assert [status.path for status in storage.walk("/tests/staging")] == []


def test_a_kill_ends_the_application_and_its_processes(script, rm, tmp_path):
    accepted = submit(script(SESSION + "import time\ntime.sleep(300)\n"), rm, tmp_path / "log")
    deadline = time.monotonic() + 60
    while rm.app(accepted.id).state != "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.3)
    assert rm.kill(accepted.id).state == "KILLED"
    assert rm.kill(accepted.id).state == "KILLED"
    while processes_of(accepted.id) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert processes_of(accepted.id) == []


@pytest.mark.parametrize(
    ("resources", "what"),
    [
        ({"queue": "nosuch"}, "nosuch"),
        ({"memory": "900g"}, "largest this cluster gives"),
        ({"driver_memory": "900g"}, "largest this cluster gives"),
    ],
)
def test_refusals_come_in_seconds_and_leave_nothing(script, rm, tmp_path, resources, what):
    submission = script(SESSION)
    submission = replace(submission, resources=submission.resources.model_copy(update=resources))
    started = time.monotonic()
    with pytest.raises(ClusterError, match=what) as caught:
        submit(submission, rm, tmp_path / "log")
    assert caught.value.next_step
    assert time.monotonic() - started < 45
    assert not rm.apps(tags=["dkeras-test"], states=["ACCEPTED", "RUNNING"])


def test_an_interrupted_submission_leaves_no_application(script, rm, tmp_path):
    def interrupt(text):
        if "application_" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submit(script(SESSION + "import time\ntime.sleep(300)\n"), rm, tmp_path / "log", progress=interrupt)
    assert not rm.apps(tags=["dkeras-test"], states=["NEW", "SUBMITTED", "ACCEPTED", "RUNNING"])


def test_a_dead_resource_manager_is_said_at_once(script, hadoop, tmp_path):
    dead = ResourceManager(["http://127.0.0.1:9"])
    started = time.monotonic()
    with pytest.raises(ClusterError, match="no ResourceManager answers"):
        submit(script(SESSION), dead, tmp_path / "log")
    assert time.monotonic() - started < 5


def test_an_error_in_a_worker_is_found_on_disk_and_by_the_web(script, rm, hadoop, tmp_path):
    text = SESSION + (
        "def bad(_):\n    raise ValueError('worker cannot read column PRI_jet')\n"
        "sc.parallelize(range(1), 1).map(bad).collect()\n"
    )
    failed = ended(rm, submit(script(text), rm, tmp_path / "log"))
    assert failed.final_status == "FAILED"
    for logs in (ContainerLogs(failed, hadoop.container_logs), ContainerLogs(failed, None, rm.session)):
        found = explain(failed, logs)
        assert found.what == "ValueError: worker cannot read column PRI_jet"
        assert found.lines[-1] == found.what and found.role == "driver"


def test_an_executor_beyond_its_memory_names_the_setting(script, rm, hadoop, tmp_path):
    indented = "".join(f"    {line}\n" for line in EAT.splitlines())
    text = SESSION + f"def eat(_):\n{indented}    return 1\nsc.parallelize(range(1), 1).map(eat).collect()\n"
    failed = ended(rm, submit(script(text), rm, tmp_path / "log"))
    found = explain(failed, ContainerLogs(failed, hadoop.container_logs))
    assert found.killed and found.role.startswith("executor") and found.container
    assert "physical memory" in found.what and "-104" in found.what
    assert "resources.memory_overhead" in found.next_step


def test_a_driver_beyond_its_memory_names_the_setting(script, rm, hadoop, tmp_path):
    failed = ended(rm, submit(script(SESSION + EAT), rm, tmp_path / "log"))
    found = explain(failed, ContainerLogs(failed, hadoop.container_logs))
    assert found.killed and found.role == "driver"
    assert "-104" in found.what and "resources.driver_memory_overhead" in found.next_step


@pytest.fixture
def pipeline(project_root):
    return Pipeline.load(project_root / "dags" / "pipelines" / "higgs.yaml", ["root=/tests/doctor"])


@pytest.fixture
def around(config, rm, tmp_path, pipeline):
    return Surroundings(config, open_storage("/", hadoop=config), rm, tmp_path, Work.of(pipeline), pipeline.root)


def state(checks, name):
    return next(check for check in checks if check.name == name)


def test_the_doctor_is_content_with_a_good_cluster_and_leaves_no_probe(around):
    checks = examine(around)
    assert first_failure(checks) is None, checks
    assert state(checks, "input").state == "warn"
    assert state(checks, "ResourceManager").what.startswith("Hadoop 3")
    assert not around.storage.exists("/tests/doctor")


def test_the_doctor_leaves_a_root_in_which_another_has_begun_meanwhile(around, monkeypatch):
    write, other = around.storage.write_bytes, f"{around.root}/runs/other/pipeline.yaml"

    def beside(path, content):
        write(path, content)
        write(other, b"of another submitter")

    monkeypatch.setattr(around.storage, "write_bytes", beside)
    try:
        assert first_failure(examine(around)) is None
        assert around.storage.exists(other)
    finally:
        around.storage.delete(around.root, recursive=True)


@pytest.mark.parametrize(
    ("changes", "check", "words"),
    [
        ({"queue": "nosuch"}, "queue", "choose one of default"),
        ({"queue": "root"}, "queue", "choose one of default"),
        ({"memory": "900g"}, "memory", "lower resources.memory"),
        ({"driver_memory": "900g"}, "memory", "lower resources.driver_memory"),
        ({"cores": 999}, "memory", "lower resources."),
        ({"executors": 400}, "memory", "lower resources.executors"),
    ],
)
def test_the_doctor_names_what_a_pipeline_asks_too_much_of(around, pipeline, changes, check, words):
    asked = pipeline.resources.model_copy(update=changes)
    checks = examine(replace(around, work=Work.of(pipeline.model_copy(update={"resources": asked}))))
    assert state(checks, check).state == "fail"
    assert words in state(checks, check).next_step
    assert first_failure(checks).exit_code == ClusterError.exit_code


def test_the_doctor_tells_one_cause_once(around):
    checks = examine(replace(around, rm=ResourceManager(["http://127.0.0.1:9"])))
    failed = [check for check in checks if check.state == "fail"]
    assert [check.name for check in failed] == ["ResourceManager"]


def test_the_doctor_names_a_root_that_cannot_be_written(around, config, monkeypatch):
    monkeypatch.setenv("HADOOP_USER_NAME", "nobody")
    stranger = open_storage("/", hadoop=config)
    checks = examine(replace(around, storage=stranger, root="/tests-not-yours"))
    failed = state(checks, "HDFS")
    assert failed.state == "fail" and "nobody" in f"{failed.what} {failed.next_step}"
