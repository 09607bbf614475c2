"""Checks that were shown to an approver are taken over by the promotion, and made again when anything has changed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dkeras_core.errors import ConfigError, GateFailed, RegistryError
from dkeras_core.registry import checks
from dkeras_core.registry.pointer import Pointer
from dkeras_core.registry.promotion import PromotionSettings, promote_checked, run_checks
from dkeras_core.registry.verdict import Verdict

BAD = 3.0  # noise that costs some 0.05 of AUC


@pytest.fixture
def seen(toy, monkeypatch):
    """Version 1 is production, version 2 was checked; from here on ``runs`` tells how often all checks are made."""
    promote_checked(toy.registry, toy.publish(), "production")
    toy.version = toy.publish()
    toy.verdict = run_checks(toy.registry, toy.version, "production")
    toy.runs, run = [], checks.run
    monkeypatch.setattr(checks, "run", lambda *arguments: toy.runs.append(1) or run(*arguments))
    return toy


def test_what_nothing_has_changed_since_is_taken_over_and_the_audit_says_so(seen):
    said = []
    entry, found = promote_checked(
        seen.registry, seen.version, "production", verdict=seen.verdict, progress=said.append
    )
    assert seen.runs == [] and said == [f"reading and hashing {seen.version}"]
    assert [check.name for check in found] == list(checks.NAMES) and all(check.passed for check in found)
    kept = seen.registry.history("toy")[0].entry
    assert kept == entry and entry.version == 2 and not entry.forced
    integrity, *others = kept.checks
    assert "checked" not in integrity["detail"] and "checked" not in integrity["message"]
    for check, before in zip(others, seen.verdict.checks[1:], strict=True):
        assert check["message"].startswith(before.message) and f"UTC by {seen.verdict.user})" in check["message"]
        assert check["detail"]["checked"]["time"] == seen.verdict.time.isoformat()


def test_it_travels_as_json(seen, tmp_path):
    file = tmp_path / "looked.json"
    file.write_text(json.dumps({"verdict": seen.verdict.to_json()}))
    assert Verdict.read(file) == seen.verdict
    for text in ("", "[]", "{}", '{"verdict": {"model": "toy"}}'):
        file.write_text(text)
        with pytest.raises(ConfigError, match="holds no verdict"):
            Verdict.read(file)
    with pytest.raises(ConfigError, match="--dry-run --json"):
        Verdict.read(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "other"}, "is of other@2"),
        ({"alias": "staging"}, "as staging"),
        ({"version": 1}, "is of toy@1"),
        ({"digest": "0" * 64}, "was changed since"),
        ({"entry": None}, "was moved since"),
        ({"code": "another"}, "dkeras was changed since"),
        ({"time": datetime.now(UTC) - timedelta(hours=2)}, "2.0 hours old"),
        ({"time": datetime.now(UTC) + timedelta(hours=1)}, "-1.0 hours old"),
        ({"checks": []}, "a check failed"),
    ],
)
def test_what_is_another_promotions_or_too_old_is_checked_again(seen, change, said):
    told = []
    other = replace(seen.verdict, **change)
    promote_checked(seen.registry, seen.version, "production", verdict=other, progress=told.append)
    assert seen.runs == [1] and any(said in line for line in told), told


def test_an_alias_that_was_moved_and_moved_back_is_checked_against_again(seen):
    """The verdict's number fits, its entry does not: who moved it back may have had a reason."""
    seen.registry.promote("toy", 2, "production")
    seen.registry.rollback("toy", "production")
    promote_checked(seen.registry, seen.version, "production", verdict=seen.verdict)
    assert seen.runs == [1]


def test_a_failed_check_an_incomplete_verdict_and_an_operators_own_settings_are(seen):
    failed = [*seen.verdict.checks[:-1], replace(seen.verdict.checks[-1], passed=False)]
    for checks_, settings in (
        (failed, None),
        (seen.verdict.checks[:-1], None),
        (seen.verdict.checks, PromotionSettings()),
    ):
        given = replace(seen.verdict, checks=checks_)
        promote_checked(seen.registry, seen.version, "production", verdict=given, settings=settings)
        seen.registry.rollback("toy", "production")
        seen.verdict = run_checks(seen.registry, seen.version, "production")
    assert len(seen.runs) == 6  # three promotions, three looks


def test_an_alias_of_an_older_release_has_no_entry_that_could_be_compared(seen):
    assert "older release" in seen.verdict.stale(seen.version, "production", Pointer(1))


def test_a_file_that_was_damaged_since_is_found(seen):
    file = seen.folder / "root/models/toy/versions/2/model.keras"
    file.chmod(0o644)
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(RegistryError, match="is damaged"):
        promote_checked(seen.registry, seen.version, "production", verdict=seen.verdict)
    assert seen.registry.alias("toy", "production") == 1


def test_a_verdict_makes_a_bad_version_no_better(seen):
    worse = seen.publish(BAD)
    found = run_checks(seen.registry, worse, "production")
    with pytest.raises(GateFailed):
        promote_checked(seen.registry, worse, "production", verdict=found)
    assert seen.runs == [1, 1]
