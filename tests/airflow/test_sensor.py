"""The sensor on real Airflow and real HDFS: waits in the triggerer, bears a NameNode that is down, ends as asked."""

import os
import re
import signal
import time

import pytest

from dkeras_core.errors import StorageError

DAG = """
from airflow.sdk import DAG, Param
from dkeras_core.airflow.sensor import HdfsPathSensor

with DAG("waits", schedule=None, params={"path": "", "newer_than": "", "timeout": 120}):
    usual = dict(path="{{ params.path }}", newer_than="{{ params.newer_than }}", poke_interval=1)
    HdfsPathSensor(task_id="wait", timeout=120, **usual)
    HdfsPathSensor(task_id="short", timeout=2, **usual)
    HdfsPathSensor(task_id="soft", timeout=2, soft_fail=True, **usual)
"""


@pytest.fixture(scope="module")
def waits(airflow_on_hadoop):
    (airflow_on_hadoop.dags / "waits.py").write_text(DAG)
    deadline = time.monotonic() + 60
    while "waits" not in airflow_on_hadoop.rest.dags():
        assert time.monotonic() < deadline and airflow_on_hadoop.rest.import_errors() == []
        time.sleep(0.5)
    return airflow_on_hadoop.rest


def written(webhdfs, path):
    """Write once the DataNode has found the new NameNode."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return webhdfs.write_bytes(path, b"", overwrite=True)
        except StorageError:
            assert time.monotonic() < deadline
            time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.cluster
def test_waits_without_a_worker_over_a_dead_namenode_until_the_flag_comes(waits, hadoop, webhdfs):
    folder = "/sensor/day"
    webhdfs.mkdirs(folder)
    run = waits.trigger("waits", {"path": folder})
    waits.wait_for_task("waits", run, "wait", {"deferred"}, seconds=60)
    short = waits.wait_for_task("waits", run, "short", {"failed"}, seconds=90)
    assert waits.wait_for_task("waits", run, "soft", {"skipped"}, seconds=60)
    assert re.search(
        r"/sensor/day \(a file, or a folder with _SUCCESS\) did not come within 2 s",
        waits.log("waits", run, "short", short["try_number"]),
    )
    os.kill(hadoop.status().daemon("namenode").pid, signal.SIGKILL)
    time.sleep(6)
    assert waits.states("waits", run)["wait"] == "deferred"
    hadoop.up()
    written(webhdfs, f"{folder}/_SUCCESS")
    begun = time.monotonic()
    waits.wait_for_task("waits", run, "wait", {"success"}, seconds=60)
    assert time.monotonic() - begun < 45
    assert waits.xcom("waits", run, "wait")["path"] == f"{folder}/_SUCCESS"


@pytest.mark.slow
@pytest.mark.cluster
def test_old_data_are_not_taken_for_new(waits, webhdfs):
    webhdfs.write_bytes("/sensor/rows.csv", b"a\n", overwrite=True)
    there = waits.trigger("waits", {"path": "/sensor/rows.csv"})
    assert waits.wait("waits", there, seconds=90) == "success"
    found = waits.xcom("waits", there, "short")
    newer = waits.trigger("waits", {"path": "/sensor/rows.csv", "newer_than": found["modified"]})
    waits.wait_for_task("waits", newer, "soft", {"skipped"}, seconds=90)
    waits.wait_for_task("waits", newer, "wait", {"deferred"}, seconds=60)
    time.sleep(1)
    webhdfs.write_bytes("/sensor/rows.csv", b"b\n", overwrite=True)
    waits.wait_for_task("waits", newer, "wait", {"success"}, seconds=30)


@pytest.mark.slow
@pytest.mark.cluster
def test_what_waiting_cannot_mend_fails_at_once(waits):
    run = waits.trigger("waits", {"path": "/sensor/x", "newer_than": "yesterday"})
    assert waits.wait_for_task("waits", run, "wait", {"failed"}, seconds=60)["try_number"] == 1
    assert "'yesterday' is no ISO date" in waits.log("waits", run, "wait")
