"""Promotion through the gates: who gets in, who is refused, and what the audit keeps of it."""

from __future__ import annotations

import pickle

import pytest

from dkeras_core.errors import Conflict, GateFailed, RegistryError
from dkeras_core.registry import checks, judgement, marks, permissions
from dkeras_core.registry.promotion import PromotionSettings, promote_checked, run_checks

BAD = 3.0


def test_a_version_that_passes_is_promoted_with_its_checks_in_the_audit(toy):
    version, said = toy.publish(), []
    entry, found = promote_checked(toy.registry, version, "production", reason="first", progress=said.append)
    assert toy.registry.alias("toy", "production") == 1
    assert not entry.forced and entry.reason == "first" and all(check.passed for check in found)
    (event,) = toy.registry.history("toy")
    assert event.applied and event.entry == entry
    assert [check["name"] for check in event.entry.checks] == list(checks.NAMES)
    assert event.entry.digest == found[0].detail["digest"]
    assert any("hashing toy@1" in line for line in said) and any("sample" in line for line in said)


def test_a_worse_version_is_refused_and_nothing_changes(toy):
    promote_checked(toy.registry, toy.publish(), "production")
    worse = toy.publish(BAD)
    with pytest.raises(GateFailed) as caught:
        promote_checked(toy.registry, worse, "production")
    assert caught.value.exit_code == 10
    assert "2 of 6 checks failed" in str(caught.value) and "\n  comparison: roc_auc" in str(caught.value)
    assert [check.name for check in caught.value.checks if not check.passed] == ["comparison", "significance"]
    assert pickle.loads(pickle.dumps(caught.value)).checks == caught.value.checks
    assert toy.registry.alias("toy", "production") == 1 and len(toy.registry.history("toy")) == 1
    # for another alias, that names nothing yet, it is good enough
    promote_checked(toy.registry, worse, "candidate")
    assert toy.registry.aliases("toy") == {"production": 1, "candidate": 2}


def test_force_needs_a_reason_which_the_audit_keeps(toy):
    promote_checked(toy.registry, toy.publish(), "production")
    worse = toy.publish(BAD)
    with pytest.raises(RegistryError, match="reason"):
        promote_checked(toy.registry, worse, "production", force_reason="  ")
    entry, found = promote_checked(toy.registry, worse, "production", force_reason="the sensor was replaced")
    assert entry.forced and entry.reason == "the sensor was replaced" and toy.registry.alias("toy", "production") == 2
    kept = toy.registry.history("toy")[0].entry
    assert kept.forced and [check["passed"] for check in kept.checks] == [check.passed for check in found]
    better = toy.publish()
    entry, _ = promote_checked(toy.registry, better, "production", force_reason="to be sure")
    assert not entry.forced and entry.reason == "to be sure"  # there was nothing to overrule


def test_a_damaged_version_is_refused_even_by_force(toy):
    version = toy.publish()
    path = toy.folder / "root/models/toy/versions/1/model.keras"
    path.chmod(0o644)
    path.write_text("[]")
    with pytest.raises(RegistryError, match=r"damaged: model\.keras") as caught:
        promote_checked(toy.registry, version, "production", force_reason="we need it now")
    assert caught.value.exit_code == 7 and toy.registry.alias("toy", "production") is None


def test_an_archived_version_is_refused_before_anything_is_read(toy, monkeypatch):
    version = toy.publish()
    marks.archive(toy.registry, "toy", 1, "leaks the label")
    monkeypatch.setattr(checks, "run", lambda *args: pytest.fail("checked"))
    with pytest.raises(RegistryError, match="leaks the label"):
        promote_checked(toy.registry, version, "production", force_reason="hurry")


def test_who_may_not_promote_learns_it_before_the_checks(toy, monkeypatch):
    def refuse(registry, name):
        raise RegistryError(f"you may not promote {name}")

    version = toy.publish()
    monkeypatch.setattr(permissions, "require_promotion", refuse)
    monkeypatch.setattr(checks, "run", lambda *args: pytest.fail("checked"))
    with pytest.raises(RegistryError, match="may not promote toy"):
        promote_checked(toy.registry, version, "production")


