import os
import signal
import subprocess
import sys
import time

import pytest

from dkeras_core.singlenode import processes
from dkeras_core.singlenode.processes import Process

SLEEP = "import time; time.sleep(60)"
PATIENT = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def start(tmp_path):
    """``start(*command, environment=…, folder=…)`` starts a detached process that ends with the test."""
    begun = []

    def call(*command, environment=None, folder=tmp_path):
        process = processes.start(
            [*command], environment={"PATH": os.environ["PATH"]} | (environment or {}), folder=folder,
            output=tmp_path / "output",
        )  # fmt: skip
        begun.append(process)
        return process

    yield call
    for process in begun:
        process.send(signal.SIGKILL)


def test_started_process_is_detached(start, tmp_path):
    process = start("sh", "-c", "echo out; echo err >&2; exec sleep 60")
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    assert os.readlink(f"/proc/{process.pid}/fd/0") == "/dev/null"
    assert process.folder() == str(tmp_path)
    wait_for(lambda: (tmp_path / "output").read_text() == "out\nerr\n")


def test_number_given_to_another_process_is_not_taken_for_the_old_one(start):
    process = start("sleep", "60")
    earlier = Process(process.pid, process.started - 100)
    assert not earlier.alive()
    earlier.send(signal.SIGKILL)
    assert processes.end([earlier], seconds=1) == []
    time.sleep(0.1)
    assert process.alive()


def test_end_asks_first(start):
    process = start("sleep", "60")
    assert processes.end([process], seconds=10) == []
    assert not process.alive()


def test_end_kills_what_does_not_listen(start, tmp_path):
    process = start(sys.executable, "-c", PATIENT)
    wait_for(lambda: "ready" in (tmp_path / "output").read_text())
    assert processes.end([process], seconds=0.3) == [process]
    assert not process.alive()


def test_zombie_has_ended():
    child = subprocess.Popen(["true"])
    wait_for(lambda: Process.of(child.pid) is None)  # not waited for: a zombie now
    child.wait()


def test_containers_are_known_by_environment_folder_or_command(start, tmp_path):
    local = tmp_path / "node" / "local"
    container = local / "usercache" / "me" / "appcache" / "application_1" / "container_1"
    container.mkdir(parents=True)
    expected = {
        start("sleep", "60", environment={"CONTAINER_ID": "container_1", "LOCAL_DIRS": str(container.parent)}),
        start("sleep", "60", folder=container),
        start(sys.executable, "-c", SLEEP, f"{container}/launch.sh"),
    }
    start("sleep", "60")
    start("sleep", "60", environment={"CONTAINER_ID": "container_1", "LOCAL_DIRS": "/other/usercache/x"})
    start("sleep", "60", environment={"HADOOP_CONF_DIR": str(container)})
    start(sys.executable, "-c", SLEEP, f"{local}-2/usercache/container_9/launch.sh")
    assert set(processes.containers_below(local)) == expected


def test_this_process_and_its_parents_are_never_containers(tmp_path, monkeypatch):
    below = tmp_path / "local" / "usercache" / "me"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert os.getpid() not in {process.pid for process in processes.containers_below(tmp_path / "local")}


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
