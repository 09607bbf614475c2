"""Promotion and roll-back: what the alias names, what the audit says, and what is refused."""

import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from dkeras_core.errors import Conflict, PathMissing, RegistryError, StorageError
from dkeras_core.registry import audit, marks
from dkeras_core.registry.leftovers import leftovers
from dkeras_core.registry.manifest import seal
from dkeras_core.registry.readonly import unlock


@pytest.fixture
def registry(place, folder):
    """Versions 1 to 3 of higgs."""
    for number in (1, 2, 3):
        place.registry.publish("higgs", folder, run_id=f"run-{number}")
    return place.registry


def alias_file(registry):
    return registry.storage.read_bytes(registry.layout.alias("higgs", "production")).decode().splitlines()


def left_behind(registry):
    """Everything of a change that should be gone after it; of leases the last one stays."""
    leases = [status.name for status in registry.storage.list(registry.layout.leases("higgs"))]
    staged = [name for name in leases if name.startswith(".")]
    return staged, [name for name in leases if name not in staged and not name.endswith(".done")]


def test_promote_points_the_alias_and_explains_itself(registry):
    assert registry.pointer("higgs", "production") is None
    first = registry.promote("higgs", 1, "production", reason="first one", checks=[{"name": "integrity"}])
    second = registry.promote("higgs", 3, "production", expected=1, forced=True, reason="hurry")
    assert registry.production("higgs").number == 3 and registry.aliases("higgs") == {"production": 3}
    assert alias_file(registry) == ["3", second.id, registry.digest("higgs", 3)]
    events = registry.history("higgs")
    assert [(event.entry.id, event.applied) for event in events] == [(second.id, True), (first.id, True)]
    newest, oldest = (event.entry for event in events)
    assert (newest.before.version, newest.before.entry, newest.forced, newest.reason) == (1, first.id, True, "hurry")
    assert oldest.before == audit.Before() and oldest.checks == [{"name": "integrity"}]
    assert oldest.user == audit.current_user() and oldest.host
    assert left_behind(registry) == ([], ["2"])


def test_promoting_again_changes_nothing(registry):
    first = registry.promote("higgs", 2, "production")
    assert registry.promote("higgs", 2, "production").id == first.id
    assert len(registry.history("higgs")) == 1


@pytest.mark.parametrize("believed", [None, 2])
def test_an_alias_that_moved_is_not_overwritten(registry, believed):
    registry.promote("higgs", 1, "production")
    with pytest.raises(Conflict, match="names version 1, not") as caught:
        registry.promote("higgs", 3, "production", expected=believed)
    assert caught.value.exit_code == 9
    with pytest.raises(Conflict, match="names no version"):
        registry.promote("higgs", 3, "staging", expected=1)
    assert registry.aliases("higgs") == {"production": 1} and len(registry.history("higgs")) == 1


def test_an_alias_that_moves_between_decision_and_lease(registry, monkeypatch):
    """The comparison that counts is the one under the lease."""
    registry.promote("higgs", 1, "production")
    from dkeras_core.registry import change

    original, others = change.Lease.__enter__, [2]

    def enter(lease):
        if others:
            registry.promote("higgs", others.pop(), "production")
        return original(lease)

    monkeypatch.setattr(change.Lease, "__enter__", enter)
    with pytest.raises(Conflict, match="promote of version 2 by"):
        registry.promote("higgs", 3, "production")
    assert registry.production("higgs").number == 2
    assert [event.entry.version for event in registry.history("higgs")] == [2, 1]
    assert left_behind(registry)[0] == []


def test_roll_back_goes_one_promotion_back_each_time(registry):
    for number in (1, 2, 3):
        registry.promote("higgs", number, "production")
    assert registry.rollback("higgs", "production", reason="too many false positives").version == 2
    assert registry.rollback("higgs", "production").version == 1
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback("higgs", "production")
    registry.promote("higgs", 3, "production")
    assert registry.rollback("higgs", "production").version == 1
    assert registry.rollback("higgs", "production", to=3).version == 3
    count = len(registry.history("higgs"))
    assert registry.rollback("higgs", "production", to=3).version == 3 and len(registry.history("higgs")) == count
    entry = registry.history("higgs")[0].entry
    assert (entry.action, entry.version, entry.before.version) == ("rollback", 3, 1)
    assert entry.digest == registry.digest("higgs", 3) == alias_file(registry)[2]
    with pytest.raises(RegistryError, match="never named version 7"):
        registry.rollback("higgs", "production", to=7)
    with pytest.raises(RegistryError, match="no earlier version"):
        registry.rollback("higgs", "staging")
    assert all(event.applied for event in registry.history("higgs"))