@pytest.mark.parametrize("expected", [None, 2, 7])
def test_another_version_than_expected_is_a_conflict_before_the_checks(toy, monkeypatch, expected):
    promote_checked(toy.registry, toy.publish(), "production")
    version = toy.publish()
    monkeypatch.setattr(checks, "run", lambda *args: pytest.fail("checked"))
    with pytest.raises(Conflict, match="names version 1, not"):
        promote_checked(toy.registry, version, "production", expected=expected)
    assert toy.registry.alias("toy", "production") == 1


def test_an_alias_that_moves_while_the_checks_run_is_a_conflict(toy, monkeypatch):
    """What was compared with is no longer what would be replaced."""
    promote_checked(toy.registry, toy.publish(), "production")
    version, other = toy.publish(), toy.publish()
    compare = judgement.compare

    def meanwhile(*args):
        toy.registry.promote("toy", other.number, "production")
        return compare(*args)

    monkeypatch.setattr(judgement, "compare", meanwhile)
    for force in (None, "now"):
        with pytest.raises(Conflict):
            promote_checked(toy.registry, version, "production", force_reason=force)
        assert toy.registry.alias("toy", "production") == 3
        toy.registry.promote("toy", 1, "production")


@pytest.mark.parametrize("force", [None, "now"])
def test_an_alias_that_was_moved_and_rolled_back_while_the_checks_ran_is_a_conflict(toy, monkeypatch, force):
    """Somebody else promoted the same version, saw that it is no good, and took it back: it must not return."""
    promote_checked(toy.registry, toy.publish(), "production")
    version, run = toy.publish(), checks.run

    def meanwhile(*args):
        toy.registry.promote("toy", version.number, "production")
        toy.registry.rollback("toy", "production", reason="it scores nonsense")
        return run(*args)

    monkeypatch.setattr(checks, "run", meanwhile)
    with pytest.raises(Conflict, match="was moved meanwhile, and names version 1 again"):
        promote_checked(toy.registry, version, "production", force_reason=force)
    assert toy.registry.alias("toy", "production") == 1
    assert [event.entry.action for event in toy.registry.history("toy")] == ["rollback", "promote", "promote"]


def test_a_version_that_changes_while_it_is_checked_is_refused(toy, monkeypatch):
    version, run = toy.publish(), checks.run

    def tampered(*args):
        found = run(*args)
        for name in ("manifest.json", "manifest.sha256"):
            (toy.folder / "root/models/toy/versions/1" / name).chmod(0o644)
        manifest = version.manifest().model_copy(update={"user": "mallory"}).to_bytes()
        (toy.folder / "root/models/toy/versions/1/manifest.json").write_bytes(manifest)
        from dkeras_core.registry.manifest import seal

        (toy.folder / "root/models/toy/versions/1/manifest.sha256").write_bytes(seal(manifest))
        return found

    monkeypatch.setattr(checks, "run", tampered)
    with pytest.raises(RegistryError, match="changed while it was checked"):
        promote_checked(toy.registry, version, "production")
    assert toy.registry.alias("toy", "production") is None


def test_promoting_what_is_there_already_changes_nothing(toy):
    version = toy.publish()
    entry, _ = promote_checked(toy.registry, version, "production")
    for expected in (1, None, 7):  # None is what the first attempt expected, which a retry repeats
        again, found = promote_checked(toy.registry, version, "production", expected=expected)
        assert again == entry and found == [] and len(toy.registry.history("toy")) == 1


def test_checks_alone_change_nothing(toy):
    promote_checked(toy.registry, toy.publish(), "production")
    worse = toy.publish(BAD)
    found = run_checks(toy.registry, worse, "production", settings=PromotionSettings(max_drop=1.0)).checks
    assert [check.name for check in found if not check.passed] == ["significance"]
    assert toy.registry.aliases("toy") == {"production": 1} and len(toy.registry.history("toy")) == 1
