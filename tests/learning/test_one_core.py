"""A worker that was given one core uses one core, whatever pools the backend has."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, time
from dkeras_core.learning.settings import configure_threads
configure_threads(1)
import numpy as np
from dkeras_core.learning.builders import build_model
from dkeras_core.learning.local import LocalTrainer

local = LocalTrainer(build_model({"builder": "mlp"}, 30), batch_size=256, communication_period=4)
window = np.ones((4, 256, 30), np.float32), np.ones((4, 256), np.float32)
x = local.flat.get()
local.window(window, x)

def spent():
    times = os.times()
    return times.user + times.system

cpu, wall = spent(), time.perf_counter()
while time.perf_counter() - wall < 1:
    local.window(window, x)
print((spent() - cpu) / (time.perf_counter() - wall))
"""


@pytest.mark.slow
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core there is nothing to see")
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_one_worker_uses_one_core(backend):
    pytest.importorskip(backend)
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    assert float(process.stdout) < 1.2
