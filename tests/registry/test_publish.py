"""Publishing: numbers, one version a run, nothing left behind, and what many or dying publishers do."""

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dkeras_core.errors import AccessDenied, PathMissing, RegistryError, StorageError
from dkeras_core.registry import Registry, catalog
from dkeras_core.registry import publish as publishing
from dkeras_core.registry.readonly import remove
from dkeras_core.storage.local import LocalStorage

FILES = ["empty", "manifest.json", "manifest.sha256", "model.keras", "variables/data"]


def content(place, number):
    base = f"{place.root}/models/higgs/versions/{number}"
    return [status.path[len(base) + 1 :] for status in place.storage.walk(base)]


def entries(place):
    return [status.name for status in place.storage.list(f"{place.root}/models/higgs/versions")]


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


def bury(place, number):
    """Let gc have deleted a version."""
    registry = place.registry
    stone = catalog.Tombstone(entry="e", version=catalog.Summary(number=number))
    place.storage.write_bytes(registry.layout.tombstone("higgs", number), stone.to_bytes())
    remove(place.storage, registry.at("higgs", number).path)


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


def test_a_number_that_lived_and_died_while_its_publisher_slept_is_given_back(place, folder):
    place.registry.publish("higgs", folder, run_id="a")
    first = place.registry.at("higgs", 1).path

    class Sleepy(type(place.storage)):
        """Between the look at the numbers and the rename, version 2 comes and goes."""

        def __init__(self):
            self.__dict__ = place.storage.__dict__

        def rename(self, src, dst):
            if dst.endswith("/2") and not place.storage.exists(place.registry.layout.tombstone("higgs", 2)):
                place.registry.publish("higgs", folder, run_id="b")
                place.registry.publish("higgs", folder, run_id="c")
                bury(place, 2)
            super().rename(src, dst)

    version = Registry(Sleepy(), place.root).publish("higgs", folder, run_id="d")
    assert version.number == 4 and version.manifest().run == "d" and version.verify() == []
    assert entries(place) == ["1", "3", "4"] and place.storage.exists(first)


def test_a_run_is_looked_up_without_reading_all_manifests(place, folder):
    for run in ("a", "b", "c"):
        place.registry.publish("higgs", folder, run_id=run)
    opened = []

    class Watched(type(place.storage)):
        def __init__(self):
            self.__dict__ = place.storage.__dict__

        def open(self, path):
            opened.append(path.removeprefix(f"{place.root}/models/higgs/"))
            return super().open(path)

    assert Registry(Watched(), place.root).publish("higgs", folder, run_id="b").number == 2
    assert opened == ["catalog/summary.json", "versions/2/manifest.json", "versions/2/manifest.sha256"]


def test_the_catalog_is_not_believed_when_it_names_a_run(place, folder):
    place.registry.publish("higgs", folder, run_id="a")
    path = place.registry.layout.catalog("higgs")
    place.storage.write_bytes(path, place.storage.read_bytes(path).replace(b'"a"', b'"b"'), overwrite=True)
    assert place.registry.publish("higgs", folder, run_id="b").number == 2


@pytest.mark.parametrize(("operation", "part"), [("write_bytes", "/catalog/"), ("status", "/versions/1")])
def test_what_fails_after_the_commit_point_does_not_fail_a_publication(place, folder, operation, part):
    class Failing(type(place.storage)):
        def __init__(self):
            self.__dict__ = place.storage.__dict__

    def fail(path, *arguments, **options):
        if part in path:
            raise StorageError("the quota is exceeded")
        return getattr(place.storage, operation)(path, *arguments, **options)

    setattr(Failing, operation, staticmethod(fail))
    assert Registry(Failing(), place.root).publish("higgs", folder, run_id="a").number == 1
    assert place.registry.versions("higgs") == [1] and catalog.summaries(place.registry, "higgs")[0].run == "a"


def test_eight_publishers_at_once(place, folder):
    versions, errors, seen, stop = [], [], [], threading.Event()

    def publish(i):
        try:
            versions.append(Registry(place.storage, place.root).publish("higgs", folder, run_id=f"run-{i}"))
        except Exception as error:
            errors.append(error)

    def poll():
        while not stop.is_set():
            seen.extend((number, content(place, number)) for number in place.registry.versions("higgs"))

    threads = [threading.Thread(target=publish, args=(i,)) for i in range(8)]
    reader = threading.Thread(target=poll)
    for thread in [reader, *threads]:
        thread.start()
    for thread in threads:
        thread.join(120)
    stop.set()
    reader.join(60)
    assert not errors and sorted(version.number for version in versions) == list(range(1, 9))
    assert sorted(entries(place)) == [str(number) for number in range(1, 9)]
    assert all(files == FILES for _, files in seen), [item for item in seen if item[1] != FILES]
    assert all(version.verify() == [] for version in versions)
    assert sorted(version.manifest().run for version in versions) == [f"run-{i}" for i in range(8)]


