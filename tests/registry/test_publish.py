"""Publishing: numbers, one version a run, what is refused, and nothing left behind when it fails."""

import json
import os
import time
from pathlib import Path

import pytest
from faults import other
from published import FILES, bury, content, entries

from dkeras_core.errors import PathMissing, RegistryError, StorageError
from dkeras_core.registry import Registry, catalog
from dkeras_core.storage.local import LocalStorage


def test_versions_are_numbered_and_whole(place, folder):
    registry = place.registry
    assert registry.versions("higgs") == [] and registry.latest("higgs") is None and registry.models() == []
    first = registry.publish(
        "higgs", folder, run_id="run-1", lineage={"pipeline": "p", "parent": 3}, metrics={"auc": 1}
    )
    second = registry.publish("higgs", folder, run_id="run-2")
    assert (first.number, second.number) == (1, 2) and first.path == f"{place.root}/models/higgs/versions/1"
    assert entries(place) == ["1", "2"] and content(place, 1) == FILES
    assert registry.versions("higgs") == [1, 2] and registry.latest("higgs") == second
    assert registry.models() == ["higgs"] and registry.verify(first) == []
    manifest = first.manifest()
    assert (manifest.run, manifest.name, manifest.metrics) == ("run-1", "higgs", {"auc": 1})
    assert (manifest.lineage.pipeline, manifest.lineage.parent) == ("p", 3) and len(manifest.lineage.code) == 16
    assert manifest.files["model.keras"].size == 7000 and "manifest.json" not in manifest.files
    assert "number" not in json.loads(place.storage.read_bytes(f"{first.path}/manifest.json"))


def test_a_run_has_one_version(place, folder):
    first = place.registry.publish("higgs", folder, run_id="run-1")
    place.registry.publish("higgs", folder, run_id="run-2")
    (folder / "model.keras").write_bytes(b"trained again after a retry")
    assert place.registry.publish("higgs", folder, run_id="run-1") == first
    assert entries(place) == ["1", "2"]


def test_a_fetched_version_can_be_published_again(place, folder, tmp_path):
    first = place.registry.publish("higgs", folder, run_id="run-1")
    copy = place.registry.publish("copy", first.fetch(tmp_path / "fetched"), run_id="run-2")
    assert copy.manifest().files == first.manifest().files and copy.manifest().name == "copy" and copy.verify() == []


def test_what_is_no_version_is_ignored(place, folder):
    base = f"{place.root}/models/higgs/versions"
    for name in ("07", "x", "1.0", "-3", ".staging-9", "٣"):
        place.storage.mkdirs(f"{base}/{name}")
    place.storage.write_bytes(f"{base}/1", b"a file")
    assert place.registry.versions("higgs") == []
    assert place.registry.publish("higgs", folder, run_id="r").number == 2
    place.storage.mkdirs(f"{base}/9")
    assert place.registry.publish("higgs", folder, run_id="s").number == 10  # a damaged version keeps its number


def test_the_number_of_a_deleted_version_is_not_used_again(place, folder):
    for run in ("a", "b"):
        place.registry.publish("higgs", folder, run_id=run)
    bury(place, 2)
    assert place.registry.publish("higgs", folder, run_id="c").number == 3
    assert place.registry.publish("higgs", folder, run_id="b").number == 4  # the run has no version any more
    assert entries(place) == ["1", "3", "4"]


def test_a_version_whose_deletion_was_begun_is_not_the_runs(place, folder):
    for run in ("a", "b"):
        place.registry.publish("higgs", folder, run_id=run)
    stone = catalog.Tombstone(entry="e", version=catalog.Summary(number=1))
    place.storage.write_bytes(place.registry.layout.tombstone("higgs", 1), stone.to_bytes())
    assert place.registry.publish("higgs", folder, run_id="a").number == 3


def test_a_run_is_looked_up_without_reading_all_manifests(place, folder):
    for run in ("a", "b", "c"):
        place.registry.publish("higgs", folder, run_id=run)
    opened = []

    def watched(real, path):
        opened.append(path.removeprefix(f"{place.root}/models/higgs/"))
        return real(path)

    assert other(place.registry, open=watched).publish("higgs", folder, run_id="b").number == 2
    assert opened == ["catalog/summary.json", "versions/2/manifest.json", "versions/2/manifest.sha256"]