@pytest.mark.parametrize("change", ["promote", "rollback"])
def test_an_alias_that_was_moved_and_moved_back_is_not_the_one_that_was_seen(registry, change):
    for number in (1, 2):
        registry.promote("higgs", number, "production")
    seen = registry.pointer("higgs", "production")
    for number in (3, 2):
        registry.promote("higgs", number, "production")
    arguments = (3, "production") if change == "promote" else ("production",)
    with pytest.raises(Conflict, match="was moved meanwhile, and names version 2 again"):
        getattr(registry, change)("higgs", *arguments, expected=seen)
    assert registry.alias("higgs", "production") == 2 and len(registry.history("higgs")) == 4
    seen = registry.pointer("higgs", "production")
    assert getattr(registry, change)("higgs", *arguments, expected=seen).version == 3


@pytest.mark.parametrize("to", [None, 1])
def test_a_roll_back_does_not_vouch_for_a_version_that_was_exchanged(registry, to):
    """Its publisher can change it, manifest and all; an alias named it before, and says what it was."""
    for number in (1, 2):
        registry.promote("higgs", number, "production")
    version = registry.at("higgs", 1)
    forged = version.manifest().model_copy(update={"user": "mallory"}).to_bytes()
    unlock(registry.storage, version.path)
    for name, content in (("manifest.json", forged), ("manifest.sha256", seal(forged))):
        registry.storage.write_atomic(f"{version.path}/{name}", content)
    assert version.verify() == []
    with pytest.raises(RegistryError, match="higgs@1 was changed since it was promoted"):
        registry.rollback("higgs", "production", to=to)
    assert registry.alias("higgs", "production") == 2 and len(registry.history("higgs")) == 2


def test_what_does_not_exist_is_not_promoted(registry):
    with pytest.raises(RegistryError, match="no version 9"):
        registry.promote("higgs", 9, "production")
    with pytest.raises(RegistryError, match="not an alias"):
        registry.promote("higgs", 1, "7")
    unlock(registry.storage, registry.at("higgs", 3).path)
    registry.storage.delete(f"{registry.at('higgs', 3).path}/manifest.sha256")
    with pytest.raises(RegistryError, match="manifest"):
        registry.promote("higgs", 3, "production")
    assert registry.aliases("higgs") == {} and registry.history("higgs") == []


def test_an_alias_of_one_line_is_read_and_replaced(registry):
    path = registry.layout.alias("higgs", "production")
    registry.storage.write_bytes(path, b"2\n")
    assert registry.production("higgs").number == 2 and registry.pointer("higgs", "production").entry is None
    entry = registry.promote("higgs", 3, "production", expected=2)
    assert entry.before == audit.Before(version=2)
    with pytest.raises(RegistryError, match="version 2 before it was promoted by an older release"):
        registry.rollback("higgs", "production")
    registry.storage.write_atomic(path, b"x\n")
    with pytest.raises(RegistryError, match="instead of a version's number") as caught:
        registry.alias("higgs", "production")
    assert "Delete that file" in caught.value.next_step
    assert [(event.entry.id, event.applied) for event in registry.history("higgs")] == [(entry.id, False)]
    registry.storage.delete(path)
    registry.promote("higgs", 3, "production", expected=None)
    assert [event.applied for event in registry.history("higgs")] == [True, False]


def test_an_attempt_that_died_before_its_commit_point_is_told_as_such(registry, monkeypatch):
    registry.promote("higgs", 1, "production")
    storage, replace = registry.storage, type(registry.storage).replace

    def broken(self, source, target):
        raise StorageError("the power went off")

    monkeypatch.setattr(type(storage), "replace", broken)
    with pytest.raises(StorageError, match="power"):
        registry.promote("higgs", 2, "production")
    monkeypatch.setattr(type(storage), "replace", replace)
    registry.promote("higgs", 3, "production")
    assert [(event.entry.version, event.applied) for event in registry.history("higgs")] == [
        (3, True),
        (2, False),
        (1, True),
    ]
    assert [event.entry.version for event in registry.history("higgs", limit=2)] == [3, 2]
    assert registry.history("higgs", alias="staging") == []


