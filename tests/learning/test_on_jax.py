"""The JAX backend, chosen before Keras is imported: one process of its own for all of its tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = ("test_kinds.py", "test_losses.py", "test_gradients.py", "test_nonfinite.py", "test_flat.py", "test_checks.py")


@pytest.mark.slow
def test_jax_passes_what_tensorflow_passes():
    pytest.importorskip("jax")
    files = [str(HERE / name) for name in SHARED]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "-n0", *files],
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": "", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stdout[-5000:]