def test_the_catalog_is_not_believed_when_it_names_a_run(place, folder):
    place.registry.publish("higgs", folder, run_id="a")
    path = place.registry.layout.catalog("higgs")
    place.storage.write_bytes(path, place.storage.read_bytes(path).replace(b'"a"', b'"b"'), overwrite=True)
    assert place.registry.publish("higgs", folder, run_id="b").number == 2


@pytest.mark.parametrize(("operation", "part"), [("write_bytes", "/catalog/"), ("status", "/versions/1")])
def test_what_fails_after_the_commit_point_does_not_fail_a_publication(place, folder, operation, part):
    def fail(real, path, *arguments, **options):
        if part in path:
            raise StorageError("the quota is exceeded")
        return real(path, *arguments, **options)

    assert other(place.registry, **{operation: fail}).publish("higgs", folder, run_id="a").number == 1
    assert place.registry.versions("higgs") == [1] and catalog.summaries(place.registry, "higgs")[0].run == "a"


@pytest.mark.parametrize("operation", ["mkdirs", "upload", "write_bytes", "walk", "rename:.ready", "rename:1"])
def test_a_failure_leaves_nothing(place, folder, operation):
    name, _, target = operation.partition(":")

    def fail(real, *arguments, **options):
        if target and not Path(arguments[1]).name.startswith(target):
            return real(*arguments, **options)
        raise StorageError("the quota is exceeded", "Free space.")

    place.storage.mkdirs(f"{place.root}/models/higgs/versions")
    with pytest.raises(StorageError, match="quota"):
        other(place.registry, **{name: fail}).publish("higgs", folder, run_id="run-1")
    assert entries(place) == []
    assert place.registry.publish("higgs", folder, run_id="run-1").number == 1


def test_a_rename_whose_answer_is_lost_is_found(place, folder):
    def deaf(real, src, dst):
        real(src, dst)
        if dst.endswith("/1"):
            raise StorageError("no answer came in time")

    version = other(place.registry, rename=deaf).publish("higgs", folder, run_id="run-1")
    assert version.number == 1 and entries(place) == ["1"]


def test_what_the_file_system_changed_is_not_published(place, folder):
    def lossy(real, local, path, **options):
        real(local, path, **options)
        place.storage.write_bytes(f"{path}/model.keras", b"w3ights" * 1000, overwrite=True)

    with pytest.raises(RegistryError, match=r"model\.keras: its content was changed"):
        other(place.registry, upload=lossy).publish("higgs", folder, run_id="run-1")
    assert entries(place) == []


def test_stale_staging_is_cleared(tmp_path, folder):
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    base = tmp_path / "root/models/higgs/versions"
    for name, age in ((".staging-old-1", 25), (".ready-old", 25), (".staging-new-1", 23), ("x-old", 99)):
        (base / name).mkdir(parents=True)
        then = time.time() - age * 3600
        os.utime(base / name, (then, then))
    registry.publish("higgs", folder, run_id="run-1")
    assert sorted(path.name for path in base.iterdir()) == [".staging-new-1", "1", "x-old"]


def test_bad_input_is_refused_before_anything_is_written(place, folder, tmp_path):
    (tmp_path / "nothing").mkdir()
    for arguments in (
        {"name": "Higgs"},
        {"name": "../higgs"},
        {"run_id": "a/b"},
        {"run_id": ""},
        {"folder": tmp_path / "nothing"},
        {"folder": tmp_path / "missing"},
        {"metrics": {"auc": float("nan")}},
    ):
        arguments = {"name": "higgs", "folder": folder, "run_id": "r"} | arguments
        name, path = arguments.pop("name"), arguments.pop("folder")
        with pytest.raises(RegistryError):
            place.registry.publish(name, path, **arguments)
    with pytest.raises(PathMissing):
        place.storage.list(f"{place.root}/models")
