"""Tries an archive as a node would: unpacked at another path, with an empty environment, and imported from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.specs import PYTHON

DEADLINE = 300  # seconds

CHECK = """
import sys
assert sys.prefix == {prefix!r}, f"sys.prefix is {{sys.prefix}}"
strangers = [path for path in sys.path if path and not path.startswith({prefix!r})]
assert not strangers, f"sys.path leads outside: {{strangers}}"
import numpy, pandas, pyarrow, pyarrow.parquet, h5py, pydantic, yaml, jinja2, tensorflow, keras
assert keras.backend.backend() == "tensorflow"
assert float(keras.ops.sum(keras.ops.ones((2, 3)))) == 6.0
assert not [m.__file__ for m in (numpy, tensorflow, keras) if not m.__file__.startswith({prefix!r})]
"""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack an archive with ``tar``, as YARN does."""
    folder.mkdir(parents=True)
    result = subprocess.run(
        ["tar", "-xzf", str(archive), "-C", str(folder)], capture_output=True, text=True, timeout=DEADLINE
    )
    if result.returncode:
        if "No space left on device" in result.stderr:
            raise OSError(28, "No space left on device", str(folder))
        raise EnvironmentBuildError(f"{archive} does not unpack: {result.stderr.strip().splitlines()[-1]}")


def try_environment(prefix: Path) -> None:
    """Import the main packages from an unpacked archive in a process that knows nothing of this one.

    Raises
    ------
    EnvironmentBuildError
        With the last line of the interpreter's error.
    """
    environment = {
        "PATH": "/usr/bin:/bin",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HOME": str(prefix.parent),
        "LC_ALL": "C.UTF-8",
    }
    command = [prefix / "bin" / f"python{PYTHON}", "-sc", CHECK.format(prefix=str(prefix))]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env=environment)
    except subprocess.TimeoutExpired as error:
        raise EnvironmentBuildError(f"importing from {prefix} took more than {DEADLINE} s") from error
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        raise EnvironmentBuildError(
            f"the packed environment does not work at another path: {lines[-1]}",
            "see envs/train.in; the build's own folders were removed, nothing was published",
        )
