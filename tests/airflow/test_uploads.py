"""What a killed upload leaves in HDFS is removed by housekeeping when it is old, and nothing else is."""

import contextlib
import os
import shutil
import time
from types import SimpleNamespace

import pytest

from dkeras_core.airflow.uploads import remove_dead_uploads
from dkeras_core.cli.request import Request
from dkeras_core.cli.sending import upload_data
from dkeras_core.config import Pipeline
from dkeras_core.errors import StorageError
from dkeras_core.paths import Layout, new_run_id
from dkeras_core.storage.local import LocalStorage
from envs.builder import publish
from envs.builder.archive import Archive

OLD = time.time() - 2 * 86400


class Killed(LocalStorage):
    """Its uploads end in the middle, and nothing is cleaned up after them."""

    def upload(self, local, path, **how):
        super().upload(local, path, **how)
        raise KeyboardInterrupt

    def delete(self, path, **how):
        raise StorageError("the process is dead")


def left_by_the_dead(tmp_path, project_root):
    """The files that real uploads have left below ``tmp_path/root``, all of them old."""
    root, data = tmp_path / "root", tmp_path / "training.csv"
    data.write_bytes(b"x")
    pipeline = Pipeline.load(project_root / "dags/pipelines/higgs.yaml", [f"root={root.as_uri()}"])
    for run in (new_run_id("higgs"), "higgs-20261123t010203-0a1b2c3d"):
        with contextlib.suppress(KeyboardInterrupt):
            upload_data(SimpleNamespace(storage=Killed()), Request(pipeline, tmp_path, run, (), data), "0a1b")
    with contextlib.suppress(KeyboardInterrupt):
        publish.upload(Killed(), Layout(str(root)), Archive(data, "0a", 1))
    found = sorted(str(path) for path in root.rglob("*") if path.is_file())
    assert len(found) == 3
    for path in found:
        os.utime(path, (OLD, OLD))
    return found


def test_what_is_old_goes_and_what_has_another_name_or_is_young_stays(tmp_path, project_root):
    root, said = tmp_path / "root", []
    assert remove_dead_uploads(LocalStorage(), str(root)) == []
    dead = left_by_the_dead(tmp_path, project_root)
    kept = [
        root / "raw/higgs/0a1b/training.csv",
        root / "raw/higgs/a.partial-b-0123abcd",
        root / "envs/train-0a.tar.gz",
    ]
    for path in kept:
        path.write_bytes(b"x")
        os.utime(path, (OLD, OLD))
    young = shutil.copy(dead[-1], f"{dead[-1][:-8]}76543210")
    assert sorted(remove_dead_uploads(LocalStorage(), str(root), dry_run=True, say=said.append)) == dead
    assert len(said) == 4 and f"{young} may still be going on" in said
    assert sorted(remove_dead_uploads(LocalStorage(), root.as_uri())) == dead
    assert {path for path in root.rglob("*") if path.is_file()} == {*kept, type(root)(young)}


def test_one_that_may_not_be_removed_is_told_of_after_the_others(tmp_path, project_root, monkeypatch):
    dead = left_by_the_dead(tmp_path, project_root)
    storage = LocalStorage()
    delete = storage.delete

    def refuse(path, **how):
        if path == dead[0]:
            raise StorageError(f"{path} is another's")
        delete(path, **how)

    monkeypatch.setattr(storage, "delete", refuse)
    with pytest.raises(StorageError, match="1 files could not be removed"):
        remove_dead_uploads(storage, str(tmp_path / "root"))
    assert [str(path) for path in (tmp_path / "root").rglob("*") if path.is_file()] == dead[:1]
