"""The local cache: one download, every byte checked on every use, safe for processes side by side, limited in size."""

import fcntl
import hashlib
import json
import os
import random
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dkeras_core.errors import ConfigError, RegistryError
from dkeras_core.registry import Registry, opening
from dkeras_core.registry import cache as caching
from dkeras_core.registry.cache import Cache
from dkeras_core.registry.load import load, resolve
from dkeras_core.registry.opening import open_registry
from dkeras_core.registry.readonly import remove, unlock
from dkeras_core.storage.local import LocalStorage


class Counting(LocalStorage):
    """Counts what is downloaded."""

    def __init__(self):
        self.downloads = []

    def download(self, path, local):
        if Path(path).name.isdigit():
            self.downloads.append(path)
        super().download(path, local)


@pytest.fixture
def registry(tmp_path):
    return Registry(Counting(), str(tmp_path / "root"))


@pytest.fixture
def version(registry, folder):
    return registry.publish("higgs", folder, run_id="run-1")


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def digest_of(version):
    return hashlib.sha256(Path(version.path, "manifest.json").read_bytes()).hexdigest()


def names(cache):
    return sorted(path.name for path in cache.folder.iterdir() if not path.name.endswith(".lock"))


def test_a_version_is_downloaded_once_and_stands_under_its_digest(cache, version):
    for _ in range(3):
        with cache.held(version) as folder:
            assert folder == cache.folder / digest_of(version)
            assert (folder / "model.keras").read_bytes() == b"weights" * 1000
    assert len(version.storage.downloads) == 1 and names(cache) == [digest_of(version)]
    assert cache.folder.stat().st_mode & 0o777 == 0o700


def overwrite(path, data):
    path.unlink()  # the files of a version are read-only
    path.write_bytes(data)


def damage_by_a_byte(folder):
    data = bytearray((folder / "model.keras").read_bytes())
    data[100] ^= 1
    overwrite(folder / "model.keras", data)


def damage_by_a_manifest(folder):
    """A consistent lie: another manifest with a seal that matches it."""
    value = json.loads((folder / "manifest.json").read_bytes())
    value["user"] = "mallory"
    data = json.dumps(value).encode()
    overwrite(folder / "manifest.json", data)
    overwrite(folder / "manifest.sha256", f"{hashlib.sha256(data).hexdigest()}  manifest.json\n".encode())


DAMAGES = {
    "a byte": damage_by_a_byte,
    "a missing file": lambda folder: (folder / "empty").unlink(),
    "an extra file": lambda folder: (folder / "variables/extra").write_bytes(b"x"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "another manifest": damage_by_a_manifest,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_copy_is_fetched_again(cache, version, damage):
    with cache.held(version) as folder:
        pass
    damage(folder)
    with cache.held(version) as folder:
        assert (folder / "model.keras").read_bytes() == b"weights" * 1000
        assert (folder / "empty").exists() and not (folder / "variables/extra").exists()
        assert hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest() == folder.name
    assert len(version.storage.downloads) == 2 and names(cache) == [folder.name]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("a byte", r"model\.keras: its content"),
        ("a missing file", "empty: is missing"),
        ("an extra file", "extra: is not in the manifest"),
    ],
)
def test_a_damaged_version_is_refused_by_name_and_not_kept(cache, version, damage, said):
    unlock(version.storage, version.path)
    DAMAGES[damage](Path(version.path))
    with pytest.raises(RegistryError, match=said), cache.held(version):
        raise AssertionError("given out")
    assert names(cache) == []


