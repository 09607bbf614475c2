"""The output folder at every moment in which its maker may die, and what may not be replaced."""

import os

import pytest

from dkeras_core.data.staging import Staging
from dkeras_core.errors import ConfigError, PathExists, StorageError
from dkeras_core.scoring.output import METADATA, Output, tidy_run
from dkeras_core.scoring.request import ScoreRequest
from dkeras_core.storage.local import LocalStorage

OLD, NEW = b"old", b"new"


class Dies(LocalStorage):
    """A file system on which everything fails from a given rename on, as if the process had been killed there."""

    def __init__(self, at, after=False):
        self.at, self.after, self.renames, self.dead = at, after, 0, False

    def rename(self, src, dst):
        if self.dead:
            raise StorageError("dead")
        self.renames += 1
        self.dead = self.renames == self.at
        if not self.dead or self.after:
            super().rename(src, dst)
        if self.dead:
            raise StorageError("dies")

    def delete(self, path, recursive=False):
        if self.dead:
            raise StorageError("dead")
        return super().delete(path, recursive)


@pytest.fixture
def place(tmp_path):
    """A folder with an earlier scoring, and a function that reads what stands there."""
    made = tmp_path / "scored"
    made.mkdir()
    (made / METADATA).write_bytes(b"{}")
    (made / "part-0").write_bytes(OLD)
    return tmp_path


def make(storage, place, overwrite=True, run="run-2"):
    output = Output(storage, f"file://{place}/scored", run, overwrite)
    output.recover()
    output.check("/elsewhere", storage)
    with output.building() as staging:
        storage.write_bytes(f"{staging.path}/part-0", NEW)
        storage.write_bytes(f"{staging.path}/{METADATA}", b"{}")
        output.commit(staging)


def content(place):
    return (place / "scored" / "part-0").read_bytes()


def test_a_result_appears_under_its_name_and_nothing_else_is_there(tmp_path):
    make(LocalStorage(), tmp_path, overwrite=False)
    assert content(tmp_path) == NEW and os.listdir(tmp_path) == ["scored"]
    assert sorted(os.listdir(tmp_path / "scored")) == [METADATA, "part-0"]


def test_an_earlier_scoring_is_replaced_only_when_asked(place):
    with pytest.raises(PathExists, match="--overwrite"):
        make(LocalStorage(), place, overwrite=False)
    assert content(place) == OLD and os.listdir(place) == ["scored"]
    make(LocalStorage(), place)
    assert content(place) == NEW and os.listdir(place) == ["scored"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_death_at_each_rename_leaves_the_old_or_the_new_and_the_next_attempt_succeeds(place, at, after):
    with pytest.raises(StorageError, match="dies"):
        make(Dies(at, after), place)
    Output(LocalStorage(), f"file://{place}/scored", "run-2").tidy()  # what the submitter does; the next run, too
    assert content(place) == (NEW if (at, after) == (2, True) else OLD)
    assert os.listdir(place) == ["scored"]
    make(LocalStorage(), place, run="run-3")
    assert content(place) == NEW and os.listdir(place) == ["scored"]


def test_a_failed_second_rename_puts_the_earlier_one_back_at_once(place, monkeypatch):
    def refused(self, target):
        raise StorageError("quota")

    monkeypatch.setattr(Staging, "commit", refused)
    with pytest.raises(StorageError, match="quota"):
        make(LocalStorage(), place)
    assert content(place) == OLD and os.listdir(place) == ["scored"]


def test_another_one_that_was_faster_is_not_replaced_unasked(tmp_path):
    output = Output(LocalStorage(), f"file://{tmp_path}/scored", "run-1")
    with pytest.raises(PathExists), output.building() as staging:
        make(LocalStorage(), tmp_path, overwrite=False, run="run-2")
        output.commit(staging)
    assert content(tmp_path) == NEW and os.listdir(tmp_path) == ["scored"]


def test_what_no_scoring_made_is_never_replaced(tmp_path):
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "part-0").write_bytes(OLD)
    with pytest.raises(PathExists, match="no scoring made it"):
        make(LocalStorage(), tmp_path)
    assert content(tmp_path) == OLD
    os.remove(tmp_path / "scored" / "part-0")
    make(LocalStorage(), tmp_path)  # an empty folder is nobody's
    assert content(tmp_path) == NEW and os.listdir(tmp_path) == ["scored"]


@pytest.mark.parametrize("source", ["/a/b", "/a/b/in", "/a", "/"])
def test_input_and_output_must_not_overlap(source):
    with pytest.raises(ConfigError, match="overlap"):
        Output(LocalStorage(), "/a/b", "run").check(source, LocalStorage())
    Output(LocalStorage(), "/a/b-2", "run").check("/a/b", LocalStorage())
    Output(LocalStorage(), "/a/b", "run").check("/a/b", Dies(0))  # another file system


def test_a_killed_run_is_tidied_by_its_folder(place):
    storage = LocalStorage()
    request = ScoreRequest("tiny", 1, "0" * 64, input="/in", output=f"{place}/scored")
    storage.write_bytes(f"{place}/runs/run-2/score.json", request.to_json())
    for left in ("_building-run-2-aaaa", "_building-run-22-bbbb"):
        (place / left).mkdir()
    os.rename(place / "scored", place / "_replaced-scored")
    tidy_run(storage, f"{place}/runs/run-2")
    assert sorted(os.listdir(place)) == ["_building-run-22-bbbb", "runs", "scored"]
    tidy_run(storage, f"{place}/runs/no-scoring")


def test_what_dead_scorings_left_is_removed_and_nothing_else(tmp_path):
    for left in ("_building-score-x-1", "_building-house", "_replaced-scored"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "file").touch()
        os.utime(tmp_path / left, (0, 0))
    make(LocalStorage(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["_building-house", "_replaced-scored", "scored"]


def test_uris_and_the_root_folder():
    assert Output(LocalStorage(), "file:///a//b/", "run").uri("/a/b/c") == "file:///a/b/c"
    assert Output(LocalStorage(), "/scored", "run").parent == "/"
    with pytest.raises(ConfigError):
        Output(LocalStorage(), "/", "run")