def test_a_commit_whose_answer_was_lost_has_happened(registry, monkeypatch):
    storage, replace = registry.storage, type(registry.storage).replace

    def late(self, source, target):
        replace(self, source, target)
        raise StorageError("no answer")

    monkeypatch.setattr(type(storage), "replace", late)
    assert registry.promote("higgs", 2, "production").version == 2
    assert registry.production("higgs").number == 2 and left_behind(registry)[0] == []


def test_a_dead_holder_is_waited_for_and_fenced(registry, monkeypatch):
    """A process that falls asleep before its commit finds nothing to commit when it wakes."""
    registry.promote("higgs", 1, "production")
    storage, replace = registry.storage, type(registry.storage).replace
    with ThreadPoolExecutor(1) as other:
        awake = []

        def sleepy(self, source, target):
            if not awake:
                awake.append(True)
                other.submit(registry.promote, "higgs", 3, "production", duration=0.3).result()
            replace(self, source, target)

        monkeypatch.setattr(type(storage), "replace", sleepy)
        with pytest.raises(RegistryError, match="too slow and lost its turn; nothing was changed"):
            registry.promote("higgs", 2, "production", duration=0.3)
    assert registry.production("higgs").number == 3
    assert [(event.entry.version, event.applied) for event in registry.history("higgs")] == [
        (3, True),
        (2, False),
        (1, True),
    ]
    assert left_behind(registry)[0] == []


def test_a_live_holder_is_waited_for_and_named(registry):
    storage, leases = registry.storage, registry.layout.leases("higgs")
    holder = {"token": "other", "owner": "anna", "host": "edge1", "expires": "2999-01-01T00:00:00+00:00"}
    storage.write_bytes(f"{leases}/7", json.dumps(holder).encode())
    with pytest.raises(RegistryError, match="being changed by anna on edge1"):
        registry.promote("higgs", 1, "production", wait=0.2)
    # A clock that is wrong does not hold it for ever: nobody needs longer than twice the duration.
    registry.promote("higgs", 1, "production", duration=0.2)
    assert [status.name for status in storage.list(leases)] == ["8", "8.done"]


def test_what_is_no_lease_does_not_hold_one_up(registry):
    leases = registry.layout.leases("higgs")
    registry.storage.mkdirs(f"{leases}/9")
    for name in ("²", "007", "8.txt"):
        registry.storage.write_bytes(f"{leases}/{name}", b"")
    holder = {"token": "other", "owner": "anna", "host": "edge1", "expires": "2026-01-01T00:00:00"}  # without a zone
    registry.storage.write_bytes(f"{leases}/3", json.dumps(holder).encode())
    for number in (1, 2):
        registry.promote("higgs", number, "production", wait=1.0)
    there = {status.name for status in registry.storage.list(leases)}
    assert there == {"5", "5.done", "9", "²", "007", "8.txt"}
    assert not list(leftovers(registry, "higgs", timedelta(0)))


def test_a_lease_number_that_was_used_long_ago_is_not_taken(registry):
    """A contender that slept between listing and rename finds a free, but old, number."""
    from dkeras_core.registry.lease import Lease

    for number in (1, 2, 3):
        registry.promote("higgs", number, "production")
    token = audit.new_id()
    staged = registry.layout.staged("higgs", token)
    registry.storage.mkdirs(staged)
    lease = Lease(registry, "higgs", token)
    assert lease._take(2) is False
    with lease:
        assert left_behind(registry)[1] == ["4"]


def test_many_at_once_take_turns(registry):
    def attempt(worker):
        try:
            return registry.promote("higgs", 1 + worker % 3, "production").id
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as workers:
        done = {found for found in workers.map(attempt, range(16)) if found}
    events = registry.history("higgs")
    assert done == {event.entry.id for event in events if event.applied} and all(event.applied for event in events)
    assert events[0].entry.version == registry.production("higgs").number
    # each entry was decided on the one before it
    for newer, older in itertools.pairwise(events):
        assert newer.entry.before == audit.Before(version=older.entry.version, entry=older.entry.id)
    assert left_behind(registry)[0] == []


