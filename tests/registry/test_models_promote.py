"""`dkeras models promote` and `rollback`: what the person sees is what is acted upon; the exit code tells scripts."""

import json

import pytest

from dkeras_core.registry import checks as checking
from dkeras_core.registry import marks, page, readonly
from dkeras_core.registry.checks import Check


@pytest.fixture
def gates(monkeypatch):
    """Decide the outcome of the checks, which tests of their own make in earnest: (comparison passes, meanwhile)."""
    decided = {"comparison": True, "meanwhile": lambda: None, "runs": 0}

    def run(registry, version, current, settings=None, progress=None):
        decided["runs"] += 1
        progress(f"reading {version}")
        decided["meanwhile"]()
        whole = Check("integrity", True, "3 files", {"digest": version.digest()})
        return [whole, Check("comparison", decided["comparison"], "roc_auc 0.91 against 0.92")]

    monkeypatch.setattr(checking, "run", run)
    return decided


def production(shell):
    return shell.registry.alias("higgs", "production")


def test_promote(shell, gates):
    code, out, err = shell("promote", "higgs@2", "production", "--reason", "better")
    assert (code, err) == (0, "") and production(shell) == 2
    assert out.splitlines() == [
        "✓ integrity   3 files",
        "✓ comparison  roc_auc 0.91 against 0.92",
        "higgs@production is 2 (was 1)",
    ]
    entry = shell.registry.history("higgs", "production")[0].entry
    assert (entry.reason, entry.forced, [check["name"] for check in entry.checks]) == (
        "better",
        False,
        ["integrity", "comparison"],
    )


def test_promote_an_alias_to_another(shell, gates):
    assert shell("promote", "higgs@production", "staging")[1].splitlines()[-1] == "higgs@staging is 1 (new)"


def test_promote_as_json(shell, gates):
    found = json.loads(shell("promote", "higgs@2", "production", "--json")[1])
    assert (found["alias"], found["version"], found["was"], found["changed"]) == ("production", 2, 1, True)
    assert found["passed"] and found["entry"]["action"] == "promote" and len(found["checks"]) == 2
    gates["comparison"] = False
    code, out, _ = shell("promote", "higgs@1", "production", "--json")
    found = json.loads(out)
    assert code == 10 and not found["changed"] and not found["passed"] and found["entry"] is None


def test_a_failed_check_changes_nothing_unless_it_is_forced(shell, gates):
    gates["comparison"] = False
    code, out, err = shell("promote", "higgs@2", "production")
    assert code == 10 and "✗ comparison" in out and "1 of 2 checks failed (comparison)" in err and "--force" in err
    assert production(shell) == 1
    code, out, _ = shell("promote", "higgs@2", "production", "--force", "I looked at it")
    assert code == 0 and out.splitlines()[-1] == "higgs@production is 2 (was 1, forced)"
    entry = shell.registry.history("higgs", "production")[0].entry
    assert entry.forced and entry.reason == "I looked at it"
    assert shell("promote", "higgs@1", "production", "--force", " ")[0] == 2


@pytest.mark.parametrize("passes", [True, False])
def test_a_dry_run_makes_the_checks_and_changes_nothing(shell, gates, passes):
    gates["comparison"] = passes
    code, out, _ = shell("promote", "higgs@2", "production", "--dry-run")
    assert code == (0 if passes else 10) and "comparison" in out and production(shell) == 1


def test_what_an_alias_names_already_is_not_promoted_again(shell, gates):
    code, out, _ = shell("promote", "higgs@1", "production")
    assert code == 0 and out == "higgs@production is 1 already; nothing was changed\n" and not gates["runs"]
    assert len(shell.registry.history("higgs")) == 1


@pytest.mark.parametrize("command", [["promote", "higgs@2", "production"], ["rollback", "higgs@production"]])
def test_another_version_than_expected_is_a_conflict_before_anything_is_done(shell, gates, command):
    shell.registry.promote("higgs", 2, "staging")
    code, out, err = shell(*command, "--expect", "7")
    assert code == 9 and out == "" and "higgs@production is 1, not 7: promote by" in err and not gates["runs"]
    assert production(shell) == 1
    assert shell(*command, "--expect", "none")[0] == 9
    assert shell(*command, "--expect", "seven")[0] == 2


