"""A DAG that new data start: one run for each state of the data, on real Airflow and HDFS, over lost triggerers."""

import time

import pytest

DAG = """
from airflow.sdk import DAG, Asset, task
from dkeras_core.airflow.watch import watched

for name, path, flag in [("file", "/watch/rows.csv", None), ("folder", "/watch/day", "_SUCCESS"),
                         ("control", "/watch/control", None)]:
    asset = watched(Asset(name=f"watched_{name}", uri=f"hdfs://{path}"), path, flag, interval=1)
    with DAG(f"on_{name}", schedule=[asset], max_active_runs=1):
        @task(task_id="which")
        def which(triggering_asset_events=None):
            return [event.extra["payload"]["modified"] for one in triggering_asset_events.values() for event in one]
        which()
"""

pytestmark = [pytest.mark.long, pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def watching(airflow_on_hadoop):
    (airflow_on_hadoop.dags / "watching.py").write_text(DAG)
    rest, deadline = airflow_on_hadoop.rest, time.monotonic() + 90
    while not {"on_file", "on_folder", "on_control"} <= rest.dags().keys():
        assert time.monotonic() < deadline and rest.import_errors() == []
        time.sleep(0.5)
    for name in ("file", "folder", "control"):
        rest.unpause(f"on_{name}")
    return airflow_on_hadoop


def runs(rest, name):
    """What the runs of a DAG were started by: the times of the data, a list for each run, the oldest first."""
    found = rest._ask("GET", f"/dags/on_{name}/dagRuns", params={"order_by": "run_after", "limit": 100})["dag_runs"]
    return [rest.xcom(f"on_{name}", run["dag_run_id"], "which") for run in found if run["state"] == "success"]


def wait_for(rest, name, count, seconds=90):
    deadline = time.monotonic() + seconds
    while len(found := runs(rest, name)) < count:
        assert time.monotonic() < deadline, (name, found)
        time.sleep(0.5)
    return found


def all_have_looked(rest, webhdfs):
    """New data of the control make a run: by then the others have looked at theirs too, and stored what they saw."""
    for _ in range(2):
        before = len(runs(rest, "control"))
        time.sleep(0.01)  # another modification time, in milliseconds
        webhdfs.write_bytes("/watch/control", b"x", overwrite=True)
        wait_for(rest, "control", before + 1)


def wait_until_unwatched(watching, seconds=120):
    """The watcher of a paused DAG goes when the file is read again."""
    log, deadline = watching.local.logs / "triggerer.log", time.monotonic() + seconds
    while "watched_folder is watched no more" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_new_data_make_one_run_and_the_same_data_none(watching, webhdfs):
    rest, local = watching.rest, watching.local
    webhdfs.mkdirs("/watch/day")
    webhdfs.write_bytes("/watch/day/part-0", b"a")
    all_have_looked(rest, webhdfs)
    assert runs(rest, "file") == [] == runs(rest, "folder"), "a folder without its flag is not complete"

    webhdfs.write_bytes("/watch/rows.csv", b"a")
    webhdfs.write_bytes("/watch/day/_SUCCESS", b"")
    first = {name: wait_for(rest, name, 1) for name in ("file", "folder")}
    all_have_looked(rest, webhdfs)

    local.kill("triggerer")
    assert local.up().ready
    all_have_looked(rest, webhdfs)
    assert {name: runs(rest, name) for name in first} == first, "the same data make no other run"

    local.kill("triggerer")
    webhdfs.write_bytes("/watch/rows.csv", b"b", overwrite=True)  # while nobody looks
    assert local.up().ready
    second = wait_for(rest, "file", 2)
    all_have_looked(rest, webhdfs)
    assert runs(rest, "file") == second and second[0] != second[1] and runs(rest, "folder") == first["folder"]


def test_a_paused_dag_hears_of_what_came_meanwhile_when_it_goes_on(watching, webhdfs):
    rest = watching.rest
    webhdfs.write_bytes("/watch/day/_SUCCESS", b"", overwrite=True)
    before = wait_for(rest, "folder", 1 + len(runs(rest, "folder")))
    all_have_looked(rest, webhdfs)
    rest.unpause("on_folder", paused=True)
    webhdfs.write_bytes("/watch/day/_SUCCESS", b"", overwrite=True)  # the watcher may still be there and fire in vain
    all_have_looked(rest, webhdfs)
    wait_until_unwatched(watching)
    assert runs(rest, "folder") == before
    rest.unpause("on_folder")
    after = wait_for(rest, "folder", len(before) + 1)
    all_have_looked(rest, webhdfs)
    assert runs(rest, "folder") == after
