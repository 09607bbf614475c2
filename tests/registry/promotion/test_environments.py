"""The packed environment of a version: unpacked once, by whom and when ever, or another Python that says so."""

from __future__ import annotations

import importlib.util
import os
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dkeras_core.errors import EnvironmentBuildError
from dkeras_core.registry import Registry, environments
from dkeras_core.storage.local import LocalStorage

KEY = "0123456789abcdef"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Registry(LocalStorage(), str(tmp_path / "root"))


@pytest.fixture
def archive(registry, tmp_path):
    """An archive with a Python that is this one by another path."""
    made = tmp_path / "made/bin"
    made.mkdir(parents=True)
    (made / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (made / "python").chmod(0o755)
    path = tmp_path / f"root/envs/train-{KEY}.tar.gz"
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as file:
        file.add(made, "bin")
    return path


def test_the_archive_is_unpacked_once(registry, archive, tmp_path):
    said = []
    found = environments.find(registry, KEY, progress=said.append)
    folder = tmp_path / "cache/dkeras/envs" / KEY
    assert found.python == str(folder / "bin/python") and os.access(found.python, os.X_OK)
    assert found.said == f"environment {KEY}" and len(said) == 1 and KEY in said[0]
    archive.unlink()
    assert environments.find(registry, KEY, progress=said.append) == found and len(said) == 1
    assert os.listdir(folder.parent) == [KEY]  # nothing half-done is left


def test_processes_that_unpack_side_by_side_agree(registry, archive, tmp_path, monkeypatch):
    class Open:
        """Stands for processes, which share no lock."""

        def __enter__(self):
            return self

        def __exit__(self, *args):
            return None

    monkeypatch.setattr(environments, "_UNPACKING", Open())
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: environments.find(registry, KEY).python, range(4)))
    assert len(found) == 1 and os.listdir(tmp_path / "cache/dkeras/envs") == [KEY]


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_archive_is_not_taken_for_an_environment(registry, archive, tmp_path, damage):
    data = archive.read_bytes()
    if damage == "other":
        with tarfile.open(archive, "w:gz") as file:
            file.add(tmp_path / "made", "lib")
    else:
        archive.write_bytes(data[: len(data) // 2] if damage == "cut" else b"")
    found = environments.find(registry, KEY)
    assert found.python == sys.executable and "not the packed environment" in found.said
    assert ("does not unpack" if damage != "other" else "no bin/python") in found.said
    assert os.listdir(tmp_path / "cache/dkeras/envs") == []


@pytest.mark.parametrize(
    ("key", "said"), [(None, "names no environment"), ("fedcba", "does not exist"), ("../x", "not the key")]
)
def test_without_an_archive_the_running_python_is_taken_and_said(registry, key, said):
    found = environments.find(registry, key)
    assert found.python == sys.executable and said in found.said


def test_without_tensorflow_there_is_none_and_both_reasons_are_told(registry, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        EnvironmentBuildError, match=r"fedcba\.tar\.gz does not exist; and this Python has no TensorFlow"
    ):
        environments.find(registry, "fedcba")


def test_the_running_python_when_asked_for_or_the_same(registry, archive, monkeypatch):
    assert environments.find(registry, KEY, packaged=False).python == sys.executable
    monkeypatch.setattr(sys, "prefix", str(environments.cache_folder() / KEY))
    assert environments.find(registry, KEY) == environments.Environment(sys.executable, f"environment {KEY}")
    assert not environments.cache_folder().exists()


def test_what_nobody_used_for_a_month_goes_when_a_new_one_comes(registry, archive):
    for name, days in (("old", 31), ("used", 29), (".left-1234.tmp", 40)):
        folder = environments.cache_folder() / name
        (folder / "bin").mkdir(parents=True)
        os.utime(folder, (time.time() - days * 86400,) * 2)
    environments.find(registry, KEY)
    assert sorted(os.listdir(environments.cache_folder())) == [KEY, "used"]
