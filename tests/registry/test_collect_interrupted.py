"""Garbage collection that was interrupted, and what dead processes left: the next one ends it."""

import os
import time

import pytest
from collecting import DAY, NOW, names, plan
from faults import other

from dkeras_core.errors import AccessDenied, Conflict, RegistryError, StorageError
from dkeras_core.registry import catalog, collect


@pytest.fixture
def registry(place, folder):
    """Versions 1 to 5 of higgs."""
    for number in range(1, 6):
        place.registry.publish("higgs", folder, run_id=f"run-{number}")
    return place.registry


@pytest.mark.parametrize("operation", ["rename", "delete"])
def test_a_collection_that_was_interrupted_is_finished(place, registry, operation):
    def fail(real, path, *arguments, **options):
        if path.startswith(registry.layout.versions("higgs")):
            raise StorageError("the NameNode is in safe mode")
        return real(path, *arguments, **options)

    outcome = collect.carry_out(other(registry, **{operation: fail}), plan(registry))
    assert len(outcome.failed) == 3 and "safe mode" in str(outcome.failed[0][1])
    assert catalog.summaries(registry, "higgs", deleted=True)[4].deleted is not None
    with pytest.raises(RegistryError, match=r"higgs@1 was deleted|has no version 1"):
        registry.promote("higgs", 1, "production")
    again = plan(registry)
    if operation == "rename":
        assert "but its files are still there" in again.versions[0].reason
    else:
        assert [leftover.reason for leftover in again.stale] == ["a deleted version"] * 3
    assert collect.carry_out(registry, again).failed == []
    assert names(place, "versions") == ["4", "5"]
    assert len([event for event in registry.history("higgs") if event.entry.action == "delete"]) == 3


def test_a_version_whose_deletion_was_begun_is_none_of_the_newest(registry):
    def fail(real, src, dst):
        if "/.deleted-" in dst:
            raise StorageError("the NameNode is in safe mode")
        real(src, dst)

    found = plan(registry, keep=1)
    fourth = collect.Plan(1, NOW, DAY, [version for version in found.versions if version.number == 4])
    assert len(collect.carry_out(other(registry, rename=fail), fourth).failed) == 1
    found = plan(registry, keep=2)
    assert [kept.number for kept in found.kept] == [3, 5] and [version.number for version in found.versions] == [
        1,
        2,
        4,
    ]


def test_a_rename_whose_answer_is_lost(place, registry):
    def deaf(real, src, dst):
        real(src, dst)
        if "/.deleted-" in dst:
            raise StorageError("no answer came in time")

    outcome = collect.carry_out(other(registry, rename=deaf), plan(registry))
    assert outcome.failed == [] and names(place, "versions") == ["4", "5"]


def test_it_goes_on_after_a_refusal(registry):
    def commit(real, src, dst):
        if dst.endswith("tombstones/2.json"):
            raise AccessDenied("permission denied", "Ask.")
        real(src, dst)

    outcome = collect.carry_out(other(registry, replace=commit), plan(registry))
    assert outcome.deleted == ["higgs@1", "higgs@3"] and [what for what, _ in outcome.failed] == ["higgs@2"]
    assert registry.versions("higgs") == [2, 4, 5] and registry.version("higgs", 2).verify() == []
    assert not isinstance(outcome.failed[0][1], Conflict)


LEFT = {
    "versions/.staging-r-1": "an upload that did not end",
    "versions/.ready-r": "a version that got no number",
    "versions/.deleted-9-ab": "a deleted version",
    "leases/.staged-x": "a change that did not end",
    "leases/.fenced-x": "a change that lost its turn",
    "leases/1": "a lease that others followed",
    "leases/1.done": "a lease that others followed",
    "aliases/.production.ab12.tmp": "a temporary file",
    "catalog/.summary.json.ab12.tmp": "a temporary file",
    "tombstones/.1.json.ab12.tmp": "a temporary file",
    "leases/.clock-ab12.tmp": "a temporary file",
}
STAYS = ["leases/2", "leases/2.done", "aliases/production", "versions/README", "versions/.hidden"]


def test_what_dead_processes_left_is_cleared(place, registry):
    base = registry.layout.model("higgs")
    for path in (*LEFT, *STAYS):
        if (
            path in ("leases/1", "leases/1.done", "leases/2", "leases/2.done")
            or ".tmp" in path
            or path == "aliases/production"
        ):
            place.storage.write_bytes(f"{base}/{path}", b"1\n")
        else:
            place.storage.write_bytes(f"{base}/{path}/sub/file", b"x")
    place.storage.write_bytes(f"{registry.layout.models()}/.index.html.ab12.tmp", b"x")
    waiting = plan(registry, keep=5)
    assert {left.path[len(base) + 1 :] for left in waiting.stale} == {
        path for path, reason in LEFT.items() if reason in ("a deleted version", "a lease that others followed")
    }
    found = plan(registry, keep=5, stale_after=NOW)
    assert {left.path[len(base) + 1 :]: left.reason for left in found.stale} == LEFT
    outcome = collect.carry_out(registry, found)
    assert outcome.failed == [] and len(outcome.cleared) == len(LEFT)
    assert plan(registry, keep=5, stale_after=NOW).stale == []
    assert all(place.storage.exists(f"{base}/{path}") for path in STAYS)
    assert registry.versions("higgs") == [1, 2, 3, 4, 5]
    everywhere = collect.plan(registry, keep=5, older_than=NOW, stale_after=NOW)
    assert [left.path.rpartition("/")[2] for left in everywhere.stale] == [".index.html.ab12.tmp"]
    assert collect.carry_out(registry, everywhere).failed == []
    assert registry.models() == ["higgs"] and collect.plan(registry, stale_after=NOW).stale == []


def test_a_leftover_that_came_to_life_stays(place, registry):
    path = f"{registry.layout.versions('higgs')}/.staging-r-1"
    place.storage.mkdirs(path)
    if place.url is None:
        os.utime(path, (time.time() - 2 * 86400,) * 2)
        found = plan(registry, keep=5)
    else:  # HDFS sets the times itself
        found = plan(registry, keep=5, stale_after=NOW)
        found = collect.Plan(5, NOW, DAY, stale=found.stale)
    assert len(found.stale) == 1
    place.storage.write_bytes(f"{path}/model.keras", b"x")
    assert collect.carry_out(registry, found) == collect.Outcome() and place.storage.exists(path)