@pytest.mark.parametrize("command", [["promote", "higgs@2", "production"], ["rollback", "higgs@production"]])
def test_who_decided_on_an_entry_of_the_audit_is_told_of_away_and_back(shell, gates, folder, command):
    for number in (3, 4):
        shell.registry.publish("higgs", folder, run_id=f"run-{number}")
        shell.registry.promote("higgs", number, "production")
    seen = shell.registry.pointer("higgs", "production").entry
    shell.registry.promote("higgs", 2, "production")
    shell.registry.rollback("higgs", "production")
    code, _, err = shell(*command, "--expect", seen)
    assert code == 9 and f"is 4, not what {seen} made it: rollback by" in err and not gates["runs"]
    assert shell(*command, "--expect", "4")[0] == 0, "the number alone says nothing of that"
    there = shell.registry.pointer("higgs", "production").entry
    assert shell("rollback", "higgs@production", "--expect", there)[0] == 0
    assert shell(*command, "--expect", f"{seen[:-8]}00000000")[0] == 9, "no such entry"


def test_a_dry_run_says_what_it_was_decided_on_and_its_verdict_spares_the_checks(shell, gates, monkeypatch, tmp_path):
    monkeypatch.setattr(checking, "NAMES", ("integrity", "comparison"))
    looked = ["promote", "higgs@2", "production", "--dry-run", "--json"]
    assert json.loads(shell(*looked[:2], "staging", *looked[3:])[1])["expect"] == "none"
    found = json.loads(shell(*looked)[1])
    assert found["expect"] == shell.registry.pointer("higgs", "production").entry
    file = tmp_path / "looked.json"
    file.write_text(json.dumps(found))
    assert gates["runs"] == 2
    code, out, _ = shell("promote", "higgs@2", "production", "--verdict", str(file), "--expect", found["expect"])
    assert code == 0 and gates["runs"] == 2 and "against 0.92 (checked " in " ".join(out.split()), out
    file.write_text("{}")
    assert shell("promote", "higgs@1", "production", "--verdict", str(file))[0] == 2


def test_a_retry_of_the_same_line_is_a_success(shell, gates):
    """Whoever runs it was killed after the change, and begins again with what was believed at first."""
    again = ["promote", "higgs@2", "production", "--expect", "1"]
    assert shell(*again)[0] == 0
    assert shell(*again)[:2] == (0, "higgs@production is 2 already; nothing was changed\n") and gates["runs"] == 1
    back = ["rollback", "higgs@production", "--to", "1", "--expect", "2"]
    assert shell(*back)[0] == 0
    assert shell(*back)[:2] == (0, "higgs@production is 1 already; nothing was changed\n")
    assert not json.loads(shell(*back, "--json")[1])["changed"] and len(shell.registry.history("higgs")) == 3
    assert shell(*again[:-1], "one")[0] == shell(*back[:-1], "two")[0] == 2


@pytest.mark.parametrize("command", [["promote", "higgs@2", "production"], ["rollback", "higgs@production"]])
def test_away_and_back_while_the_question_stands_is_a_conflict(shell, gates, folder, command):
    for number in (3, 4):
        shell.registry.publish("higgs", folder, run_id=f"run-{number}")
        shell.registry.promote("higgs", number, "production")

    def think():
        shell.registry.promote("higgs", 2, "production", reason="quickly")
        shell.registry.rollback("higgs", "production", reason="2 is no good")
        return "y\n"

    code, _, err = shell(*command, width=80, answer=think)
    assert code == 9 and "moved meanwhile" in err and production(shell) == 4 and not gates["runs"]


def test_a_promotion_by_somebody_else_while_the_checks_run_is_a_conflict(shell, gates, folder):
    third = shell.registry.publish("higgs", folder, run_id="run-3").number
    gates["meanwhile"] = lambda: shell.registry.promote("higgs", third, "production")
    code, _, err = shell("promote", "higgs@2", "production")
    assert code == 9 and "names version 3, not" in err and production(shell) == 3


@pytest.mark.parametrize("command", [["promote", "higgs@2", "production"], ["rollback", "higgs@production"]])
def test_a_promotion_by_somebody_else_while_the_question_stands_is_a_conflict(shell, gates, folder, command):
    for number in (2, 3, 4):
        shell.registry.publish("higgs", folder, run_id=f"run-{number}")
    shell.registry.promote("higgs", 3, "production")

    def think():
        shell.registry.promote("higgs", 4, "production")
        return "y\n"

    code, _, err = shell(*command, width=80, answer=think)
    assert code == 9 and "names version 4, not" in err and production(shell) == 4 and not gates["runs"]


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("yes\n", 0), ("n\n", 130), ("\n", 130), ("", 130)])
def test_a_person_is_asked_and_only_yes_is_yes(shell, gates, answer, code):
    found, _, err = shell("promote", "higgs@2", "production", width=80, answer=answer)
    assert found == code and "production of higgs: 1 → 2" in err
    assert production(shell) == (2 if code == 0 else 1) and (code == 0 or "nothing was changed" in err)


