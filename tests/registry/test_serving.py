"""Export to a base folder that TensorFlow Serving polls: whole or not at all, and what the server will run.

That the exported SavedModel gives the scores of the Keras file is in test_export.py, which has a real model.
"""

import contextlib
import json
import os
import secrets
import threading
import time
from pathlib import Path

import pytest

from dkeras_core.errors import PathMissing, RegistryError, StorageError
from dkeras_core.registry import Registry, serving
from dkeras_core.registry.readonly import unlock
from dkeras_core.registry.serving import export
from dkeras_core.storage.local import LocalStorage

SERVED = ["assets.extra/dkeras.json", "fingerprint.pb", "saved_model.pb", "variables/variables.index"]


@pytest.fixture
def served(folder):
    """A version's folder that has what a SavedModel has, without TensorFlow."""
    for name in ("saved_model.pb", "fingerprint.pb", "variables/variables.index"):
        (folder / name).write_bytes(name.encode())
    (folder / "variables/data").unlink()
    return folder


@pytest.fixture
def base(place, tmp_path):
    """The base folder of a server: on the file system of the registry, as the user writes it."""
    return str(tmp_path / "base") if place.url is None else f"hdfs://{place.root}/base"


def files(place, base):
    base = base.removeprefix("hdfs://")
    return sorted(status.path[len(base) + 1 :] for status in place.storage.walk(base))


def publish(place, folder, runs):
    return [place.registry.publish("higgs", folder, run_id=f"run-{run}") for run in range(runs)]


def test_a_version_appears_under_its_number(place, served, base):
    _, second = publish(place, served, 2)
    words = []
    made = export(place.registry, second, base, progress=words.append)
    assert (made.number, made.made, made.removed) == (2, True, []) and made.path.endswith("/base/2")
    assert files(place, base) == [f"2/{name}" for name in SERVED] and len(words) == 3
    origin = json.loads(place.storage.read_bytes(f"{made.path}/{SERVED[0]}"))
    assert origin["model"] == "higgs" and origin["version"] == 2
    assert origin["digest"] == place.registry.digest("higgs", 2)
    again = export(place.registry, second, base)
    assert not again.made and files(place, base) == [f"2/{name}" for name in SERVED]


def test_older_ones_are_kept_or_pruned(place, served, base):
    versions = publish(place, served, 4)
    for version in versions[:3]:
        export(place.registry, version, base)
    assert export(place.registry, versions[3], base, keep=2).removed == [1, 2]
    assert {name.split("/")[0] for name in files(place, base)} == {"3", "4"}
    with pytest.raises(RegistryError, match="keep=0"):
        export(place.registry, versions[3], base, keep=0)


def test_after_a_roll_back_the_higher_number_goes(place, served, base):
    first, second = publish(place, served, 2)
    export(place.registry, second, base)
    with pytest.raises(RegistryError, match="holds version 2, which a server prefers to 1"):
        export(place.registry, first, base)
    assert {name.split("/")[0] for name in files(place, base)} == {"2"}
    assert export(place.registry, first, base, supersede=True).removed == [2]
    assert files(place, base) == [f"1/{name}" for name in SERVED]
    for version in publish(place, served, 4)[1:]:
        export(place.registry, version, base)
    assert export(place.registry, second, base, supersede=True, keep=1).removed == [1, 3, 4]
    assert files(place, base) == [f"2/{name}" for name in SERVED]


def test_two_exports_that_remove_each_other_leave_a_server_something(place, served, base, monkeypatch):
    first, second = publish(place, served, 2)
    export(place.registry, second, base)
    take_away, others = serving._take_away, [second]

    def meanwhile(*args):
        if others:
            made = export(place.registry, others.pop(), base, keep=1)
            assert made.removed == [1]
        take_away(*args)

    monkeypatch.setattr(serving, "_take_away", meanwhile)
    made = export(place.registry, first, base, supersede=True)
    assert made.made and made.removed == [2]
    numbers = [status.name for status in place.storage.list(base) if status.name.isdigit()]
    assert numbers == ["1"] and place.storage.exists(f"{base}/1/saved_model.pb")


