"""`dkeras airflow`: Airflow on this machine with the bundle's DAGs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dkeras_core.cli import place
from dkeras_core.cli.console import stderr, stdout
from dkeras_core.cli.interruption import terminable
from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.airflow import DEFAULT_HOME, USER, LocalAirflow, Status

app = typer.Typer(no_args_is_help=True, help="Airflow on 127.0.0.1 with the bundle's DAGs, to try them out.")

Home = Annotated[
    Path,
    typer.Option(help="Folder of its metadata and logs.", show_default="build/airflow/home in the checkout"),
]
PARTLY, DOWN = 3, 4


@app.command()
def up(
    home: Home = DEFAULT_HOME,
    dags: Annotated[Path | None, typer.Option(help="Folder of DAG files.", show_default="dags in the checkout")] = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay until Ctrl-C, and stop everything then.")
    ] = False,
) -> None:
    """Start Airflow, or what of it has crashed; print its address and login.

    `make airflow` makes its environment first. DAGs reach the cluster that HADOOP_CONF_DIR names,
    else the bundle's single node, which is started by the first task that needs it.

    Example: dkeras airflow up
    """
    airflow = _at(home, dags)
    with terminable(), _told("starting Airflow") as tell:
        status = airflow.up(progress=tell)
    _show(airflow, status)
    if not foreground:
        stderr().print("`dkeras airflow down` stops it", soft_wrap=True)
        return
    try:
        with terminable():
            stderr().print("Ctrl-C stops it", soft_wrap=True)
            while not airflow.status().down:
                time.sleep(2)
            raise ClusterError("Airflow has ended by itself", f"see the logs in {airflow.logs}")
    finally:
        with _told("stopping Airflow") as tell:
            airflow.down(progress=tell)


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop Airflow with all it has started. Applications on YARN go on; metadata and logs stay.

    Example: dkeras airflow down
    """
    with _told("stopping Airflow") as tell:
        LocalAirflow(home).down(progress=tell)
    stdout().print(f"down: {home}", soft_wrap=True)


@app.command()
def status(
    home: Home = DEFAULT_HOME,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.")] = False,
) -> None:
    """Show the components, the address and the login. Exit code 0: all up. 3: some are not. 4: down.

    Example: dkeras airflow status
    """
    airflow = LocalAirflow(home)
    found = airflow.status()
    if as_json:
        typer.echo(json.dumps({"address": found.address, "components": found.components}))
    else:
        _show(airflow, found)
    raise typer.Exit(DOWN if found.down else 0 if found.ready else PARTLY)


def _at(home: Path, dags: Path | None) -> LocalAirflow:
    settings = {} if dags is None else {"dags": dags}
    return LocalAirflow(home, environment=_cluster(), **settings)


def _cluster() -> dict[str, str]:
    """What the components need to find the cluster and the command that submits."""
    import sys

    command = Path(sys.executable).parent / "dkeras"
    found = {"DKERAS_COMMAND": str(command)} if command.exists() else {}
    if not place.is_named():
        from dkeras_core.singlenode import SingleNode

        found["HADOOP_CONF_DIR"] = str(SingleNode().conf_dir)
    return found


def _show(airflow: LocalAirflow, found: Status) -> None:
    for name, state in found.components.items():
        colour = {"up": "green", "down": "red"}.get(state, "yellow")
        stdout().print(f"{name:<15}[{colour}]{state}[/]")
    if not found.down:
        stdout().print(f"{'pages':<15}{found.address}", soft_wrap=True)
        stdout().print(f"{'login':<15}{USER} / {airflow.password}", soft_wrap=True, markup=False)
    stdout().print(f"{'logs':<15}{airflow.logs}", soft_wrap=True, markup=False)


@contextmanager
def _told(what: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done: a line that changes on a terminal, a line for each step elsewhere."""
    console = stderr()
    if console.is_terminal:
        with console.status(f"{what} …") as shown:
            yield lambda text: shown.update(f"{what}: {text}")
        return
    said: list[str] = []

    def say(text: str) -> None:
        if text not in said:
            said.append(text)
            console.print(f"{what}: {text}", soft_wrap=True, markup=False)

    yield say
