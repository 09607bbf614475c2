import json

import pytest
from typer.testing import CliRunner

from dkeras_core.cli import console, env
from dkeras_core.cli.app import run
from dkeras_core.errors import EnvironmentBuildError
from envs.builder.archive import Archive, Inputs


@pytest.fixture(autouse=True)
def consoles_of_this_test():
    """The consoles are kept for the life of a process; under pytest the streams change with every test."""
    console.stdout.cache_clear()
    console.stderr.cache_clear()
    yield
    console.stdout.cache_clear()
    console.stderr.cache_clear()


@pytest.fixture
def archive(tmp_path, monkeypatch):
    path = tmp_path / "train-0123456789abcdef.tar.gz"
    path.write_bytes(b"x" * 2_000_000)
    inside = {"python": "3.11.7", "glibc": "2.35", "seconds": 61.0, "packages": {"keras": "3.15.1"}}
    path.with_name("train-0123456789abcdef.json").write_text(json.dumps(inside))
    monkeypatch.setattr(env, "find_inputs", lambda progress: Inputs("local", "0123456789abcdef"))
    return Archive(path, "0123456789abcdef", 2_000_000)


def test_show_tells_what_is_inside(archive, monkeypatch, capsys):
    monkeypatch.setattr(env, "find_archive", lambda key: archive)
    assert run(["env", "show"]) == 0
    output = capsys.readouterr().out
    assert str(archive.path) in output and "2 MB" in output
    assert "glibc 2.35 or newer" in output and "3.15.1" in output


def test_show_before_the_first_build(archive, monkeypatch):
    monkeypatch.setattr(env, "find_archive", lambda key: None)
    assert CliRunner().invoke(env.app, ["show"]).exit_code == 1


def test_a_stage_that_fails_is_shown_as_failed_and_the_error_once(monkeypatch, capsys):
    def failing(progress):
        progress("fetch", None, "")
        progress("fetch", 1.0, "3 wheels")
        progress("pack", None, "")
        raise EnvironmentBuildError("the disk is full", "free space")

    monkeypatch.setattr(env, "ensure_archive", failing)
    assert run(["env", "build"]) == EnvironmentBuildError.exit_code
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("fetch: done (3 wheels)")
    assert lines[1].startswith("pack: failed")
    assert [line.strip() for line in lines[2:]] == ["error the disk is full", "next free space"]