def test_one_run_published_eight_times_at_once_has_one_version(place, folder):
    numbers = []
    threads = [
        threading.Thread(target=lambda: numbers.append(place.registry.publish("higgs", folder, run_id="same").number))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert numbers == [1] * 8 and entries(place) == ["1"]


def test_a_claim_left_by_a_dead_publisher_is_taken_over(place, folder, monkeypatch):
    monkeypatch.setattr(publishing, "ADOPT", 0.3)
    version = place.registry.publish("higgs", folder, run_id="run-1")
    place.storage.rename(version.path, f"{place.root}/models/higgs/versions/.ready-run-1")
    assert place.registry.versions("higgs") == []
    again = place.registry.publish("higgs", folder, run_id="run-1")
    assert again == version and entries(place) == ["1"] and again.verify() == []


def test_a_claim_of_another_user_is_told(tmp_path, folder, monkeypatch):
    """In a sticky folder nobody renames what another user has made."""
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    ready = f"{registry.layout.versions('higgs')}/.ready-run-1"
    registry.storage.write_bytes(f"{ready}/model.keras", b"")
    owner, rename = registry.storage.status(ready).owner, LocalStorage.rename

    def refuse(self, source, target):
        if source == ready:
            raise AccessDenied(f"{source}: permission denied")
        rename(self, source, target)

    monkeypatch.setattr(publishing, "ADOPT", 0.1)
    monkeypatch.setattr(LocalStorage, "rename", refuse)
    with pytest.raises(AccessDenied, match=f"run-1 was being published by {owner}") as caught:
        registry.publish("higgs", folder, run_id="run-1")
    assert caught.value.next_step.startswith(f"Let {owner} publish it again") and ready in caught.value.next_step
    assert os.listdir(registry.layout.versions("higgs")) == [".ready-run-1"]


def test_a_claim_that_is_given_up_is_not_taken_over_in_pieces(tmp_path, folder, monkeypatch):
    """A publisher fails after its claim; another one of this run, which waited for it, looks while it cleans up."""
    registry, seen = Registry(LocalStorage(), str(tmp_path / "root")), []
    rename, rmtree = LocalStorage.rename, shutil.rmtree

    def broken(self, source, target):
        if target.endswith("/1"):
            raise StorageError("the power went off")
        rename(self, source, target)

    def slow(path, *args, **settings):
        seen.append(sorted(name for name in os.listdir(registry.layout.versions("higgs")) if "ready" in name))
        rmtree(path, *args, **settings)

    monkeypatch.setattr(LocalStorage, "rename", broken)
    monkeypatch.setattr(shutil, "rmtree", slow)
    with pytest.raises(StorageError, match="power"):
        registry.publish("higgs", folder, run_id="run-1")
    assert seen and not any(seen)
    assert os.listdir(registry.layout.versions("higgs")) == []


def test_a_claim_of_a_run_that_has_its_version_is_removed(place, folder):
    version = place.registry.publish("higgs", folder, run_id="run-1")
    ready = f"{place.root}/models/higgs/versions/.ready-run-1"

    class Slow(type(place.storage)):
        """Publishes the run elsewhere between the first look and the claim."""

        def __init__(self):
            self.__dict__ = place.storage.__dict__

        def rename(self, src, dst):
            if dst == ready and not place.storage.exists(version.path):
                place.storage.rename(aside, version.path)
            super().rename(src, dst)

    aside = f"{place.root}/models/higgs/versions/.aside"
    place.storage.rename(version.path, aside)
    assert Registry(Slow(), place.root).publish("higgs", folder, run_id="run-1") == version
    assert entries(place) == ["1"]


@pytest.mark.cluster
def test_a_job_publishes_through_its_jvm_what_webhdfs_reads(jvm, webhdfs, folder, tmp_path):
    (folder / "model.keras").write_bytes(os.urandom(3_000_000))
    root = f"{jvm.url}/tmp/registry-{secrets.token_hex(4)}"
    try:
        registry, versions = Registry(jvm, root), []

        def publish(i):
            versions.append(registry.publish("higgs", folder, run_id=f"run-{i % 3}"))

        threads = [threading.Thread(target=publish, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        seen = Registry(webhdfs, root.removeprefix(jvm.url))
        assert seen.versions("higgs") == [1, 2, 3] and sorted(v.number for v in versions) == [1, 1, 2, 2, 3, 3]
        assert [seen.version("higgs", number).verify() for number in (1, 2, 3)] == [[], [], []]
        assert [status.name for status in webhdfs.list(f"{seen.layout.versions('higgs')}")] == ["1", "2", "3"]
        assert registry.latest("higgs").fetch(tmp_path / "local").joinpath("model.keras").stat().st_size == 3_000_000
    finally:
        jvm.delete(root, recursive=True)


@pytest.mark.parametrize("operation", ["mkdirs", "upload", "write_bytes", "walk", "rename:.ready", "rename:1"])
def test_a_failure_leaves_nothing(place, folder, operation):
    class Failing(type(place.storage)):
        def __init__(self):
            self.__dict__ = place.storage.__dict__

    name, _, target = operation.partition(":")
    real = getattr(place.storage, name)

    def fail(*arguments, **options):
        if target and not Path(arguments[1]).name.startswith(target):
            return real(*arguments, **options)
        raise StorageError("the quota is exceeded", "Free space.")

    storage = Failing()
    setattr(Failing, name, staticmethod(fail))
    place.storage.mkdirs(f"{place.root}/models/higgs/versions")
    with pytest.raises(StorageError, match="quota"):
        Registry(storage, place.root).publish("higgs", folder, run_id="run-1")
    assert entries(place) == []
    assert place.registry.publish("higgs", folder, run_id="run-1").number == 1


def test_a_rename_whose_answer_is_lost_is_found(place, folder):
    class Deaf(type(place.storage)):
        def __init__(self):
            self.__dict__ = place.storage.__dict__

        def rename(self, src, dst):
            super().rename(src, dst)
            if dst.endswith("/1"):
                raise StorageError("no answer came in time")

    version = Registry(Deaf(), place.root).publish("higgs", folder, run_id="run-1")
    assert version.number == 1 and entries(place) == ["1"]


def test_what_the_file_system_changed_is_not_published(place, folder):
    class Lossy(type(place.storage)):
        def __init__(self):
            self.__dict__ = place.storage.__dict__

        def upload(self, local, path, **options):
            super().upload(local, path, **options)
            super().write_bytes(f"{path}/model.keras", b"w3ights" * 1000, overwrite=True)

    with pytest.raises(RegistryError, match=r"model\.keras: its content was changed"):
        Registry(Lossy(), place.root).publish("higgs", folder, run_id="run-1")
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


KILLED = """
import sys
from pathlib import Path
from dkeras_core.registry import Registry
from dkeras_core.storage.local import LocalStorage
root, url, folder, run = sys.argv[1:]
if url:
    from dkeras_core.storage.webhdfs import WebHdfsStorage
    storage = WebHdfsStorage(url)
else:
    storage = LocalStorage()
registry = Registry(storage, root)
print("ready", flush=True)
sys.stdin.readline()
print(registry.publish("higgs", Path(folder), run_id=run), flush=True)
"""


@pytest.mark.slow
def test_kill_at_random_moments(place, folder):
    """SIGKILL somewhere in a publication; what stands is whole versions, and the next attempt succeeds."""
    (folder / "model.keras").write_bytes(os.urandom(2_000_000))
    seconds, moments = 0.0, random.Random(1)
    for i in range(1, 11):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, place.root, place.url or "", str(folder), f"run-{i}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        try:
            assert process.stdout.readline() == "ready\n"
            began = time.monotonic()
            process.stdin.write("\n")
            process.stdin.flush()
            if i == 1:
                assert process.stdout.readline() == "higgs@1\n"
                seconds = time.monotonic() - began
            else:
                time.sleep(moments.uniform(0, seconds))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=30)
        for number in place.registry.versions("higgs"):
            assert content(place, number) == FILES and place.registry.version("higgs", number).verify() == []
    published = {place.registry.publish("higgs", folder, run_id=f"run-{i}").number for i in range(1, 11)}
    assert published == set(range(1, 11)) and place.registry.versions("higgs") == list(range(1, 11))
    runs = [place.registry.version("higgs", number).manifest().run for number in range(1, 11)]
    assert sorted(runs) == sorted(f"run-{i}" for i in range(1, 11))
