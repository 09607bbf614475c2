"""Many publishers at once, those that wait for each other, and those that are killed: one version a run, each whole."""

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
from faults import other
from published import FILES, bury, content, entries

from dkeras_core.errors import AccessDenied, StorageError
from dkeras_core.registry import Registry
from dkeras_core.registry import publish as publishing
from dkeras_core.storage.local import LocalStorage


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

    def rename(real, src, dst):
        """The run is published elsewhere between the first look and the claim."""
        if dst == ready and not place.storage.exists(version.path):
            place.storage.rename(aside, version.path)
        real(src, dst)

    aside = f"{place.root}/models/higgs/versions/.aside"
    place.storage.rename(version.path, aside)
    assert other(place.registry, rename=rename).publish("higgs", folder, run_id="run-1") == version
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


def test_a_number_that_lived_and_died_while_its_publisher_slept_is_given_back(place, folder):
    place.registry.publish("higgs", folder, run_id="a")
    first = place.registry.at("higgs", 1).path

    def rename(real, src, dst):
        """Between the look at the numbers and the rename, version 2 comes and goes."""
        if dst.endswith("/2") and not place.storage.exists(place.registry.layout.tombstone("higgs", 2)):
            place.registry.publish("higgs", folder, run_id="b")
            place.registry.publish("higgs", folder, run_id="c")
            bury(place, 2)
        real(src, dst)

    version = other(place.registry, rename=rename).publish("higgs", folder, run_id="d")
    assert version.number == 4 and version.manifest().run == "d" and version.verify() == []
    assert entries(place) == ["1", "3", "4"] and place.storage.exists(first)


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
