"""`dkeras models` list, show, compare and history as a shell sees them."""

import io
import json
import secrets
import sys

import pytest

from dkeras_core.cli import app, console
from dkeras_core.cli.app import run
from dkeras_core.cli.models import comparing
from dkeras_core.registry import Registry, marks
from dkeras_core.registry.audit import Entry


def test_list_of_models(shell):
    code, out, err = shell("list")
    assert code == 0 and err == ""
    assert [line.split() for line in out.splitlines()] == [
        ["model", "versions", "newest", "aliases"],
        ["higgs", "2", "2", "production", "→", "1"],
    ]
    assert json.loads(shell("list", "--json")[1]) == [
        {"model": "higgs", "versions": 2, "newest": 2, "aliases": {"production": 1}, "damaged": {}}
    ]


def test_list_of_versions(shell):
    marks.tag(shell.registry, "higgs", 2, {"owner": "anna"})
    marks.archive(shell.registry, "higgs", 2, "mislabelled")
    first, second = shell("list", "higgs")[1].splitlines()[1:]
    assert first.split()[:2] == ["2", "archived"] and first.endswith("owner=anna")
    assert second.split()[:2] == ["1", "production"] and "0.9123" in second
    rows = json.loads(shell("list", "higgs", "--json")[1])
    assert [(row["version"], row["run"]) for row in rows] == [(2, "run-2"), (1, "run-1")]
    assert rows[1]["metrics"]["roc_auc"] == 0.912345 and rows[1]["aliases"] == ["production"]
    assert rows[0]["archived"]["reason"] == "mislabelled" and rows[0]["tags"] == {"owner": "anna"}


def test_list_of_an_empty_registry(shell, tmp_path, capsys):
    assert run(["models", "list", "--root", f"file://{tmp_path / 'nowhere'}"]) == 0
    assert capsys.readouterr().out == f"no model below {tmp_path}/nowhere/models\n"


def test_an_unreadable_alias_hides_nothing_else(shell):
    (shell.root / "models/higgs/aliases/staging").write_text("seven\n")
    code, out, err = shell("list")
    assert code == 0 and "production → 1, staging → unreadable" in out and "aliases/staging: holds" in err
    for command in ("list", "history"):
        code, out, err = shell(command, "higgs")
        assert code == 0 and "production" in out and "aliases/staging: holds" in err


def test_a_damaged_version_is_listed_as_such(shell):
    (shell.root / "models/higgs/versions/2/manifest.json").chmod(0o644)
    (shell.root / "models/higgs/versions/2/manifest.json").write_bytes(b"{")
    (shell.root / "models/higgs/catalog/summary.json").unlink()  # it need not be read again for a listing
    code, out, err = shell("list", "higgs")
    assert code == 0 and out.splitlines()[1].split()[:2] == ["2", "damaged"] and "higgs@2 is damaged" in err
    assert shell("show", "higgs@2")[0] == 7


def test_a_narrow_terminal_loses_the_least_columns_and_says_which(shell, folder):
    run_id = "higgs-20261122T201727-0ec9-a-run-of-a-long-name"
    shell.registry.publish("higgs", folder, run_id=run_id, metrics={"roc_auc": 0.9, "log_loss": 0.3, "ams": 3.0})
    wide, narrow, pipe = (shell("list", "higgs", width=width)[1] for width in (160, 80, None))
    assert run_id in wide and run_id in pipe and "too narrow" not in wide + pipe
    assert run_id not in narrow and "too narrow for: run" in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert max(map(len, pipe.splitlines())) > 80 and all(line == line.rstrip() for line in pipe.splitlines())


def test_a_terminal_shows_the_newest_versions_and_those_with_an_alias(shell, folder):
    for number in range(3, 26):
        shell.registry.publish("higgs", folder, run_id=f"run-{number}")
    numbers = [line.split()[0] for line in shell("list", "higgs", width=80)[1].splitlines()[1:]]
    assert numbers[:20] == [str(number) for number in range(25, 5, -1)] and numbers[20] == "1"
    assert "4 older versions not shown: --all" in shell("list", "higgs", width=80)[1]
    assert len(shell("list", "higgs", "--all", width=80)[1].splitlines()) == 26
    assert len(shell("list", "higgs")[1].splitlines()) == 26


def test_show(shell):
    code, out, _ = shell("show", "higgs@production")
    assert code == 0 and out.startswith("higgs@1  production\n")
    assert "p.yaml" in out and "0.9123  0.9000 – 0.9200" in out and "variables/data" in out
    shown = json.loads(shell("show", "higgs", "--json")[1])
    assert (shown["version"], shown["run"]) == (2, "run-2") and shown["files"]["empty"]["size"] == 0
    assert shown["aliases"] == [] and shown["digest"] == shell.registry.digest("higgs", 2)


def test_compare(shell, folder):
    (folder / "empty").write_bytes(b"x")
    metrics = {"roc_auc": 0.9, "log_loss": 0.3, "rows": 999, "threshold": 0.5}
    shell.registry.publish("higgs", folder, run_id="run-3", lineage={"data_fingerprint": "f"}, metrics=metrics)
    code, out, err = shell("compare", "higgs@3")
    (line,) = [line for line in out.splitlines() if line.startswith("roc_auc")]
    assert code == 0 and line.split() == ["roc_auc", "0.9000", "0.9123", "0.9000", "–", "0.9200", "−0.0123", "worse"]
    assert "rows" in out and "threshold" not in out and "log_loss" not in out and "different data" in err
    found = json.loads(shell("compare", "higgs@3", "higgs@1", "--json")[1])
    assert found["metrics"]["roc_auc"]["better"] is False and found["metrics"]["rows"]["better"] is None
    assert not found["same_data"] and found["lineage"]["pipeline"] == [None, "p.yaml"]
    assert found["files"] == {"changed": ["empty"], "only_higgs@3": [], "only_higgs@1": []}


