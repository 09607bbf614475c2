"""The catalog: few requests however many versions there are, and never the truth."""

import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from dkeras_core.errors import RegistryError, StorageError
from dkeras_core.registry import Registry, catalog, marks
from dkeras_core.registry.manifest import Manifest, seal
from dkeras_core.registry.readonly import remove, unlock


def counting(place):
    """The registry with a record of what it asks of the file system."""
    calls = []

    class Counting(type(place.storage)):
        def __init__(self):
            self.__dict__ = dict(place.storage.__dict__)

    for name in ("list", "open", "status", "write_bytes", "rename", "replace"):

        def call(*arguments, _name=name, **options):
            calls.append(f"{_name} {arguments[0].removeprefix(place.root)}")
            return getattr(place.storage, _name)(*arguments, **options)

        setattr(Counting, name, staticmethod(call))
    return Registry(Counting(), place.root), calls


@pytest.fixture
def three(place, folder):
    for number, metrics in ((1, {"auc": 0.5}), (2, {"auc": 0.75, "intervals": {"auc": [0.7, 0.8]}}), (3, {})):
        place.registry.publish(
            "higgs", folder, run_id=f"run-{number}", lineage={"pipeline": "p", "further": [1]}, metrics=metrics
        )
    return place


def bury(place, number, **changes):
    """Write a tombstone as collect.py does."""
    version = next(found for found in catalog.summaries(place.registry, "higgs") if found.number == number)
    gone = catalog.Deleted(time=datetime(2026, 11, 23, tzinfo=UTC), user="anna", reason="old", entry="e")
    stone = catalog.Tombstone(entry="e", version=version.model_copy(update={"deleted": gone} | changes))
    place.storage.write_bytes(place.registry.layout.tombstone("higgs", number), stone.to_bytes())


def test_summaries_say_what_the_manifests_say(three):
    registry = three.registry
    found = catalog.summaries(registry, "higgs")
    assert [summary.number for summary in found] == [3, 2, 1]
    for summary in found:
        version = registry.version("higgs", summary.number)
        manifest = version.manifest()
        assert summary.digest == registry.digest("higgs", summary.number)
        assert (summary.run, summary.user, summary.created) == (manifest.run, manifest.user, manifest.created)
        assert (summary.lineage, summary.metrics) == (manifest.lineage, manifest.metrics)
        assert (summary.bytes, summary.files, summary.problem) == (7012, 3, None)
    assert found[0].lineage.further == [1]
    assert catalog.summaries(registry, "other") == []
    with pytest.raises(RegistryError, match="is not a model name"):
        catalog.summaries(registry, "../higgs")


def test_publishing_keeps_the_catalog_warm(three):
    registry, calls = counting(three)
    assert len(catalog.summaries(registry, "higgs")) == 3
    model = "/models/higgs"
    assert calls == [
        f"open {model}/catalog/summary.json",
        *(f"list {model}/{k}" for k in ("versions", "marks", "tombstones")),
    ]


def test_tags_archive_and_deletion_are_listed(three):
    marks.tag(three.registry, "higgs", 1, {"owner": "anna"})
    marks.archive(three.registry, "higgs", 2, "unfit")
    for _ in range(2):  # read, and then from the file
        newest, archived, tagged = catalog.summaries(three.registry, "higgs")
        assert newest.tags == {} and newest.archived is None
        assert archived.archived.reason == "unfit" and tagged.tags == {"owner": "anna"}
        catalog_of(three).save()
    marks.tag(three.registry, "higgs", 1, {"owner": "otto"})
    assert catalog.summaries(three.registry, "higgs")[2].tags == {"owner": "otto"}
    bury(three, 1)
    assert [summary.number for summary in catalog.summaries(three.registry, "higgs")] == [3, 2]
    remove(three.storage, three.registry.version("higgs", 1).path)
    everything = catalog.summaries(three.registry, "higgs", deleted=True)
    assert [summary.number for summary in everything] == [3, 2, 1]
    assert everything[2].deleted.user == "anna" and everything[2].metrics == {"auc": 0.5} and everything[2].tags
    assert everything[1].deleted is None


def catalog_of(place):
    """A catalog that has seen everything."""
    found = catalog.Catalog(place.registry, "higgs")
    for kind in ("versions", "marks", "tombstones"):
        found.look(kind)
    return found


def test_a_version_that_was_changed_is_read_again(three):
    path = three.registry.version("higgs", 2).path
    unlock(three.storage, path)
    if three.url is None:
        time.sleep(0.01)
    data = Manifest.from_bytes(three.storage.read_bytes(f"{path}/manifest.json"), path)
    data = data.model_copy(update={"metrics": {"auc": 1.0}}).to_bytes()
    three.storage.write_bytes(f"{path}/manifest.json", data, overwrite=True)
    three.storage.write_bytes(f"{path}/manifest.sha256", seal(data), overwrite=True)
    assert catalog.summaries(three.registry, "higgs")[1].metrics == {"auc": 1.0}


