"""Shell completion: what the registry suggests, in the bash of this machine, quick and silent."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from dkeras_core.cli.models import completion

MAIN = f"{sys.executable} -c 'from dkeras_core.cli.app import main; main()'"


@pytest.fixture
def suggest(shell, monkeypatch, capsys):
    """Return what is suggested for the words of a command line, the last of which is not complete."""
    from dkeras_core.cli import app

    def call(*words):
        monkeypatch.setenv("DKERAS_ROOT", f"file://{shell.root}")
        monkeypatch.setenv("_DKERAS_COMPLETE", "complete_fish")
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(["dkeras", *words]))
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
        monkeypatch.setenv("COLUMNS", "1000")
        with pytest.raises(SystemExit) as end:
            app.main()
        output = capsys.readouterr()
        assert not end.value.code and output.err == ""
        return [line.split("\t")[0] for line in output.out.splitlines() if line]

    return call


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["models", "pro"], ["promote"]),
        (["models", "list", "hi"], ["higgs"]),
        (["models", "show", "hi"], ["higgs", "higgs@production", "higgs@2", "higgs@1"]),
        (["models", "show", "higgs@p"], ["higgs@production"]),
        (["models", "show", "higgs@2"], ["higgs@2"]),
        (["models", "compare", "higgs@2", "@p"], ["@production"]),
        (["models", "promote", "higgs@2", "st"], ["staging"]),
        (["models", "rollback", "h"], ["higgs@production"]),
        (["models", "rollback", "higgs@p", "--ex"], ["--expect"]),
        (["models", "show", "muons"], []),
        (["models", "show", "--root", "file:///nowhere", "hi"], []),
        (["models", "show", "--root", "hdfs://nowhere/x", "hi"], []),
    ],
)
def test_suggestions(suggest, words, suggested):
    assert suggest(*words) == suggested


def test_what_fails_stays_off_the_terminal(suggest, monkeypatch):
    from dkeras_core.cli import app

    monkeypatch.setitem(app.COMMANDS, "models", ("dkeras_core.cli.not_there", "Is missing."))
    assert suggest("models", "show", "hi") == []


def test_an_alias_of_the_own_is_suggested_beside_the_usual_ones(suggest, shell):
    shell.registry.promote("higgs", 2, "canary")
    assert suggest("models", "promote", "higgs@2", "c") == ["candidate", "canary"]


@pytest.mark.parametrize(
    ("words", "joined", "stays"),
    [
        ("dkeras models show hi", ["hi"], ""),
        ("dkeras models show higgs @", ["higgs@"], "higgs"),
        ("dkeras models show higgs @ pr", ["higgs@pr"], "higgs"),
        ("dkeras models compare higgs @ 7 @ pr", ["higgs@7", "@pr"], ""),
        ("dkeras models show --root = file : ///x higgs @ 1", ["--root=file:///x", "higgs@1"], "higgs"),
        ("dkeras score --model = higgs @ 1", ["--model=higgs@1"], "higgs"),
        ("dkeras score --model = hi", ["--model=hi"], ""),
    ],
)
def test_words_that_bash_has_broken(words, joined, stays):
    words = words.split()
    found, kept = completion.rejoined(words, len(words) - 1)
    assert found[-len(joined) :] == joined and kept == stays


def test_a_registry_that_does_not_answer_is_not_waited_for(shell, tmp_path):
    code = (
        "import time; from dkeras_core.cli import app; from dkeras_core.cli.models import completion, reference;"
        "completion.DEADLINE = 0.1; reference.open_registry = lambda root: time.sleep(20); app.main()"
    )
    asked = {"_DKERAS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "dkeras models show hi"}
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | asked, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert time.monotonic() - started < 10


def test_in_bash(shell, tmp_path, project_root):
    command = tmp_path / "bin/dkeras"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {MAIN} "$@"\n')
    command.chmod(0o755)
    script = subprocess.run(
        [sys.executable, "-c", "from dkeras_core.cli.app import main; main()"],
        env=os.environ | {"_DKERAS_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        cwd=project_root,
    ).stdout
    (tmp_path / "completion.sh").write_text(script)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.environ |= {"TERM": "dumb", "PS1": "$ ", "DKERAS_ROOT": f"file://{shell.root}"}
        os.environ |= {"PATH": f"{command.parent}:{os.environ['PATH']}", "PYTHONPATH": str(project_root)}
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        os.write(terminal, b". ./completion.sh; echo re''ady\n")
        _read(terminal, until="ready")
        os.write(terminal, b"dkeras models promote higgs@pr\t")
        assert "dkeras models promote higgs@production " in _read(terminal, until="production ")
        os.write(terminal, b"st\t")
        assert "staging " in _read(terminal, until="staging ")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def _read(terminal: int, until: str) -> str:
    text, deadline = "", time.monotonic() + 20
    while until not in text and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 4096).decode(errors="replace")
    return text