def test_nobody_is_asked_with_yes_or_without_a_terminal(shell, gates):
    assert "y/N" not in shell("promote", "higgs@2", "production", "--yes", width=80, answer="n\n")[2]
    assert "y/N" not in shell("promote", "higgs@1", "production", width=80)[2]  # standard input is a pipe
    assert "y/N" not in shell("promote", "higgs@2", "production", answer="n\n")[2]
    assert "y/N" not in shell("rollback", "higgs@production", answer="n\n")[2]
    assert production(shell) == 1


def test_an_interruption_says_what_the_alias_names(shell, gates):
    def interrupt():
        raise KeyboardInterrupt

    gates["meanwhile"] = interrupt
    code, _, err = shell("promote", "higgs@2", "production")
    assert code == 130 and "interrupted; higgs@production names 1" in err


def test_an_interruption_while_the_page_is_written_comes_too_late(shell, gates, monkeypatch):
    def interrupt(registry):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "refresh", interrupt)
    code, out, _ = shell("promote", "higgs@2", "production")
    assert code == 0 and out.endswith("higgs@production is 2 (was 1)\n")


def test_a_version_that_nobody_named_is_not_promoted(shell, gates):
    code, _, err = shell("promote", "higgs", "production")
    assert code == 2 and "the newest is higgs@2" in err and production(shell) == 1
    marks.archive(shell.registry, "higgs", 2, "mislabelled")
    code, _, err = shell("promote", "higgs@2", "production")
    assert code == 7 and "mislabelled" in err and not gates["runs"]
    assert shell("promote", "higgs@1", "7")[0] == 7


def test_rollback(shell, gates):
    assert shell("promote", "higgs@2", "production")[0] == 0
    code, out, err = shell("rollback", "higgs@production", "--reason", "drift", width=80, answer="y\n")
    assert (
        code == 0 and out == "higgs@production is 1 (was 2)\n" and "production of higgs: 2 → 1\n  roc_auc 0.9123" in err
    )
    entry = shell.registry.history("higgs", "production")[0].entry
    assert (entry.action, entry.reason, production(shell)) == ("rollback", "drift", 1)
    found = json.loads(shell("rollback", "higgs@production", "--to", "2", "--json")[1])
    assert (found["version"], found["was"], found["changed"]) == (2, 1, True) and production(shell) == 2
    assert shell("rollback", "higgs@production", "--to", "9")[0] == 7


def test_rolling_back_twice_goes_two_promotions_back(shell, gates, folder):
    shell.registry.publish("higgs", folder, run_id="run-3")
    for number in ("2", "3"):
        shell("promote", f"higgs@{number}", "production")
    for expected in (2, 1):
        assert shell("rollback", "higgs@production")[0] == 0 and production(shell) == expected
    code, _, err = shell("rollback", "higgs@production")
    assert code == 7 and "nothing to go back to" in err


def test_rolling_back_goes_through_the_promotions_and_not_back_and_forth_between_their_versions(shell, gates):
    for number in ("2", "1"):
        shell("promote", f"higgs@{number}", "production")  # it has named 1, 2 and 1
    for expected in (2, 1):
        assert shell("rollback", "higgs@production")[0] == 0 and production(shell) == expected
    assert shell("rollback", "higgs@production")[0] == 7 and production(shell) == 1


def test_a_damaged_version_is_not_rolled_back_to(shell, gates):
    shell("promote", "higgs@2", "production")
    readonly.unlock(shell.registry.storage, shell.registry.at("higgs", 1).path)
    damaged = shell.root / "models/higgs/versions/1/empty"
    damaged.chmod(0o644)
    damaged.write_bytes(b"x")
    code, _, err = shell("rollback", "higgs@production")
    assert code == 7 and "empty: has 1 bytes" in err and "is still 2" in err and production(shell) == 2


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("higgs", 2, "names no alias"),
        ("higgs@2", 2, "names no alias"),
        ("higgs@staging", 7, "Its aliases: production"),
        ("nothing@production", 7, "Models there: higgs"),
    ],
)
def test_what_cannot_be_rolled_back(shell, model, code, said):
    found, _, err = shell("rollback", model)
    assert found == code and said in err
