"""Staging: whole or not at all, and what dead runs left is cleaned."""

from __future__ import annotations

import os
import time

import pytest

from dkeras_core.data import staging
from dkeras_core.data.staging import ALIVE, DEAD_SECONDS, Staging
from dkeras_core.errors import PathExists
from dkeras_core.storage.local import LocalStorage


@pytest.fixture
def parent(tmp_path):
    return tmp_path / "higgs"


def test_it_appears_by_one_rename_without_traces(parent):
    with Staging(LocalStorage(), str(parent), "abc") as work:
        LocalStorage().write_bytes(f"{work.path}/data", b"1")
        assert [p.name for p in parent.iterdir()] == [os.path.basename(work.path)]
        work.commit(f"{parent}/abc")
    assert [p.name for p in parent.iterdir()] == ["abc"]
    assert [p.name for p in (parent / "abc").iterdir()] == ["data"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(parent, failure):
    with pytest.raises(failure), Staging(LocalStorage(), str(parent), "abc") as work:
        LocalStorage().write_bytes(f"{work.path}/deep/data", b"1")
        raise failure
    assert list(parent.iterdir()) == []


def test_what_stands_at_the_target_is_left_alone(parent):
    (parent / "abc").mkdir(parents=True)
    with pytest.raises(PathExists), Staging(LocalStorage(), str(parent), "abc") as work:
        work.commit(f"{parent}/abc")
    assert [p.name for p in parent.iterdir()] == ["abc"]


def test_leftovers_of_dead_runs_are_deleted_and_those_of_living_ones_are_not(parent):
    def left(name, age, alive=True):
        folder = parent / name
        folder.mkdir(parents=True)
        (folder / "part").touch()
        if alive:
            (folder / ALIVE).touch()
        then = time.time() - age
        os.utime(folder / ALIVE if alive else folder, (then, then))
        return str(folder)

    dead = [left("_building-a-1", DEAD_SECONDS + 60), left("_building-b-2", DEAD_SECONDS + 60, alive=False)]
    left("_building-c-3", 30)
    left("_building-d-4", 30, alive=False)
    left("0123456789abcdef", DEAD_SECONDS + 60)
    with Staging(LocalStorage(), str(parent), "abc") as work:
        assert work.clean_leftovers() == dead
    assert sorted(p.name for p in parent.iterdir()) == ["0123456789abcdef", "_building-c-3", "_building-d-4"]


def test_it_is_touched_while_it_is_being_built(parent, monkeypatch):
    monkeypatch.setattr(staging, "TOUCH_SECONDS", 0.02)
    with Staging(LocalStorage(), str(parent), "abc") as work:
        os.utime(f"{work.path}/{ALIVE}", (0, 0))
        deadline = time.monotonic() + 10
        while os.stat(f"{work.path}/{ALIVE}").st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        thread = work._thread
    thread.join(timeout=10)  # on a busy machine it ends later than it was waited for
    assert not thread.is_alive()
