"""Garbage collection: what goes, what stays and why, and what happens when things change between plan and deed."""

import json
import time
from datetime import timedelta

import pytest
from collecting import DAY, NOW, names, plan
from faults import other

from dkeras_core.errors import AccessDenied, RegistryError, StorageError
from dkeras_core.registry import Registry, audit, catalog, collect, marks
from dkeras_core.registry.manifest import seal
from dkeras_core.registry.promote import rollback_target
from dkeras_core.registry.readonly import unlock


@pytest.fixture
def registry(place, folder):
    """Versions 1 to 5 of higgs."""
    for number in range(1, 6):
        place.registry.publish("higgs", folder, run_id=f"run-{number}")
    return place.registry


def test_a_plan_says_what_goes_and_why_the_rest_stays(registry):
    registry.promote("higgs", 1, "production")
    registry.promote("higgs", 3, "staging")
    registry.promote("higgs", 3, "production")
    found = plan(registry, keep=1)
    assert [(version.name, version.number) for version in found.versions] == [("higgs", 2), ("higgs", 4)]
    assert found.bytes == 2 * 7012 and found.versions[0].bytes == 7012
    assert found.versions[0].reason == "no alias needs it, not one of the 1 newest, 0 minutes old"
    assert {kept.number: kept.reason for kept in found.kept} == {
        1: "production could be rolled back to it",
        3: "named by production, staging",
        5: "one of the 1 newest",
    }
    assert [kept.reason for kept in plan(registry, keep=1, older_than=DAY).kept if kept.number in (2, 4)] == [
        "younger than 24 hours"
    ] * 2
    assert plan(registry, keep=5).versions == []
    assert registry.versions("higgs") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("steps", "stays", "target"), [
    ([1, 2, 3], {3, 2}, 2),
    ([1, 2, 3, "back"], {2, 3, 1}, 1),  # and 3, which it named before
    ([1, 2, 3, "back", "back"], {1, 2}, None),
    ([1, 2, "back", 4], {4, 1}, 1),
    ([1, 2, "back", 4, "back"], {1, 4}, None),
])  # fmt: skip
def test_what_a_roll_back_needs_stays(registry, steps, stays, target):
    for step in steps:
        registry.rollback("higgs", "production") if step == "back" else registry.promote("higgs", step, "production")
    found = plan(registry, keep=1)
    assert {kept.number for kept in found.kept} == stays | {5}
    assert collect.carry_out(registry, found).failed == []
    if target is None:  # it is back at the first
        with pytest.raises(RegistryError, match="nothing to go back to"):
            rollback_target(registry, "higgs", "production")
    else:
        assert registry.rollback("higgs", "production").version == target
        assert registry.production("higgs").verify() == []


def test_a_version_goes_and_its_tombstone_stays(place, registry):
    marks.tag(registry, "higgs", 1, {"owner": "anna"})
    before = catalog.summaries(registry, "higgs")[4]
    lines = []
    outcome = collect.carry_out(registry, plan(registry), progress=lines.append)
    assert outcome.deleted == ["higgs@1", "higgs@2", "higgs@3"] and outcome.failed == []
    assert [line.partition(":")[0] for line in lines] == ["higgs@1", "higgs@2", "higgs@3"]
    assert registry.versions("higgs") == [4, 5] and names(place, "versions") == ["4", "5"]
    assert names(place, "tombstones") == ["1.json", "2.json", "3.json"]
    after = catalog.summaries(registry, "higgs", deleted=True)[4]
    assert after.deleted.user == audit.current_user() and after.tags == {"owner": "anna"}
    assert after.model_copy(update={"deleted": None}) == before
    event = next(event for event in registry.history("higgs") if event.entry.version == 1)
    assert event.applied and event.entry.action == "delete" and event.entry.id == after.deleted.entry
    assert event.entry.digest == before.digest and event.entry.reason == after.deleted.reason
    said = rf"higgs@1 was deleted at 2.* UTC by {audit.current_user()}: no alias needs it"
    with pytest.raises(RegistryError, match=said):
        registry.version("higgs", 1)
    assert plan(registry).versions == [] and collect.carry_out(registry, plan(registry)) == collect.Outcome()


def test_the_highest_number_stays_and_none_is_used_again(registry, folder):
    for keep in (0, -1):
        with pytest.raises(RegistryError, match="is no rule"):
            plan(registry, keep=keep)
    with pytest.raises(RegistryError, match="is no rule"):
        plan(registry, older_than=timedelta(seconds=-1))
    collect.carry_out(registry, plan(registry, keep=1))
    assert registry.versions("higgs") == [5]
    assert registry.publish("higgs", folder, run_id="run-1").number == 6