def test_what_cannot_be_read_is_said_and_not_kept(three):
    registry, storage = three.registry, three.storage
    marks.tag(registry, "higgs", 1, {"a": "b"})
    path = registry.version("higgs", 2).path
    unlock(storage, path)
    storage.delete(f"{path}/manifest.sha256")
    storage.write_bytes(registry.layout.mark("higgs", 1), b"{", overwrite=True)
    bury(three, 3)
    storage.write_bytes(registry.layout.tombstone("higgs", 3), b"{", overwrite=True)
    catalog_of(three).save()
    third, second, first = catalog.summaries(registry, "higgs", deleted=True)
    assert "manifest.sha256" in second.problem and second.run is None and second.number == 2
    assert "marks/1.json" in first.problem and first.run == "run-1"
    assert "tombstones/3.json" in third.problem and third.deleted is not None
    manifest = storage.read_bytes(f"{path}/manifest.json")
    storage.write_bytes(f"{path}/manifest.sha256", seal(manifest))
    assert catalog.summaries(registry, "higgs")[0].problem is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"format": 2}', b'{"format": 1, "versions": {"1": {}}}'])
def test_a_damaged_catalog_is_no_catalog(three, content):
    path = three.registry.layout.catalog("higgs")
    three.storage.write_bytes(path, content, overwrite=True)
    assert [summary.run for summary in catalog.summaries(three.registry, "higgs")] == ["run-3", "run-2", "run-1"]


def test_a_reader_that_finds_much_missing_writes_it_down(three, folder, monkeypatch):
    path = three.registry.layout.catalog("higgs")
    three.storage.delete(path)
    catalog.summaries(three.registry, "higgs")
    assert not three.storage.exists(path)  # three are few
    monkeypatch.setattr(catalog, "FEW", 2)
    catalog.summaries(three.registry, "higgs")
    assert list(json.loads(three.storage.read_bytes(path))["versions"]) == ["1", "2", "3"]
    assert [status.name for status in three.storage.list(path.rpartition("/")[0])] == ["summary.json"]


def test_who_may_not_write_it_lists_all_the_same(three, monkeypatch):
    monkeypatch.setattr(catalog, "FEW", 0)
    three.storage.delete(three.registry.layout.catalog("higgs"))

    class ReadOnly(type(three.storage)):
        def __init__(self):
            self.__dict__ = dict(three.storage.__dict__)

        def write_bytes(self, path, data, **options):
            raise StorageError("permission denied")

    assert len(catalog.summaries(Registry(ReadOnly(), three.root), "higgs")) == 3


def test_a_version_that_goes_while_it_is_listed_is_left_out(three):
    three.storage.delete(three.registry.layout.catalog("higgs"))
    gone = three.registry.version("higgs", 2).path

    class Racing(type(three.storage)):
        def __init__(self):
            self.__dict__ = dict(three.storage.__dict__)

        def list(self, path):
            found = super().list(path)
            if path.endswith("/versions"):
                remove(three.storage, gone)
            return found

    found = catalog.summaries(Registry(Racing(), three.root), "higgs")
    assert [(summary.number, summary.problem) for summary in found] == [(3, None), (1, None)]


@pytest.mark.cluster
@pytest.mark.slow
def test_a_thousand_versions_are_listed_within_two_seconds(webhdfs):
    registry = Registry(webhdfs, f"/tmp/registry-{secrets.token_hex(4)}")
    base = registry.layout.versions("higgs")

    def put(number):
        metrics = {"auc": 0.9, "log_loss": 0.3, "intervals": {"auc": [0.89, 0.91], "log_loss": [0.29, 0.31]}}
        files = {f"variables/{i}": {"size": 10**6, "sha256": f"{i:064x}"} for i in range(12)}
        data = Manifest(
            name="higgs", run=f"run-{number}", created=datetime.now(UTC), user="u", files=files, metrics=metrics
        ).to_bytes()
        webhdfs.write_bytes(f"{base}/{number}/manifest.json", data)
        webhdfs.write_bytes(f"{base}/{number}/manifest.sha256", seal(data))

    try:
        with ThreadPoolExecutor(16) as writers:
            list(writers.map(put, range(1, 1001)))
        seconds = []
        for _ in range(4):
            begun = time.perf_counter()
            found = catalog.summaries(registry, "higgs")
            seconds.append(time.perf_counter() - begun)
            assert [summary.number for summary in found] == list(range(1000, 0, -1))
            assert all(summary.metrics["auc"] == 0.9 for summary in found)
        print(f"\n1,000 versions: without a catalog {seconds[0]:.2f} s, then {min(seconds[1:]):.2f} s")
        assert min(seconds[1:]) < 2
    finally:
        webhdfs.delete(registry.layout.root, recursive=True)
