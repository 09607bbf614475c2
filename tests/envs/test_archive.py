"""The whole chain: in seconds on a small channel (a real Python, stand-ins for packages), once on the real packages."""

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dkeras_core.errors import EnvironmentBuildError
from envs.builder import archive as archive_module
from envs.builder import ensure_archive, trial

DRIVER = """
import os, resource, sys
from pathlib import Path
from dkeras_core.errors import DkerasError
from envs.builder import ensure_archive

def progress(stage, fraction, detail):
    print(stage, "begins" if fraction is None else "ends" if fraction == 1 else "...", flush=True)
    if stage == "pack" and fraction is None and sys.argv[2:] == ["full"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

try:
    ensure_archive(progress, Path(sys.argv[1]))
except DkerasError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def on_small_channel(small_channel, monkeypatch):
    monkeypatch.setenv("ENV_CHANNEL", str(small_channel))


def left(build: Path) -> list[str]:
    """What stands in the folder of the archives, the lock and the solution apart."""
    return sorted(
        path.name for path in (build / "envs").iterdir() if path.name != ".lock" and "solution" not in path.name
    )


@pytest.mark.slow
def test_two_builds_in_two_places_give_the_same_bytes(on_small_channel, tmp_path):
    stages = []
    first = ensure_archive(lambda stage, fraction, detail: stages.append((stage, fraction)), tmp_path / "one")
    second = ensure_archive(build=tmp_path / "elsewhere" / "two")
    assert first.key == second.key
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.path.stat().st_mode & 0o777 == 0o644
    assert left(tmp_path / "one") == [f"train-{first.key}.json", f"train-{first.key}.tar.gz"]
    assert stages[-1] == ("unpack elsewhere and import", 1.0)
    inside = first.description()
    assert inside["python"] == ".".join(map(str, sys.version_info[:3]))
    assert inside["packages"]["keras"] == "3.15.1" and inside["packages"]["python-hdfs"] == "2.7.3"
    # A console script finds the interpreter beside itself, through a link and with a bare environment.
    trial.unpack(first.path, tmp_path / "a node")
    (tmp_path / "link").symlink_to(tmp_path / "a node" / "bin" / "pip")
    result = subprocess.run([tmp_path / "link", "--version"], capture_output=True, text=True, env={"PATH": "/bin"})
    assert str(tmp_path / "a node") in result.stdout, result.stderr
    again = []
    assert ensure_archive(lambda *event: again.append(event), tmp_path / "one") == first
    assert again == []


@pytest.mark.slow
def test_an_environment_that_does_not_import_is_not_published(on_small_channel, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "CHECK", trial.CHECK + "\nimport nowhere_to_be_found\n")
    with pytest.raises(EnvironmentBuildError, match=r"does not work at another path.*nowhere_to_be_found"):
        ensure_archive(build=tmp_path)
    assert left(tmp_path) == []


@pytest.mark.slow
def test_a_disk_that_fills_while_packing_leaves_nothing(on_small_channel, project_root, tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", DRIVER, tmp_path, "full"], capture_output=True, text=True, cwd=project_root, timeout=120
    )
    assert result.returncode == EnvironmentBuildError.exit_code, result.stderr
    assert "pack begins" in result.stdout and "pack ends" not in result.stdout
    assert f"bytes in {tmp_path}" in result.stdout and "are free" in result.stdout
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["install the packages", "lay out and compile", "pack", "unpack elsewhere"])
def test_ctrl_c_leaves_nothing(on_small_channel, project_root, tmp_path, phase):
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=project_root, start_new_session=True,
    )  # fmt: skip
    try:
        for line in process.stdout:
            if line.startswith(phase):
                break
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # a terminal tells the whole group
        output, errors = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, errors
    assert "was interrupted; what was half-made is removed" in output
    assert left(tmp_path) == []


def test_too_little_room_is_said_before_anything_is_fetched(tmp_path, monkeypatch):
    monkeypatch.delenv("ENV_CHANNEL", raising=False)
    monkeypatch.setattr(archive_module, "ROOM", 1 << 60)
    with pytest.raises(EnvironmentBuildError, match=r"needs about 1,152,921,504,606,846,976 bytes"):
        ensure_archive(build=tmp_path)
    assert left(tmp_path) == [] and not (tmp_path / "cache").exists()


def test_a_second_builder_waits_and_then_names_the_first(tmp_path, monkeypatch):
    monkeypatch.delenv("ENV_CHANNEL", raising=False)
    monkeypatch.setattr(archive_module, "LOCK_DEADLINE", 0.2)
    (tmp_path / "envs").mkdir()
    told = []
    with (tmp_path / "envs" / ".lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(EnvironmentBuildError, match=r"another builder \(process 4711\)"):
            ensure_archive(lambda *event: told.append(event), tmp_path)
    assert told == [("wait for the builder 4711", None, "")]


def test_what_a_killed_builder_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.delenv("ENV_CHANNEL", raising=False)
    for folder in ("envs/.work-dead/prefix", "cache/wheels/.fetch-dead", "cache/conda/.convert-dead"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cache/wheels/numpy").mkdir()
    monkeypatch.setattr(archive_module, "ROOM", 1 << 60)
    with pytest.raises(EnvironmentBuildError):
        ensure_archive(build=tmp_path)
    assert left(tmp_path) == []
    assert [path.name for path in (tmp_path / "cache").glob("*/*")] == ["numpy"]


def test_a_channel_that_lacks_a_package_is_one_error(tmp_path, monkeypatch):
    for subdir in ("linux-64", "noarch"):
        (tmp_path / "channel" / subdir).mkdir(parents=True)
        repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "repodata_version": 1}
        (tmp_path / "channel" / subdir / "repodata.json").write_text(json.dumps(repodata))
    monkeypatch.setenv("ENV_CHANNEL", str(tmp_path / "channel"))
    with pytest.raises(EnvironmentBuildError, match=r"specifications cannot be met \(file:.*python"):
        ensure_archive(build=tmp_path / "build")
    assert left(tmp_path / "build") == []


@pytest.mark.slow
def test_the_real_archive(tmp_path, monkeypatch):
    monkeypatch.delenv("ENV_CHANNEL", raising=False)
    archive = ensure_archive()
    assert archive.size <= 430_000_000
    trial.unpack(archive.path, tmp_path / "some" / "node")
    trial.try_environment(tmp_path / "some" / "node")
    started = time.monotonic()
    assert ensure_archive() == archive
    assert time.monotonic() - started < 2
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