def test_a_narrow_comparison_shows_the_intervals_of_both_or_of_none(shell, folder):
    metrics = {"roc_auc": 0.9, "intervals": {"roc_auc": [0.89, 0.91]}}
    shell.registry.publish("higgs", folder, run_id="run-3", metrics=metrics)
    found = [shell("compare", "higgs@3", width=width)[1].count("0.9000 – 0.9200") for width in (120, 80, 60)]
    assert found == [1, 0, 0] and "0.8900 – 0.9100" not in shell("compare", "higgs@3", width=80)[1]


@pytest.mark.parametrize(
    ("intervals", "apart"),
    [([(1, 3), (2, 4)], False), ([(1, 2), (3, 4)], True), ([(3, 4), (1, 2)], True), ([None, (1, 2)], False)],
)
def test_what_may_be_chance_has_no_colour(intervals, apart):
    assert comparing._apart(intervals) is apart


@pytest.mark.parametrize(("mine", "better"), [(0.29, True), (0.31, False), (0.3, None)])
def test_of_a_loss_less_is_better(shell, folder, mine, better):
    for run_id, loss in (("a", 0.3), ("b", mine)):
        shell.registry.publish("muons", folder, run_id=run_id, metrics={"log_loss": loss})
    found = json.loads(shell("compare", "muons@2", "@1", "--json")[1])
    assert found["metrics"]["log_loss"]["better"] is better


def test_history(shell):
    registry = shell.registry
    registry.promote("higgs", 2, "production", forced=True, reason="I looked", checks=[{"name": "x", "passed": False}])
    marks.tag(registry, "higgs", 2, {"owner": "anna"})
    registry.rollback("higgs", "production", reason="drift")
    attempt = Entry(action="promote", name="higgs", alias="production", version=2)
    registry.storage.write_bytes(f"{registry.layout.audit('higgs')}/{attempt.id}.json", attempt.to_bytes())
    code, out, _ = shell("history", "higgs")
    lines = out.splitlines()[1:]
    assert code == 0 and len(lines) == 5
    assert lines[0].endswith("not applied")
    assert "production 2 → 1" in lines[1] and lines[1].endswith("drift")
    assert lines[2].endswith("owner=anna") and lines[3].endswith("forced past x; I looked")
    assert "production none → 1" in lines[4] and lines[4].endswith("first")
    assert len(shell("history", "higgs@production")[1].splitlines()) == 5  # the tag is not the alias's
    assert len(shell("history", "higgs@2")[1].splitlines()) == 5  # the first promotion is not of 2
    events = json.loads(shell("history", "higgs", "--json")[1])
    assert [event["applied"] for event in events] == [False, True, True, True, True]
    assert shell("history", "higgs@staging")[1] == "nothing happened to higgs@staging yet\n"


def test_a_terminal_obeys_no_text_of_other_people(shell):
    shell.registry.promote("higgs", 2, "production", reason="[red]x[/red]\x1b[2J\nsecond line")
    for width in (None, 120):
        out = shell("history", "higgs", width=width)[1]
        assert "\x1b" not in out and "[red]x[/red]" in out and "second line" in out


def test_a_terminal_that_knows_no_arrow_gets_a_question_mark(shell, monkeypatch):
    written = io.BytesIO()
    console.stdout.cache_clear()
    with monkeypatch.context() as patched, pytest.raises(SystemExit) as end:
        patched.setattr(sys, "stdout", io.TextIOWrapper(written, "latin-1", write_through=True))
        patched.setattr(sys, "argv", ["dkeras", "models", "list", "--root", f"file://{shell.root}"])
        app.main()
    console.stdout.cache_clear()
    assert not end.value.code and b"production ? 1" in written.getvalue()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nothing"], 7, "Models there: higgs"),
        (["list", "higs"], 7, "Did you mean higgs?"),
        (["history", "nothing"], 7, "Models there: higgs"),
        (["show", "higgs@9"], 7, "no version 9"),
        (["verify", "higgs@staging"], 7, "Its aliases: production"),
        (["show", "Higgs@1"], 7, "'Higgs' is not a model name"),
        (["list", "../runs"], 7, "is not a model name"),
        (["compare", "higgs@1", "@staging"], 7, "Its aliases: production"),
        (["tag", "higgs", "a=b"], 2, "Write higgs@NUMBER"),
    ],
)
def test_mistakes_are_explained(shell, arguments, code, said):
    found, out, err = shell(*arguments)
    assert found == code and out == "" and said in " ".join(err.split())


@pytest.mark.cluster
def test_on_the_cluster_that_the_environment_names(hadoop, webhdfs, folder, monkeypatch, capsys):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
    monkeypatch.setenv("DKERAS_ROOT", root := f"/tmp/registry-{secrets.token_hex(4)}")
    try:
        Registry(webhdfs, root).publish("higgs", folder, run_id="run-1")
        assert run(["models", "list", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["newest"] == 1
    finally:
        webhdfs.delete(root, recursive=True)