@pytest.mark.parametrize("alias", ["prod.json", "a.b-c_1", "x" * 64])
def test_an_alias_may_have_any_name_of_the_rule(registry, alias):
    for number in (1, 2, 3):
        registry.promote("higgs", number, alias)
    assert registry.rollback("higgs", alias).version == 2
    assert all(event.applied for event in registry.history("higgs", alias))


def test_a_clock_that_is_behind_does_not_turn_the_history_round(registry, monkeypatch):
    """Ids rise along the chain, so the newest entries are the last changes, and all of them are seen as applied."""
    for number in (1, 2):
        registry.promote("higgs", number, "production")

    class Behind(audit.datetime):
        @classmethod
        def now(cls, zone=None):
            return super().now(zone) - audit.timedelta(hours=1)

    monkeypatch.setattr(audit, "datetime", Behind)
    registry.promote("higgs", 3, "production")
    marks.tag(registry, "higgs", 3, {"a": "b"})
    registry.rollback("higgs", "production")
    found = [(event.entry.version, event.applied) for event in registry.history("higgs", "production")]
    assert found == [(2, True), (3, True), (2, True), (1, True)]
    found = [(event.entry.action, event.applied) for event in registry.history("higgs", limit=3)]
    assert found == [("rollback", True), ("promote", True), ("promote", True)]


def test_whether_a_change_took_effect_is_told_without_reading_the_whole_audit(registry, monkeypatch):
    """It is asked under the lease, when the file system has just failed."""
    for number in (1, 2) * 4:
        registry.promote("higgs", number, "production")
    storage, reads, read = registry.storage, [], audit.read

    def broken(self, source, target):
        raise StorageError("the power went off")

    monkeypatch.setattr(type(storage), "replace", broken)
    monkeypatch.setattr(audit, "read", lambda *args: reads.append(args) or read(*args))
    with pytest.raises(StorageError, match="power"):
        registry.promote("higgs", 3, "production")
    assert len(reads) == 1


def test_the_newest_changes_of_an_alias_are_told_without_reading_the_whole_audit(registry, monkeypatch):
    monkeypatch.setattr(audit, "_AT_ONCE", 3)
    for number in (1, 2, 3):
        registry.promote("higgs", number, "staging")
    for number in (1, 2, 3) * 3:
        registry.promote("higgs", number, "production")
    reads, read = [], audit.read
    monkeypatch.setattr(audit, "read", lambda *args: reads.append(args) or read(*args))

    def found(alias, limit):
        reads.clear()
        return [(event.entry.version, event.applied) for event in registry.history("higgs", alias, limit)]

    assert found("production", 2) == [(3, True), (2, True)] and len(reads) <= 6
    assert found("staging", 2) == [(3, True), (2, True)]
    assert found("staging", None) == [(3, True), (2, True), (1, True)]
    assert found("production", 100) == [(number, True) for number in (3, 2, 1) * 3]
    assert found("nothing", 1) == [] and found("production", 0) == []


def test_a_reason_that_is_no_text_does_not_fail_the_change(registry):
    """As an argument of a shell with another encoding arrives."""
    assert registry.promote("higgs", 1, "production", reason="gr\udcfcn").reason == "gr?n"
    marks.archive(registry, "higgs", 2, "gr\udcfcn")
    assert marks.read(registry, "higgs", 2).archived.reason == "gr?n"
    assert [event.entry.reason for event in registry.history("higgs")] == ["gr?n", "gr?n"]


def test_a_damaged_audit_is_named(registry):
    entry = registry.promote("higgs", 1, "production")
    path = f"{registry.layout.audit('higgs')}/{entry.id}.json"
    registry.storage.write_atomic(path, b"{}")
    with pytest.raises(RegistryError, match=entry.id):
        registry.history("higgs")
    registry.storage.write_atomic(path, json.dumps({**json.loads(entry.to_bytes()), "format": 2}).encode())
    with pytest.raises(RegistryError, match="format 2"):
        registry.history("higgs")
    registry.storage.delete(path)
    with pytest.raises(PathMissing):
        registry.promote("higgs", 1, "production")
