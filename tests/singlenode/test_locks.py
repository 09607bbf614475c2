import os
import signal
import subprocess
import sys

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from dkeras_core.singlenode.locks import locked
with locked(Path(sys.argv[1]), what="it", timeout=1):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path, project_root):
    """Another process that holds the lock ``tmp_path / "lock"``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(project_root)},
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_holder_is_named_when_the_time_is_over(tmp_path, other):
    told = []
    with pytest.raises(ClusterError, match=f"process {other.pid} has held the cluster"):  # noqa: SIM117
        with locked(tmp_path / "lock", what="the cluster", timeout=0.3, progress=told.append):
            pytest.fail("two hold the lock")
    assert told == [f"waiting for process {other.pid}, which is at work on the cluster"]


def test_lock_ends_with_a_killed_holder(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    with locked(tmp_path / "lock", what="it", timeout=10):
        assert (tmp_path / "lock").read_text().strip() == str(os.getpid())


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(ClusterError, match="cannot be written"),
        locked(tmp_path / "file" / "lock", what="it", timeout=1),
    ):
        pass
