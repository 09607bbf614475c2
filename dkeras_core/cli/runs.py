"""`dkeras follow`, `dkeras kill` and `dkeras runs`: runs that were submitted before."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.table import Table

from dkeras_core.cli import place
from dkeras_core.cli.console import duration, stdout
from dkeras_core.cli.display import STEPS
from dkeras_core.cli.place import Place
from dkeras_core.cli.submit import finish
from dkeras_core.cli.watch import clean, watch
from dkeras_core.errors import ConfigError, PathMissing
from dkeras_core.paths import Layout
from dkeras_core.scoring import PHASES, REQUEST
from dkeras_core.storage.base import Storage
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.submission import run_tag

follow_app = typer.Typer()
kill_app = typer.Typer()
runs_app = typer.Typer()
Run = Annotated[str, typer.Argument(help="Run id, as `dkeras runs` lists it.")]
Root = Annotated[str, typer.Option(help="Root folder of the bundle in HDFS.")]


@follow_app.command()
def follow(run: Run, root: Root = "/dkeras") -> None:
    """Follow a run until it ends; exit code and last line are those of `dkeras submit`."""
    found = place.find(root)
    scoring = found.storage.exists(f"{Layout(root).run(run)}/{REQUEST}")
    steps = PHASES if scoring else STEPS
    finish(watch(found, _application(found, run, root), run, root, steps), found, root)


@kill_app.command()
def kill(run: Run, root: Root = "/dkeras") -> None:
    """End the application of a run, and return when YARN says that it has ended."""
    found = place.find(root)
    live = found.rm.apps(tags=[run_tag(run)], states=LIVE_STATES)
    if not live and not found.storage.exists(Layout(root).run(run)):
        raise _unknown(run, root)
    for app in live:
        stdout().print(f"{app.id} {found.rm.kill(app.id).state}", soft_wrap=True)
    clean(found, root, run)
    if not live:
        stdout().print(f"run {run} is not running", soft_wrap=True)


@runs_app.command()
def runs(
    root: Root = "/dkeras",
    last: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
) -> None:
    """List the runs, the newest last."""
    found = place.find(root)
    try:
        folders = sorted(found.storage.list(Layout(root).runs()), key=lambda status: status.modified)[-last:]
    except PathMissing:
        folders = []
    # Newest first, so that of several applications of a run the newest is kept.
    newest = {tag: app for app in reversed(found.rm.apps(tags=["dkeras"])) for tag in app.tags}
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda status: _row(found.storage, status.name, root, newest), folders))
    if not rows:
        stdout().print(f"no runs below {Layout(root).runs()}")
    elif stdout().is_terminal:
        stdout().print(_table(rows))
    else:
        for row in rows:
            typer.echo("\t".join(row))


def _table(rows: list[tuple[str, ...]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("run", "state", "published or scored", "phases"):
        table.add_column(name, no_wrap=name == "run", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _row(storage: Storage, run: str, root: str, newest: dict[str, Application]) -> tuple[str, str, str, str]:
    folder = Layout(root).run(run)
    app = newest.get(run_tag(run))
    if app is not None and not app.ended:
        state, result = app.state.lower(), _json(storage, f"{folder}/progress.json")
    else:
        result = _json(storage, f"{folder}/result.json")
        state = result.get("status") or (app.state.lower() if app else "ended without a result")
    phases = ", ".join(
        f"{phase['name']} {duration(phase['seconds'])}" for phase in result.get("phases", []) if phase.get("seconds")
    )
    return run, state, result.get("published") or result.get("scored") or "", phases


def _json(storage: Storage, path: str) -> dict:
    try:
        return json.loads(storage.read_bytes(path))
    except (PathMissing, ValueError):
        return {}


def _application(found: Place, run: str, root: str) -> str:
    """The newest application of a run: what the ResourceManager knows, else what the run's folder says."""
    apps = found.rm.apps(tags=[run_tag(run)])
    if apps:
        return apps[0].id
    for name in ("progress.json", "result.json"):
        app_id = _json(found.storage, f"{Layout(root).run(run)}/{name}").get("application")
        if app_id:
            return app_id
    raise _unknown(run, root)


def _unknown(run: str, root: str) -> ConfigError:
    return ConfigError(f"there is no run {run} below {Layout(root).runs()}", "`dkeras runs` lists the runs")