def test_a_manifest_of_the_future_is_refused_before_anything_is_fetched(cache, version):
    unlock(version.storage, version.path)
    path = Path(version.path, "manifest.json")
    overwrite(path, path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(RegistryError, match="format 2"), cache.held(version):
        pass
    assert version.storage.downloads == []


def test_an_alias_vouches_for_the_content_that_was_promoted(cache, registry, version, folder):
    registry.promote("higgs", 1, "production")
    found, expected = resolve(registry, "higgs", "production")
    assert found == version and expected == digest_of(version)
    with cache.held(found, expected):
        pass
    unlock(version.storage, version.path)
    damage_by_a_manifest(Path(version.path))
    assert version.verify() == []  # who may change files makes a version that is whole in itself
    with pytest.raises(RegistryError, match=r"manifest\.json: was changed since higgs@1 was promoted"):
        load("higgs@production", registry=registry, cache=cache)


def test_what_load_cannot_find(tmp_path, registry, version, cache):
    for source, said in (
        ("higgs@staging", "no alias 'staging'"),
        ("higgs@7", "no version 7"),
        ("Higgs@1", "is not a model name"),
        ("higgs", "no such folder"),
        (str(tmp_path / "x@y/z"), "no such folder"),
    ):
        with pytest.raises(RegistryError, match=said):
            load(source, registry=registry, cache=cache)
    with pytest.raises(RegistryError, match="no version 2"):
        load("higgs@2", root=f"file://{registry.layout.root}", cache=cache)


def test_where_the_registry_is(monkeypatch, tmp_path, version):
    monkeypatch.setenv("DKERAS_ROOT", f"file://{tmp_path}/root")
    assert open_registry().versions("higgs") == [1]
    assert open_registry(f"file://{tmp_path}/other").versions("higgs") == []
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path / "no-such-folder"))
    with pytest.raises(ConfigError, match="no-such-folder"):
        open_registry("/dkeras")


def test_copies_used_longest_ago_make_room(registry, folder, tmp_path):
    versions = []
    for number in range(4):
        (folder / "model.keras").write_bytes(bytes([number]) * 10_000)
        versions.append(registry.publish("higgs", folder, run_id=f"run-{number}"))
    cache, digests = Cache(tmp_path / "cache", limit=25_000), [digest_of(version) for version in versions]
    for number in (0, 1):
        with cache.held(versions[number]) as entry:
            os.utime(entry, (1_000 + number, 1_000 + number))
    with cache.held(versions[0]):  # used again: 1 is now the oldest
        pass
    with cache.held(versions[2]):
        assert names(cache) == sorted([digests[0], digests[2]])
    with cache.held(versions[0]), cache.held(versions[2]), cache.held(versions[3]):
        assert names(cache) == sorted([digests[0], digests[2], digests[3]])  # in use: over the limit, but kept
    assert not (cache.folder / f".{digests[1]}.lock").exists()


def test_one_larger_than_the_limit_is_used(version, tmp_path):
    cache = Cache(tmp_path / "cache", limit=10)
    with cache.held(version) as folder:
        assert (folder / "model.keras").exists()


def test_what_killed_processes_left_is_removed(cache, version):
    left = cache.folder / f".{digest_of(version)}.abcd1234.tmp"
    left.mkdir(parents=True)
    (left / "part").write_bytes(b"x")
    with cache.held(version):
        assert not left.exists()


def test_threads_share_one_download(cache, version):
    found, barrier = [], threading.Barrier(6)

    def use():
        barrier.wait()
        with cache.held(version) as folder:
            found.append((folder / "model.keras").read_bytes())

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [b"weights" * 1000] * 6 and len(version.storage.downloads) == 1


def test_a_lock_file_removed_while_it_was_waited_for_is_no_lock(cache):
    cache.folder.mkdir(parents=True)
    entered, path = [], cache.folder / ".d.lock"

    def wait():
        with cache._locked("d", 2):  # LOCK_EX
            entered.append(path.exists())

    with cache._locked("d", 2) as lock:
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.1)
        lock.unlink()
    thread.join(10)
    assert entered == [True]


def test_without_a_usable_folder_versions_are_fetched_anew(tmp_path, version, caplog):
    (tmp_path / "file").write_bytes(b"")
    with Cache(tmp_path / "file/models").held(version, digest_of(version)) as folder:
        assert (folder / "model.keras").exists()
    assert not folder.exists() and "no cache of models" in caplog.text


@pytest.mark.parametrize("held", [fcntl.LOCK_EX, fcntl.LOCK_SH], ids=["fetching", "reading"])
def test_a_process_that_was_stopped_is_not_waited_for_for_ever(cache, version, caplog, monkeypatch, held):
    monkeypatch.setattr(caching, "WAIT", 0.2)
    cache.folder.mkdir(parents=True)
    with (cache.folder / f".{digest_of(version)}.lock").open("a") as stopped:
        fcntl.flock(stopped, held)
        with cache.held(version) as folder:
            assert (folder / "model.keras").exists() and folder.parent != cache.folder
    assert "another process has held" in caplog.text
    with cache.held(version) as folder:
        assert folder.parent == cache.folder


def test_a_copy_that_others_keep_removing_is_fetched_aside(version, cache, caplog):
    class Emptied(Cache):
        def _fetch(self, version, digest):
            super()._fetch(version, digest)
            self._remove(self.folder / digest)

    with Emptied(cache.folder).held(version) as folder:
        assert (folder / "model.keras").exists() and folder.parent != cache.folder
    assert not folder.exists() and "as often as it was fetched" in caplog.text


