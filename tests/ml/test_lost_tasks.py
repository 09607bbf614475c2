"""A search over hyper-parameters goes on when one of its executors is killed; on a Spark cluster of real processes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest

HERE = Path(__file__).parent
ROWS = 4000


@pytest.fixture
def work_folder(tmp_path):
    """A home for Spark, in which the executors of a local cluster have their folders; the rest are links."""
    home = tmp_path / "spark"
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        if entry.name != "work":
            (home / entry.name).symlink_to(entry)
    yield home
    shutil.rmtree(home)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("estimator", "epochs"), [("AsynchronousEASGD", 30), ("EASGD", 30)])
def test_a_killed_executor_costs_a_search_time_and_not_its_result(work_folder, estimator, epochs):
    """The first of its trainings loses a task, in a round of the synchronous algorithm all of them."""
    environment = {
        **os.environ,
        "SPARK_HOME": str(work_folder),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(HERE.parents[1]),
    }
    process = subprocess.run(
        [sys.executable, str(HERE / "search_that_loses_an_executor.py"), estimator],
        env=environment,
        capture_output=True,
        text=True,
        timeout=1100,
    )
    assert process.returncode == 0, process.stderr[-5000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert found["killed"], "the training was over before an executor was killed"
    assert "error" not in found, found
    poor, good = found["metrics"]
    assert good > 0.95 and poor < good
    assert found["rows"] == ROWS * epochs  # of the best parameters, on all rows
