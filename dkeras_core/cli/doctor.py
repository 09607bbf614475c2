"""`dkeras doctor`: what a submission needs, checked one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkeras_core.cli import place
from dkeras_core.cli.console import stdout
from dkeras_core.config import Pipeline
from dkeras_core.yarn.doctor import Check, Surroundings, examine, first_failure

app = typer.Typer()
_SIGNS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}


@app.command()
def doctor(
    pipeline: Annotated[
        Path | None, typer.Argument(help="Pipeline file; its queue, memory and input are checked.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the pipeline file.")
    ] = None,
) -> None:
    """Check Java, the Hadoop configuration, HDFS, YARN, and what a pipeline asks of them.

    The exit code is 0 when a submission can go ahead, otherwise that of the first failure.
    """
    loaded = Pipeline.load(pipeline, overrides) if pipeline else None
    root = loaded.root if loaded else "/dkeras"
    found = place.find(root)
    around = Surroundings(found.config, found.storage, found.rm, place.BUILD, loaded, root)
    checks = examine(around)
    for check in checks:
        show(check)
    failure = first_failure(checks)
    if failure:
        raise typer.Exit(failure.exit_code)


def show(check: Check) -> None:
    """Print one check as a line, with its next step below when there is something to do."""
    stdout().print(_SIGNS[check.state], f"{check.name:<20}", end=" ")
    stdout().print(check.what, soft_wrap=True, markup=False)
    if check.next_step:
        stdout().print(f"  {'':<20} next: {check.next_step}", soft_wrap=True, markup=False)