def test_what_is_promoted_after_the_plan_stays(registry):
    found = plan(registry)
    registry.promote("higgs", 2, "production")
    outcome = collect.carry_out(registry, found)
    assert outcome.deleted == ["higgs@1", "higgs@3"]
    [(what, error)] = outcome.failed
    assert what == "higgs@2" and "is needed by now: named by production" in str(error)
    assert registry.production("higgs").verify() == [] and registry.versions("higgs") == [2, 4, 5]


def test_what_is_promoted_while_it_collects_stays(registry):
    def progress(line):
        if line.startswith("higgs@2"):
            registry.promote("higgs", 2, "production")
            registry.promote("higgs", 3, "production")

    outcome = collect.carry_out(registry, plan(registry), progress=progress)
    assert outcome.deleted == ["higgs@1"] and [what for what, _ in outcome.failed] == ["higgs@2", "higgs@3"]
    assert "production could be rolled back to it" in str(outcome.failed[0][1])
    assert registry.rollback("higgs", "production").version == 2


def test_a_promotion_that_wins_the_lease_saves_the_version(registry):
    """The alias moves after gc has looked and before it holds the lease; and the other way round."""

    def mkdirs(real, path, mode=None):
        if "/.staged-" in path and registry.alias("higgs", "production") is None:
            registry.promote("higgs", 1, "production")
        real(path, mode)

    outcome = collect.carry_out(other(registry, mkdirs=mkdirs), plan(registry, keep=4))
    assert outcome.deleted == [] and "is needed by now" in str(outcome.failed[0][1])
    found = plan(registry, keep=3)

    def once(real, path, mode=None):
        if "/.staged-" in path and found.versions:
            collect.carry_out(registry, collect.Plan(1, NOW, DAY, [found.versions.pop()]))
        real(path, mode)

    with pytest.raises(RegistryError, match="higgs@2 "):
        other(registry, mkdirs=once).promote("higgs", 2, "production")
    assert registry.alias("higgs", "production") == 1 and registry.versions("higgs") == [1, 3, 4, 5]


def test_two_collectors_at_once(place, registry):
    found = plan(registry)

    def mkdirs(real, path, mode=None):
        if "/.staged-" in path:
            collect.carry_out(registry, found)
        real(path, mode)

    outcome = collect.carry_out(other(registry, mkdirs=mkdirs), found)
    assert outcome.failed == [] and names(place, "versions") == ["4", "5"]
    entries = [event for event in registry.history("higgs") if event.entry.action == "delete"]
    assert sorted(event.entry.version for event in entries if event.applied) == [1, 2, 3]


def test_another_version_at_a_dead_number_is_not_deleted(registry, folder, place):
    collect.carry_out(registry, plan(registry, keep=4))
    (folder / "model.keras").write_bytes(b"put there by hand")
    registry.publish("other", folder, run_id="run-1")
    unlock(place.storage, registry.at("other", 1).path)
    place.storage.rename(registry.at("other", 1).path, registry.at("higgs", 1).path)
    found = plan(registry, keep=4)
    assert found.versions == [] and "another version has this number" in found.kept[0].reason


def test_nothing_goes_when_an_alias_or_its_audit_cannot_be_read(registry):
    entry = registry.promote("higgs", 1, "production")
    path = f"{registry.layout.audit('higgs')}/{entry.id}.json"
    registry.storage.delete(path)
    with pytest.raises(StorageError, match=entry.id):
        plan(registry)
    registry.storage.write_bytes(registry.layout.alias("higgs", "production"), b"?", overwrite=True)
    with pytest.raises(RegistryError, match="aliases/production"):
        plan(registry)


def test_an_alias_of_an_older_release_keeps_its_version(registry):
    registry.storage.write_atomic(registry.layout.alias("higgs", "production"), b"2\n")
    assert [version.number for version in plan(registry).versions] == [1, 3]


def test_damaged_versions_go_and_those_of_the_future_stay(place, registry):
    storage, path = place.storage, registry.layout.versions("higgs")
    for number in (1, 2):
        unlock(storage, f"{path}/{number}")
    storage.delete(f"{path}/1/manifest.json")
    data = json.dumps(json.loads(storage.read_bytes(f"{path}/2/manifest.json")) | {"format": 2}).encode()
    storage.write_bytes(f"{path}/2/manifest.json", data, overwrite=True)
    storage.write_bytes(f"{path}/2/manifest.sha256", seal(data), overwrite=True)
    found = plan(registry)
    assert [version.number for version in found.versions] == [1, 3] and found.versions[0].bytes is None
    assert found.kept[0].reason == "its format is newer than this dkeras"
    assert collect.carry_out(registry, found).deleted == ["higgs@1", "higgs@3"]


