"""The commands on real YARN: a run that is detached, listed, killed; bad input; nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dkeras_core.storage import open_storage
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.submission import run_tag

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]
MAIN = [sys.executable, "-c", "from dkeras_core.cli.app import main; main()"]
ROOT = "/tests-cli"
SMALL = ["--set", f"root={ROOT}", "--set", "resources.executors=1", "--set", "training.epochs=1"]


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    from dkeras_core.data.higgs import write_events

    return write_events(tmp_path_factory.mktemp("events") / "events.csv", 2000, seed=1)


@pytest.fixture
def dkeras(hadoop, project_root):
    """Run a command against the test cluster; returns what ``subprocess.run`` returns."""
    environment = {**os.environ, "HADOOP_CONF_DIR": str(hadoop.conf_dir), "PYTHONPATH": str(project_root)}

    def run(*arguments, background=False):
        command = [*MAIN, *map(str, arguments)]
        settings = {"cwd": project_root, "env": environment, "text": True, "stdin": subprocess.DEVNULL}
        if background:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **settings)
        return subprocess.run(command, capture_output=True, timeout=500, check=False, **settings)

    return run


@pytest.fixture
def storage(hadoop):
    return open_storage("/", hadoop=HadoopConfig.load(hadoop.conf_dir))


@pytest.fixture
def rm(hadoop):
    return ResourceManager.of(HadoopConfig.load(hadoop.conf_dir))


def submit(events, run, *more):
    return ("submit", "dags/pipelines/higgs.yaml", "--data", events, "--run", run, *SMALL, *more)


def test_a_detached_run_is_listed_and_killed(dkeras, events, storage, rm):
    done = dkeras(*submit(events, "detached", "--detach", "--name", "my name"))
    assert done.returncode == 0, done.stderr
    assert "run detached is application_" in done.stdout and "dkeras kill detached" in done.stderr
    (app,) = rm.apps(tags=[run_tag("detached")])
    assert app.name == "my name"
    second = dkeras(*submit(events, "detached"))
    assert second.returncode == 5 and "going on already" in second.stderr
    assert "detached" in dkeras("runs", "--root", ROOT).stdout
    killed = dkeras("kill", "detached", "--root", ROOT)
    assert killed.returncode == 0 and "KILLED" in killed.stdout
    assert rm.app(app.id).state == "KILLED"
    assert not storage.exists(f"{ROOT}/runs/detached/staging")
    followed = dkeras("follow", "detached", "--root", ROOT)
    assert followed.returncode == 5 and "killed" in followed.stderr
    assert dkeras("kill", "nosuch", "--root", ROOT).returncode == 2


def test_bad_data_ends_with_one_message_and_its_exit_code(dkeras, events, storage, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text(events.read_text().replace(",s\n", ",q\n", 1))
    done = dkeras(*submit(bad, "bad-label", "--step", "preprocess"))
    assert done.returncode == 3, done.stderr
    assert "'q'" in done.stderr or " q" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(storage.read_bytes(f"{ROOT}/runs/bad-label/result.json"))["status"] == "failed"
    assert not storage.exists(f"{ROOT}/runs/bad-label/staging")


def test_an_unknown_queue_leaves_nothing(dkeras, events, storage):
    started = time.monotonic()
    done = dkeras(*submit(events, "no-queue", "--queue", "nosuch"))
    assert done.returncode == 5
    assert "queue nosuch does not exist" in done.stderr and "default" in done.stderr
    assert time.monotonic() - started < 30
    assert not storage.exists(f"{ROOT}/runs/no-queue")


def test_sigterm_while_following_kills_the_application(dkeras, events, rm, storage):
    following = dkeras(*submit(events, "terminated"), background=True)
    try:
        deadline = time.monotonic() + 120
        while not rm.apps(tags=[run_tag("terminated")]) and time.monotonic() < deadline:
            time.sleep(0.3)
        time.sleep(2)
        following.send_signal(signal.SIGTERM)
        _, said = following.communicate(timeout=90)
    finally:
        following.kill()
    assert following.returncode == 130
    assert "was killed" in said or "nothing of run terminated is left" in said, said
    assert not rm.apps(tags=[run_tag("terminated")], states=["ACCEPTED", "RUNNING"])
    assert not storage.exists(f"{ROOT}/runs/terminated/staging")


def test_spark_of_a_site_travels_as_an_archive(hadoop, rm, storage, tmp_path):
    """Without loopback's short cut: Spark's jars from HDFS, as on a real cluster."""
    from dkeras_core.config import Resources
    from dkeras_core.paths import Layout
    from dkeras_core.yarn.submission import SparkSubmission, spark_home
    from dkeras_core.yarn.submit import submit as submit_application
    from envs.builder.publish import upload_spark_jars

    config = HadoopConfig.load(hadoop.conf_dir)
    jars = upload_spark_jars(storage, Layout(ROOT), spark_home())
    main = tmp_path / "app.py"
    main.write_text(
        "from pyspark.sql import SparkSession\nspark = SparkSession.builder.getOrCreate()\n"
        "assert 'spark.yarn.jars' not in dict(spark.sparkContext.getConf().getAll())\n"
        "assert spark.sparkContext.parallelize(range(4), 2).sum() == 6\n"
    )
    local = {"spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1", "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1"}
    submission = SparkSubmission(
        name="site", main=main, arguments=(), conf_dir=config.conf_dir, spark_jars=f"{config.default_fs}{jars}",
        resources=Resources(executors=1, memory="512m", driver_memory="512m", conf=local),
        memory_overhead=384, driver_memory_overhead=384,
    )  # fmt: skip
    app = submit_application(submission, rm, tmp_path / "log")
    deadline = time.monotonic() + 200
    while not (app := rm.app(app.id)).ended and time.monotonic() < deadline:
        time.sleep(0.5)
    assert app.final_status == "SUCCEEDED", app
