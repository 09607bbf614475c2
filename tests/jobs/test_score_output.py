"""The output folder at every moment in which its maker may die, and what may not be replaced; on HDFS, too."""

import os
import secrets
from types import SimpleNamespace

import pytest

from dkeras_core.data.staging import Staging
from dkeras_core.errors import ConfigError, PathExists, StorageError
from dkeras_core.scoring.output import METADATA, Output, tidy_run
from dkeras_core.scoring.request import ScoreRequest
from dkeras_core.storage.local import LocalStorage

OLD, NEW = b"old", b"new"


class Dies:
    """A file system on which everything that changes it fails from a given rename on: its user was killed there."""

    def __init__(self, storage, at, after=False):
        self._storage, self._at, self._after = storage, at, after
        self._renames, self._dead = 0, False

    def __getattr__(self, name):
        return getattr(self._storage, name)

    def rename(self, src, dst):
        if self._dead:
            raise StorageError("dead")
        self._renames += 1
        self._dead = self._renames == self._at
        if not self._dead or self._after:
            self._storage.rename(src, dst)
        if self._dead:
            raise StorageError("dies")

    def delete(self, path, recursive=False):
        if self._dead:
            raise StorageError("dead")
        return self._storage.delete(path, recursive)


@pytest.fixture(params=["local", pytest.param("webhdfs", marks=pytest.mark.cluster)])
def place(request, tmp_path):
    """An empty folder: its storage, its plain path, and its URI as a user gives it."""
    if request.param == "local":
        yield SimpleNamespace(storage=LocalStorage(), path=str(tmp_path), uri=f"file://{tmp_path}")
        return
    storage, path = request.getfixturevalue("webhdfs"), f"/tmp/score-{secrets.token_hex(4)}"
    storage.mkdirs(path)
    yield SimpleNamespace(storage=storage, path=path, uri=path)
    storage.delete(path, recursive=True)


@pytest.fixture
def earlier(place):
    """The same with an earlier scoring in it."""
    for name, data in ((METADATA, b"{}"), ("part-0", OLD)):
        place.storage.write_bytes(f"{place.path}/scored/{name}", data)
    return place


def make(place, overwrite=True, run="score-2", storage=None):
    storage = storage or place.storage
    output = Output(storage, f"{place.uri}/scored", run, overwrite)
    output.recover()
    output.check("/elsewhere", storage)
    with output.building() as staging:
        storage.write_bytes(f"{staging.path}/part-0", NEW)
        storage.write_bytes(f"{staging.path}/{METADATA}", b"{}")
        output.commit(staging)


def content(place):
    return place.storage.read_bytes(f"{place.path}/scored/part-0")


def names(place, folder=""):
    return sorted(status.name for status in place.storage.list(f"{place.path}{folder}"))


def test_a_result_appears_under_its_name_and_nothing_else_is_there(place):
    make(place, overwrite=False)
    assert content(place) == NEW and names(place) == ["scored"]
    assert names(place, "/scored") == [METADATA, "part-0"]


def test_an_earlier_scoring_is_replaced_only_when_asked(earlier):
    with pytest.raises(PathExists, match="--overwrite"):
        make(earlier, overwrite=False)
    assert content(earlier) == OLD and names(earlier) == ["scored"]
    make(earlier)
    assert content(earlier) == NEW and names(earlier) == ["scored"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", [1, 2])
def test_death_at_each_rename_leaves_the_old_or_the_new_and_the_next_attempt_succeeds(earlier, at, after):
    with pytest.raises(StorageError, match="dies"):
        make(earlier, storage=Dies(earlier.storage, at, after))
    Output(earlier.storage, f"{earlier.uri}/scored", "score-2").tidy()  # what the submitter does; the next run, too
    assert content(earlier) == (NEW if (at, after) == (2, True) else OLD)
    assert names(earlier) == ["scored"]
    make(earlier, run="score-3")
    assert content(earlier) == NEW and names(earlier) == ["scored"]


def test_the_next_scoring_mends_what_a_dead_one_left(earlier):
    with pytest.raises(StorageError, match="dies"):
        make(earlier, storage=Dies(earlier.storage, 1, after=True))
    assert "scored" not in names(earlier)
    with pytest.raises(PathExists, match="--overwrite"):
        make(earlier, overwrite=False, run="score-3")
    assert content(earlier) == OLD


def test_a_failed_second_rename_puts_the_earlier_one_back_at_once(earlier, monkeypatch):
    def refused(self, target):
        raise StorageError("quota")

    monkeypatch.setattr(Staging, "commit", refused)
    with pytest.raises(StorageError, match="quota"):
        make(earlier)
    assert content(earlier) == OLD and names(earlier) == ["scored"]


def test_another_one_that_was_faster_is_not_replaced_unasked(place):
    output = Output(place.storage, f"{place.uri}/scored", "score-1")
    with pytest.raises(PathExists), output.building() as staging:
        make(place, overwrite=False)
        output.commit(staging)
    assert content(place) == NEW and names(place) == ["scored"]
    assert names(place, "/scored") == [METADATA, "part-0"]  # not moved into it


def test_what_no_scoring_made_is_never_replaced(place):
    place.storage.write_bytes(f"{place.path}/scored/part-0", OLD)
    with pytest.raises(PathExists, match="no scoring made it"):
        make(place)
    assert content(place) == OLD
    place.storage.delete(f"{place.path}/scored/part-0")
    make(place)  # an empty folder is nobody's
    assert content(place) == NEW and names(place) == ["scored"]


def test_a_killed_run_is_tidied_by_its_folder(earlier):
    storage, folder = earlier.storage, f"{earlier.path}/runs/score-2"
    request = ScoreRequest("tiny", 1, "0" * 64, input="/in", output=f"{earlier.path}/scored")
    storage.write_bytes(f"{folder}/score.json", request.to_json())
    for left in ("_building-score-2-aaaa", "_building-score-22-bbbb"):
        storage.mkdirs(f"{earlier.path}/{left}")
    storage.rename(f"{earlier.path}/scored", f"{earlier.path}/_replaced-scored")
    tidy_run(storage, folder)
    assert names(earlier) == ["_building-score-22-bbbb", "runs", "scored"]
    tidy_run(storage, f"{earlier.path}/runs/no-scoring")


@pytest.mark.parametrize("source", ["/a/b", "/a/b/in", "/a", "/"])
def test_input_and_output_must_not_overlap(source):
    storage = LocalStorage()
    with pytest.raises(ConfigError, match="overlap"):
        Output(storage, "/a/b", "run").check(source, storage)
    Output(storage, "/a/b-2", "run").check("/a/b", storage)
    Output(storage, "/a/b", "run").check("/a/b", Dies(storage, 0))  # another file system


def test_what_dead_scorings_left_is_removed_and_nothing_else(tmp_path):
    for left in ("_building-score-x-1", "_building-house", "_replaced-scored"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "file").touch()
        os.utime(tmp_path / left, (0, 0))
    make(SimpleNamespace(storage=LocalStorage(), path=str(tmp_path), uri=f"file://{tmp_path}"))
    assert sorted(os.listdir(tmp_path)) == ["_building-house", "_replaced-scored", "scored"]


def test_uris_and_the_root_folder():
    assert Output(LocalStorage(), "file:///a//b/", "run").uri("/a/b/c") == "file:///a/b/c"
    assert Output(LocalStorage(), "/scored", "run").parent == "/"
    with pytest.raises(ConfigError):
        Output(LocalStorage(), "/", "run")