def test_a_server_that_polls_never_meets_a_part_of_a_version(place, served, base, monkeypatch):
    versions, seen, stop, deleted = publish(place, served, 6), [], threading.Event(), []
    own, delete = base.removeprefix("hdfs://"), type(place.storage).delete

    def noted(storage, path, recursive=False):
        deleted.append(Path(path).name)
        return delete(storage, path, recursive)

    monkeypatch.setattr(type(place.storage), "delete", noted)

    def poll():
        while not stop.is_set():
            with contextlib.suppress(PathMissing, FileNotFoundError):  # gone since it was listed
                for name in [status.name for status in place.storage.list(own)]:
                    if name.isdigit():
                        parts = [place.storage.list(f"{own}/{name}{below}") for below in ("", "/variables")]
                        # A local folder that was opened before it was taken away is read while it is deleted.
                        if place.storage.exists(f"{own}/{name}"):
                            seen.append(sum(map(len, parts)))

    server = threading.Thread(target=poll)
    server.start()
    for number in (3, 4, 2, 5, 1, 6):  # each once: a name that comes back would hide what was seen under it
        export(place.registry, versions[number - 1], base, keep=1, supersede=True)
    stop.set()
    server.join(60)
    assert len(deleted) > 5 and not any(name.isdigit() for name in deleted)  # a deletion takes its time
    assert seen and set(seen) == {5}  # assets.extra, fingerprint.pb, saved_model.pb, variables, variables.index


def test_what_cannot_be_exported(place, served, folder, base, tmp_path):
    (version,) = publish(place, served, 1)
    place.storage.write_bytes(f"{base}/1/saved_model.pb", b"another model")
    with pytest.raises(RegistryError, match=r"base/1: stands there, and is not higgs@1: .*is missing"):
        export(place.registry, version, base)
    assert files(place, base) == ["1/saved_model.pb"]
    (folder / "saved_model.pb").unlink()
    bare = place.registry.publish("bare", folder, run_id="run-1")
    with pytest.raises(RegistryError, match="no SavedModel"):
        export(place.registry, bare, tmp_path / "other")
    assert not list((tmp_path / "other").glob("*"))


def test_a_damaged_version_is_not_exported(tmp_path, served):
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    version = registry.publish("higgs", served, run_id="run-1")
    unlock(version.storage, version.path)
    Path(version.path, "saved_model.pb").unlink()
    Path(version.path, "saved_model.pb").write_bytes(b"saved_m0del.pb")
    with pytest.raises(RegistryError, match=r"saved_model\.pb: its content was changed"):
        export(registry, version, tmp_path / "base")
    with pytest.raises(RegistryError, match="was changed since higgs@1 was promoted"):
        export(registry, version, tmp_path / "base", expected="0" * 64)
    assert not (tmp_path / "base").exists()


def test_a_failing_file_system_leaves_nothing_and_the_old_version_in_place(tmp_path, served, monkeypatch):
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    versions = [registry.publish("higgs", served, run_id=f"run-{run}") for run in range(2)]
    base = tmp_path / "base"
    export(registry, versions[0], base)
    real = LocalStorage.upload

    def lose(storage, local, path, **options):
        real(storage, local, path, **options)
        if path.endswith("fingerprint.pb"):
            Path(path).write_bytes(b"f1ngerprint.pb")

    def refuse(storage, local, path, **options):
        raise StorageError("the quota is exceeded", "Free space.")

    for broken, error, said in (
        (lose, RegistryError, r"fingerprint\.pb: its content"),
        (refuse, StorageError, "quota"),
    ):
        monkeypatch.setattr(LocalStorage, "upload", broken)
        with pytest.raises(error, match=said):
            export(registry, versions[1], base, keep=1)
        monkeypatch.undo()
        assert [path.name for path in base.iterdir()] == ["1"]


def test_what_dead_exports_left_is_cleared(tmp_path, served):
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    version, base = registry.publish("higgs", served, run_id="run-1"), tmp_path / "base"
    for name, hours in ((".staging-1-aa", 25), (".removed-1-bb", 25), (".staging-1-cc", 23), ("other", 99)):
        (base / name).mkdir(parents=True)
        os.utime(base / name, (time.time() - hours * 3600,) * 2)
    export(registry, version, f"file://{base}")
    assert sorted(path.name for path in base.iterdir()) == [".staging-1-cc", "1", "other"]


@pytest.mark.cluster
def test_from_hdfs_to_this_machine(webhdfs, served, tmp_path):
    registry = Registry(webhdfs, f"/tmp/registry-{secrets.token_hex(4)}")
    try:
        version = registry.publish("higgs", served, run_id="run-1")
        made = export(registry, version, tmp_path / "base")
        assert Path(made.path, "variables/variables.index").read_bytes() == b"variables/variables.index"
    finally:
        webhdfs.delete(registry.layout.root, recursive=True)