def test_a_young_version_is_kept_by_the_file_systems_clock(registry, monkeypatch):
    """This machine's clock is a year ahead."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 365 * 86400)
    registry.storage.mkdirs(f"{registry.layout.versions('higgs')}/.staging-busy")
    found = plan(registry, older_than=DAY)
    assert len(found.versions) == 3 and len(found.stale) == 1
    outcome = collect.carry_out(registry, found)
    assert outcome.deleted == outcome.cleared == [] and len(outcome.failed) == 3
    assert "younger than 24 hours by the file system's time" in str(outcome.failed[0][1])
    leases = [status.name for status in registry.storage.list(registry.layout.leases("higgs"))]
    assert leases == []  # the probe is gone


def test_all_models(registry, folder):
    for run in ("a", "b", "c"):
        registry.publish("zeta", folder, run_id=run)
    found = collect.plan(registry, keep=2, older_than=NOW)
    assert [(version.name, version.number) for version in found.versions] == [
        ("higgs", 1), ("higgs", 2), ("higgs", 3), ("zeta", 1)
    ]  # fmt: skip
    assert len(collect.carry_out(registry, found).deleted) == 4
    assert registry.versions("zeta") == [2, 3] and registry.versions("higgs") == [4, 5]
    with pytest.raises(RegistryError, match="is not a model name"):
        collect.plan(registry, "Higgs")


@pytest.mark.cluster
def test_who_could_not_delete_a_version_writes_no_tombstone(webhdfs, hadoop, folder, tmp_path):
    """versions/ as publishers and operators share it: sticky, so that only its publisher moves a version."""
    from dkeras_core.storage.webhdfs import WebHdfsStorage

    root = f"/tmp/collect-{tmp_path.name}"
    model = Registry(webhdfs, root).layout.model("higgs")
    for name in ("versions", "catalog", "audit", "leases", "tombstones", "aliases"):
        webhdfs.mkdirs(f"{model}/{name}")
        webhdfs.set_mode(f"{model}/{name}", 0o1777 if name in ("versions", "audit") else 0o777)
    alice, olga = (Registry(WebHdfsStorage(webhdfs.url, user=user, failover=5), root) for user in ("alice", "olga"))
    try:
        for run in ("a", "b", "c"):
            version = alice.publish("higgs", folder, run_id=run)
        assert webhdfs.status(version.path).mode == 0o555
        assert {status.mode for status in webhdfs.walk(version.path)} == {0o444}
        with pytest.raises(AccessDenied):
            alice.storage.write_bytes(f"{version.path}/model.keras", b"x", overwrite=True)
        outcome = collect.carry_out(olga, plan(olga, keep=1))
        assert [error.what.partition(": ")[2] for _, error in outcome.failed] == ["this user may not delete it"] * 2
        assert "alice, who published it" in str(outcome.failed[0][1])
        assert olga.versions("higgs") == [1, 2, 3] and webhdfs.list(f"{model}/tombstones") == []
        assert collect.carry_out(alice, plan(alice, keep=2)).deleted == ["higgs@1"]
        assert collect.carry_out(Registry(webhdfs, root), plan(olga, keep=1)).deleted == ["higgs@2"]
        assert [status.name for status in webhdfs.list(f"{model}/versions")] == ["3"]
    finally:
        webhdfs.delete(root, recursive=True)


@pytest.mark.cluster
def test_a_job_marks_and_collects_through_its_jvm_what_webhdfs_reads(jvm, webhdfs, folder, tmp_path):
    root = f"/tmp/collect-{tmp_path.name}"
    inside, outside = Registry(jvm, f"{jvm.url}{root}"), Registry(webhdfs, root)
    try:
        for run in ("a", "b", "c"):
            inside.publish("higgs", folder, run_id=run)
        marks.tag(inside, "higgs", 2, {"owner": "anna"})
        marks.archive(inside, "higgs", 1, "old")
        assert catalog.summaries(outside, "higgs") == catalog.summaries(inside, "higgs")
        found = plan(inside)
        assert found == plan(outside) and [version.number for version in found.versions] == [1]
        webhdfs.mkdirs(f"{outside.layout.versions('higgs')}/.staging-d-1")
        outcome = collect.carry_out(inside, plan(inside, stale_after=NOW))
        assert outcome.deleted == ["higgs@1"] and len(outcome.cleared) >= 1 and outcome.failed == []
        assert [status.name for status in webhdfs.list(outside.layout.versions("higgs"))] == ["2", "3"]
        newest, tagged, gone = catalog.summaries(outside, "higgs", deleted=True)
        assert newest.tags == {} and tagged.tags == {"owner": "anna"}
        assert gone.deleted.entry == outside.history("higgs")[0].entry.id and gone.archived.reason == "old"
    finally:
        webhdfs.delete(root, recursive=True)
