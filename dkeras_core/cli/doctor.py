"""`dkeras doctor`: what a submission needs, checked one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dkeras_core.cli import place
from dkeras_core.cli.console import stdout
from dkeras_core.config import Pipeline
from dkeras_core.errors import DkerasError
from dkeras_core.paths import Layout
from dkeras_core.yarn.doctor import Check, Surroundings, Work, examine, first_failure

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
    around = Surroundings(found.config, found.storage, found.rm, place.BUILD, Work.of(loaded) if loaded else None, root)
    checks = [*examine(around), _environment(found, root)]
    for check in checks:
        show(check)
    failure = first_failure(checks)
    if failure:
        raise typer.Exit(failure.exit_code)


def _environment(found: place.Place, root: str) -> Check:
    """Whether the packed environment stands ready, here and in HDFS; a submission makes what is missing."""
    from envs.builder.archive import find_archive, find_inputs

    name = "environment"
    try:
        key = find_inputs().key
        uploaded = found.storage.status(Layout(root).env_archive(key))
    except DkerasError as error:
        return Check(name, "fail", error.what, error.next_step, error)
    if uploaded is not None and not uploaded.mode & 0o004:
        return Check(
            name,
            "warn",
            f"{uploaded.path} is not readable by all, so YARN unpacks it for every application",
            "chmod 644",
        )
    if uploaded is not None:
        return Check(name, "ok", f"{uploaded.path}, {uploaded.size / 1e6:.0f} MB")
    if find_archive(key) is not None:
        return Check(name, "ok", f"train-{key} is built; the first submission uploads it")
    return Check(
        name, "warn", f"train-{key} is not built", "the first submission builds it; `dkeras env build` does it now"
    )


def show(check: Check) -> None:
    """Print one check as a line, with its next step below when there is something to do."""
    stdout().print(_SIGNS[check.state], f"{check.name:<20}", end=" ")
    stdout().print(check.what, soft_wrap=True, markup=False)
    if check.next_step:
        stdout().print(f"  {'':<20} next: {check.next_step}", soft_wrap=True, markup=False)
