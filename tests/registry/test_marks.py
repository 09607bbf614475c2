"""Tags and the archive: what they allow, what they refuse, what the audit says of them."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from dkeras_core.errors import Conflict, RegistryError
from dkeras_core.registry import marks
from dkeras_core.registry.audit import current_user
from dkeras_core.registry.readonly import unlock


@pytest.fixture
def registry(place, folder):
    """Versions 1 to 3 of higgs, production is 3."""
    for number in (1, 2, 3):
        place.registry.publish("higgs", folder, run_id=f"run-{number}")
    place.registry.promote("higgs", 3, "production")
    return place.registry


def details(registry):
    events = [event for event in registry.history("higgs") if event.entry.alias is None]
    assert all(event.applied for event in events)
    return [(event.entry.action, event.entry.version, event.entry.detail) for event in events]


def test_tags_are_set_changed_and_removed(registry):
    assert marks.read(registry, "higgs", 1) == marks.Mark()
    first = marks.tag(registry, "higgs", 1, {"owner": "anna", "ticket": "ÄÖ-17"})
    assert marks.read(registry, "higgs", 1) == first and first.tags == {"owner": "anna", "ticket": "ÄÖ-17"}
    second = marks.tag(registry, "higgs", 1, {"owner": "otto", "ticket": None, "absent": None, "empty": ""})
    assert second.tags == {"owner": "otto", "empty": ""}
    assert marks.read(registry, "higgs", 2).tags == {}
    assert details(registry) == [
        ("tag", 1, {"set": {"owner": "otto", "empty": ""}, "removed": {"ticket": "ÄÖ-17"}}),
        ("tag", 1, {"set": {"owner": "anna", "ticket": "ÄÖ-17"}}),
    ]
    newest, oldest, _ = (event.entry for event in registry.history("higgs"))
    assert (newest.id, newest.before.entry, oldest.before.entry) == (second.entry, first.entry, None)
    assert newest.digest == registry.digest("higgs", 1)


def test_nothing_is_written_when_nothing_changes(registry):
    first = marks.tag(registry, "higgs", 1, {"a": "b"})
    assert marks.tag(registry, "higgs", 1, {"a": "b", "c": None}) == first
    assert marks.restore(registry, "higgs", 1) == first
    archived = marks.archive(registry, "higgs", 1, "old")
    assert marks.archive(registry, "higgs", 1, "another reason") == archived
    assert len(details(registry)) == 2


@pytest.mark.parametrize("key", ["", "Owner", "a b", "a/b", "a" * 65, "é", "_a"])
def test_keys_follow_the_rule_of_names(registry, key):
    with pytest.raises(RegistryError, match="is not the key of a tag"):
        marks.tag(registry, "higgs", 1, {key: "x"})


@pytest.mark.parametrize("value", ["a\nb", "\x1b[31m", "a\u202eb", "\ud800", "x" * 257])
def test_values_are_printable_and_short(registry, value):
    with pytest.raises(RegistryError, match="printable text of 256"):
        marks.tag(registry, "higgs", 1, {"fine": "x", "key": value})
    assert marks.read(registry, "higgs", 1).tags == {}
    assert len(marks.tag(registry, "higgs", 1, {"key": "é" * 256}).tags["key"]) == 256


def test_an_archived_version_cannot_be_promoted_until_it_is_restored(registry):
    marks.tag(registry, "higgs", 2, {"a": "b"})
    mark = marks.archive(registry, "higgs", 2, "wrong labels")
    assert (mark.archived.reason, mark.archived.user, mark.tags) == ("wrong labels", current_user(), {"a": "b"})
    with pytest.raises(RegistryError, match=r"higgs@2 is archived, by .* UTC: wrong labels"):
        registry.promote("higgs", 2, "production")
    assert registry.alias("higgs", "production") == 3
    mark = marks.restore(registry, "higgs", 2, "labels were right")
    assert mark.archived is None and mark.tags == {"a": "b"}
    registry.promote("higgs", 2, "production")
    newest = next(event.entry for event in registry.history("higgs") if event.entry.action == "restore")
    assert newest.reason == "labels were right"


def test_a_version_in_use_is_not_archived(registry):
    registry.promote("higgs", 3, "staging")
    with pytest.raises(RegistryError, match=r"higgs@3 is in use: production, staging name it"):
        marks.archive(registry, "higgs", 3, "old")
    assert marks.read(registry, "higgs", 3) == marks.Mark()
    with pytest.raises(RegistryError, match="for a reason"):
        marks.archive(registry, "higgs", 1, " ")
    marks.tag(registry, "higgs", 3, {"in": "use"})


def test_a_promotion_meanwhile_is_seen_under_the_lease(registry):
    """The alias is moved after archive has looked at the version, before it holds the lease."""

    class Racing(type(registry.storage)):
        def __init__(self):
            self.__dict__ = dict(registry.storage.__dict__)

        def mkdirs(self, path, mode=None):
            if "/.staged-" in path and registry.alias("higgs", "production") == 3:
                registry.promote("higgs", 1, "production")
            super().mkdirs(path, mode)

    with pytest.raises(RegistryError, match="higgs@1 is in use: production names it"):
        marks.archive(type(registry)(Racing(), registry.layout.root), "higgs", 1, "old")


def test_what_does_not_exist_or_was_deleted_is_refused(registry):
    with pytest.raises(RegistryError, match="no version 9"):
        marks.tag(registry, "higgs", 9, {"a": "b"})
    registry.storage.write_bytes(registry.layout.tombstone("higgs", 1), b'{"entry": "e"}')
    for refused in (
        lambda: marks.tag(registry, "higgs", 1, {"a": "b"}),
        lambda: marks.archive(registry, "higgs", 1, "old"),
        lambda: marks.refuse_unpromotable(registry, "higgs", 1),
        lambda: registry.promote("higgs", 1, "production"),
    ):
        with pytest.raises(RegistryError, match="higgs@1 was deleted"):
            refused()


def test_a_damaged_version_can_be_archived(registry):
    unlock(registry.storage, registry.version("higgs", 1).path)
    registry.storage.write_bytes(f"{registry.version('higgs', 1).path}/manifest.json", b"{", overwrite=True)
    assert marks.archive(registry, "higgs", 1, "damaged").archived.reason == "damaged"


def test_taggers_at_once_lose_nothing(registry):
    with ThreadPoolExecutor(4) as people:
        list(people.map(lambda i: marks.tag(registry, "higgs", 1, {f"key{i}": str(i)}, wait=120), range(4)))
    assert marks.read(registry, "higgs", 1).tags == {f"key{i}": str(i) for i in range(4)}
    assert sorted(change["set"].popitem()[0] for _, _, change in details(registry)) == [f"key{i}" for i in range(4)]


def test_who_always_loses_is_told(registry, monkeypatch):
    tried = []

    def commit(registry, entry, content, **options):
        tried.append(entry.id)
        raise Conflict("moved")

    monkeypatch.setattr(marks, "commit", commit)
    with pytest.raises(Conflict):
        marks.tag(registry, "higgs", 1, {"a": "b"})
    assert len(set(tried)) == 5


def test_a_mark_of_a_later_release(registry):
    path = registry.layout.mark("higgs", 1)
    registry.storage.write_bytes(path, b'{"format": 1, "entry": null, "tags": {"a": "b"}, "stars": 5}')
    assert marks.tag(registry, "higgs", 1, {"a": "c"}).tags == {"a": "c"}
    assert json.loads(registry.storage.read_bytes(path))["stars"] == 5
    for content, said in (
        (b'{"format": 2, "tags": []}', "is of format 2"),
        (b"[]", "marks/1.json"),
        (b'{"tags": 1}', "tags"),
    ):
        registry.storage.write_bytes(path, content, overwrite=True)
        with pytest.raises(RegistryError, match=said) as caught:
            marks.read(registry, "higgs", 1)
    with pytest.raises(RegistryError, match="tags"):
        registry.promote("higgs", 1, "production")  # nobody knows whether it is archived
    assert "Delete that file" in caught.value.next_step
    registry.storage.delete(path)
    assert registry.promote("higgs", 1, "production").version == 1
    assert marks.tag(registry, "higgs", 1, {"a": "b"}).tags == {"a": "b"}
