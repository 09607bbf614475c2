"""`dkeras submit --tag` on real YARN: two submitters at once, and a driver that finds its work being done."""

import json
import os
import subprocess
import sys
import time

import pytest

from dkeras_core.jobs.elder import YIELDED
from dkeras_core.yarn.answers import LIVE_STATES
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(500)]
MAIN = "from dkeras_core.cli.app import main; main()"
BLIND = f"import dkeras_core.cli.flow as flow; flow.adopt = flow.refuse_second = lambda *a, **k: None; {MAIN}"
"""A submitter that does not look for others, as one that looked a moment too early."""
TAG = "tests-tagged"


@pytest.fixture
def submit(hadoop, project_root, tmp_path):
    from dkeras_core.data.higgs import write_events

    data = write_events(tmp_path / "events.csv", 2000, seed=1)
    settings = ["root=/tests-tagged", "resources.executors=1", "training.epochs=5000", "evaluation.gates={}"]

    def start(program=MAIN):
        return subprocess.Popen(
            [
                *(sys.executable, "-c", program, "submit", "dags/pipelines/higgs.yaml", "--data", str(data)),
                *("--run", "tagged", "--tag", TAG, "--detach", "--json", "--step", "preprocess", "--step", "train"),
                *(part for one in settings for part in ("--set", one)),
            ],
            env={**os.environ, "HADOOP_CONF_DIR": str(hadoop.conf_dir), "PYTHONPATH": str(project_root)},
            cwd=project_root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    yield start
    rm = ResourceManager.of(HadoopConfig.load(hadoop.conf_dir))
    for app in rm.apps(tags=[TAG], states=LIVE_STATES):
        rm.kill(app.id)


def test_of_two_submitters_at_once_one_application_stays_and_a_blind_third_yields(submit, hadoop):
    rm = ResourceManager.of(HadoopConfig.load(hadoop.conf_dir))
    said = [json.loads(process.communicate(timeout=300)[0]) for process in [submit(), submit()]]
    assert said[0]["application"] == said[1]["application"] and said[0]["run"] == "tagged"
    assert sorted(one["adopted"] for one in said) == [False, True]
    assert [app.id for app in rm.apps(tags=[TAG], states=LIVE_STATES)] == [said[0]["application"]]

    third = json.loads(submit(BLIND).communicate(timeout=300)[0])["application"]
    assert third != said[0]["application"]
    deadline = time.monotonic() + 200
    while not (app := rm.app(third)).ended:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert f"exited with status {YIELDED}" in app.diagnostics and app.final_status == "FAILED"
    assert rm.app(said[0]["application"]).state in ("ACCEPTED", "RUNNING")
