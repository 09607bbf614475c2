"""The command ``dkeras``: collects the rooms' commands when they are asked for, and prints every error in one place."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import traceback
from typing import Annotated

import typer
from typer.core import TyperCommand, TyperGroup

from dkeras_core import __version__
from dkeras_core.errors import ConfigError, DkerasError, Interrupted

COMMANDS = {
    "submit": ("dkeras_core.cli.submit", "Train, evaluate and publish: run a pipeline as a YARN application."),
    "follow": ("dkeras_core.cli.runs", "Follow a run until it ends."),
    "kill": ("dkeras_core.cli.runs", "End a run and see that it has ended."),
    "runs": ("dkeras_core.cli.runs", "List the runs."),
    "doctor": ("dkeras_core.cli.doctor", "Check Java, Hadoop, HDFS, YARN and what a pipeline asks of them."),
    "score": ("dkeras_core.cli.score", "Score rows in HDFS with a published version."),
    "models": ("dkeras_core.cli.models", "The published models: look, promote, roll back, take out."),
    "data": ("dkeras_core.cli.data", "Make example data."),
    "env": ("dkeras_core.cli.env", "Build, show and upload the training environment."),
    "airflow": ("dkeras_core.cli.airflow", "Start and stop Airflow on this machine with the bundle's DAGs."),
    "cluster": ("dkeras_core.cli.cluster", "Start and stop the bundle's single-node HDFS and YARN."),
}
"""Command -> (module, help). The module holds a typer app ``app``, or ``<command>_app`` when it serves several."""


_COMPLETING = "_DKERAS_COMPLETE"  # set by the shell's completion


class _Stopped(Exception):
    """Carries an interruption past typer, which would end the process without a word."""


class Rooms(TyperGroup):
    """A group whose commands are imported when they run, so that help is fast and one broken room stops no other."""

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        # Help, completion and suggestions need only the line from the table.
        self.commands.update({name: TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()})

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interruption:
            raise _Stopped from interruption

    def resolve_command(self, ctx, args):
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


def load(name: str):
    """Return the command ``name`` of its room."""
    module, text = COMMANDS[name]
    try:
        room = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"`dkeras {name}` needs the Python module {error.name}, which is not installed",
            "run `make tools`, or install what the message names into this environment",
        ) from error
    app = getattr(room, f"{name}_app", None) or room.app
    command = typer.main.get_command(app)
    command.name = name
    # Completion is set up by `dkeras` itself, not by each of its commands.
    command.params = [one for one in command.params if one.name not in ("install_completion", "show_completion")]
    command.help = command.help or text
    return command


app = typer.Typer(cls=Rooms, no_args_is_help=True, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dkeras {__version__}")
        raise typer.Exit


@app.callback()
def dkeras(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Distributed Keras on Hadoop: train on YARN, evaluate, publish to HDFS."""


def main() -> None:
    """Run the command line and end the process with the exit code of the error, if there is one."""
    if _COMPLETING in os.environ:
        from dkeras_core.cli.models.completion import completing

        with completing(os.environ):
            app(sys.argv[1:], prog_name="dkeras")
        sys.exit()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # what was done must not look failed for want of an arrow
    try:
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # a second one while the first is being reported, or before there was a command
        code = Interrupted.exit_code
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error is printed here and nowhere else."""
    debug = "--debug" in arguments
    try:
        return app(arguments, prog_name="dkeras", standalone_mode=True) or 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except _Stopped as stopped:
        cause = stopped.__cause__
        _print_error(cause if isinstance(cause, Interrupted) else Interrupted("interrupted"), "stopped")
        return Interrupted.exit_code
    except DkerasError as error:
        if debug:
            traceback.print_exc()
        _print_error(error)
        return error.exit_code
    except Exception as error:
        _print_unexpected(error, debug)
        return 70


def _print_error(error: DkerasError, label: str = "error") -> None:
    from rich.markup import escape

    from dkeras_core.cli.console import stderr

    stderr().print(f"[bold red]{label}[/] {escape(error.what)}", soft_wrap=True)
    if error.next_step:
        stderr().print(f"{'next':>{len(label)}} {escape(error.next_step)}", soft_wrap=True)


def _print_unexpected(error: Exception, debug: bool) -> None:
    """A defect: one line for the user, the traceback in a file for the report of it."""
    if debug:
        traceback.print_exc()
        return
    handle, path = tempfile.mkstemp(prefix="dkeras-error-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        traceback.print_exc(file=file)
    _print_error(
        DkerasError(
            f"unexpected {type(error).__name__}: {error}",
            f"this is a defect of dkeras; the traceback is in {path} (or repeat with `dkeras --debug ...`)",
        )
    )
