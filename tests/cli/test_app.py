"""The command itself: lazy, fast, one message for every error, exit codes that scripts can use."""

import subprocess
import sys
import time

import pytest

from dkeras_core.cli import app
from dkeras_core.errors import ConfigError, Interrupted

MAIN = [sys.executable, "-c", "from dkeras_core.cli.app import main; main()"]


@pytest.fixture
def room(monkeypatch):
    """Put a command ``boom`` in the table whose body is the given function."""
    import types

    import typer

    def install(body):
        made = types.ModuleType("made_room")
        made.app = typer.Typer()
        made.app.command()(body)
        monkeypatch.setitem(sys.modules, "made_room", made)
        monkeypatch.setitem(app.COMMANDS, "boom", ("made_room", "Fails."))

    return install


def test_help_is_fast_and_imports_no_room(project_root):
    code = (
        "import sys; from dkeras_core.cli import app; app.run(['--help']);"
        "heavy = {'requests', 'hdfs', 'pyspark', 'tensorflow', 'numpy', 'dkeras_core.cli.submit'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    started = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in app.COMMANDS)
    assert time.process_time() - started < 1


def test_version_and_unknown_command(capsys):
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dkeras 0")
    assert app.run(["submt"]) == 2
    assert "submit" in capsys.readouterr().err


def test_an_error_is_one_message_with_its_exit_code(room, capsys):
    def body():
        raise ConfigError("higgs.yaml:3: unknown key lable", "write label")

    room(body)
    assert app.run(["boom"]) == ConfigError.exit_code
    said = capsys.readouterr().err
    assert "higgs.yaml:3: unknown key lable" in said and "write label" in said and "Traceback" not in said


def test_debug_shows_the_traceback(room, capsys):
    def body():
        raise ConfigError("wrong")

    room(body)
    assert app.run(["--debug", "boom"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_names_the_file_with_its_traceback(room, capsys, tmp_path, monkeypatch):
    def body():
        raise KeyError("what")

    monkeypatch.setattr(app.tempfile, "tempdir", str(tmp_path))
    room(body)
    assert app.run(["boom"]) == 70
    (written,) = tmp_path.iterdir()
    assert str(written) in capsys.readouterr().err
    assert "KeyError" in written.read_text()


def test_a_second_interruption_while_the_first_is_reported_is_no_traceback(monkeypatch):
    def run(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(app, "run", run)
    with pytest.raises(SystemExit) as end:
        app.main()
    assert end.value.code == 130


@pytest.mark.parametrize(
    ("raised", "said"),
    [(KeyboardInterrupt(), "interrupted"), (Interrupted("application_1 was killed"), "application_1 was killed")],
)
def test_interruptions_end_with_130_and_say_what_became_of_things(room, capsys, raised, said):
    def body():
        raise raised

    room(body)
    assert app.run(["boom"]) == 130
    assert said in capsys.readouterr().err


def test_a_missing_module_stops_only_its_own_command(monkeypatch, capsys):
    monkeypatch.setitem(app.COMMANDS, "boom", ("dkeras_core.cli.not_there", "Is missing."))
    assert app.run(["boom"]) == 2
    assert "dkeras_core.cli.not_there" in capsys.readouterr().err
    assert app.run(["--help"]) == 0


@pytest.mark.parametrize("name", list(app.COMMANDS))
def test_every_room_of_the_table_has_its_command(name):
    assert app.load(name).name == name


def test_markup_in_a_message_is_text(room, capsys):
    def body():
        raise ConfigError("path [bold]x[/bold] is [wrong]")

    room(body)
    app.run(["boom"])
    assert "path [bold]x[/bold] is [wrong]" in capsys.readouterr().err