def test_where_it_is_and_how_large(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("DKERAS_CACHE_GB", "0.5")
    assert (Cache().folder, Cache().limit) == (tmp_path / "dkeras/models", 500_000_000)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("DKERAS_CACHE_GB")
    assert (Cache().folder, Cache().limit) == (Path.home() / ".cache/dkeras/models", 10_000_000_000)
    monkeypatch.setenv("DKERAS_CACHE_GB", "much")
    with pytest.raises(ConfigError, match="DKERAS_CACHE_GB=much"):
        Cache()


@pytest.mark.cluster
def test_from_hdfs_by_name(hadoop, jvm, folder, tmp_path, monkeypatch):
    """As on an edge node, by HADOOP_CONF_DIR; and as in a job, through the JVM of its session."""
    root, cache = f"/tmp/registry-{secrets.token_hex(4)}", Cache(tmp_path / "cache")
    in_job = open_registry(root)
    monkeypatch.setattr(opening, "_session_on_a_cluster", lambda: None)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
    at_edge = open_registry(root)
    assert (type(in_job.storage).__name__, type(at_edge.storage).__name__) == ("HadoopStorage", "WebHdfsStorage")
    try:
        at_edge.publish("higgs", folder, run_id="run-1")
        at_edge.promote("higgs", 1, "production")
        digests = set()
        for registry in (in_job, at_edge):
            version, expected = resolve(registry, "higgs", "production")
            with cache.held(version, expected) as copy:
                assert (copy / "variables/data").read_bytes() == b"more weights"
                digests.add(copy.name)
        assert digests == {expected}
        unlock(at_edge.storage, version.path)
        at_edge.storage.delete(f"{version.path}/variables/data")
        at_edge.storage.write_bytes(f"{version.path}/variables/data", b"m0re weights")
        with cache.held(version, expected) as copy:  # the copy is what was promoted
            assert (copy / "variables/data").read_bytes() == b"more weights"
        for registry in (in_job, at_edge):
            with (
                pytest.raises(RegistryError, match=r"variables/data: its content was changed"),
                Cache(tmp_path / "other").held(registry.version("higgs", 1)),
            ):
                pass
    finally:
        remove(at_edge.storage, root)


USER = """
import fcntl
import sys
from pathlib import Path
from dkeras_core.registry import Registry, opening
from dkeras_core.registry.cache import Cache
from dkeras_core.registry.opening import open_registry
from dkeras_core.registry.readonly import remove, unlock
from dkeras_core.storage.local import LocalStorage
root, cache, rounds = sys.argv[1:]
registry, cache = Registry(LocalStorage(), root), Cache(Path(cache), limit=1)
for i in range(int(rounds)):
    number = i % 2 + 1
    with cache.held(registry.at("higgs", number)) as folder:
        assert (folder / "model.keras").read_bytes() == bytes([number]) * 300_000
    if i % 5 == 4:  # a disk that loses bytes, while nobody reads
        with cache._locked(folder.name, fcntl.LOCK_EX):
            if folder.exists():
                (folder / "model.keras").write_bytes(b"")
print("done")
"""


@pytest.mark.slow
def test_processes_that_fetch_use_damage_and_evict_at_once(registry, folder, tmp_path):
    """Two versions in a cache with room for none: five processes and one that is killed again and again."""
    for number in (1, 2):
        (folder / "model.keras").write_bytes(bytes([number]) * 300_000)
        registry.publish("higgs", folder, run_id=f"run-{number}")
    command = [sys.executable, "-c", USER, registry.layout.root, str(tmp_path / "cache")]
    cwd, moments = Path(__file__).parents[2], random.Random(1)
    users = [subprocess.Popen([*command, "400"], stdout=subprocess.PIPE, cwd=cwd) for _ in range(4)]
    while any(user.poll() is None for user in users):
        victim = subprocess.Popen([*command, "1000"], cwd=cwd, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.3, 0.7))
        victim.kill()
        victim.wait(30)
    assert [user.communicate()[0] for user in users] == [b"done\n"] * 4
    cache = Cache(tmp_path / "cache")
    for number in (1, 2):
        with cache.held(registry.at("higgs", number)) as folder:
            assert (folder / "model.keras").read_bytes() == bytes([number]) * 300_000
    assert len(names(cache)) == 2, names(cache)
