import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

COREUTILS = ("bash", "cat", "cut", "tr", "grep", "id", "dirname", "sha256sum", "readlink", "flock", "mkdir", "env")


@pytest.fixture
def checkout(project_root, tmp_path):
    """A copy of what the bootstrap reads."""
    root = tmp_path / "checkout"
    shutil.copytree(project_root / "envs", root / "envs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(project_root / "dkeras_core", root / "dkeras_core", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(project_root / "pyproject.toml", root)
    (root / "README.md").write_text("a copy\n")
    return root


def bootstrap(checkout, *arguments, **environment):
    return subprocess.run(
        [checkout / "envs/bootstrap.sh", *arguments], capture_output=True, text=True, env=environment, timeout=600
    )


def test_each_missing_tool_is_named_in_one_line(checkout, tmp_path):
    bare = tmp_path / "bin"
    bare.mkdir()
    for name in COREUTILS:
        (bare / name).symlink_to(shutil.which(name))
    result = bootstrap(checkout, "tools", PATH=str(bare), HOME=str(tmp_path))
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert [line.split(";")[0] for line in lines] == [
        "bootstrap: missing: Python 3.11 with venv (python3.11)",
        "bootstrap: missing: Java 17 or newer (java)",
        "bootstrap: missing: Maven (mvn)",
        "bootstrap: missing: make",
    ]
    assert "apt-get install python3.11 python3.11-venv" in lines[0]
    assert not (checkout / "build" / "venv").exists()
    # A site's own cluster needs no Maven.
    result = bootstrap(checkout, "tools", PATH=str(bare), HOME=str(tmp_path), HADOOP_CONF_DIR="/etc/hadoop")
    assert "Maven" not in result.stderr and "Java" in result.stderr


def test_an_unknown_environment_is_refused(checkout):
    result = bootstrap(checkout, "everything", PATH=os.environ["PATH"])
    assert result.returncode == 1
    assert "unknown environment 'everything'; next: envs/bootstrap.sh tools" in result.stderr


@pytest.mark.slow
def test_a_killed_bootstrap_is_mended_and_a_finished_one_left_alone(checkout, project_root):
    environment = dict(os.environ, PYTHON=sys.base_prefix + "/bin/python3.11")
    environment["UV_CACHE_DIR"] = str(project_root / "build/cache/uv")
    stamp = checkout / "build/venv/.bootstrap"
    process = subprocess.Popen([checkout / "envs/bootstrap.sh", "tools"], env=environment, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (checkout / "build/venv/bin/uv").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not stamp.exists()

    mended = bootstrap(checkout, "tools", **environment)
    assert mended.returncode == 0, mended.stderr
    check = "import pyspark, rattler, conda_pack, dkeras_core, envs.builder; print(envs.builder.__file__)"
    python = checkout / "build/venv/bin/python"
    found = subprocess.run([python, "-c", check], capture_output=True, text=True, cwd="/", timeout=120)
    assert found.stdout.strip() == str(checkout / "envs/builder/__init__.py"), found.stderr
    assert subprocess.run([python, "-c", "import tensorflow"], capture_output=True, cwd="/", timeout=60).returncode == 1

    before = stamp.stat().st_mtime_ns
    again = bootstrap(checkout, "tools", **environment)
    assert (again.returncode, again.stderr) == (0, "")
    assert stamp.stat().st_mtime_ns == before
