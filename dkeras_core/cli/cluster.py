"""`dkeras cluster`: the single-node Hadoop of this checkout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dkeras_core.singlenode import DEFAULT_HOME, SingleNode, Status

app = typer.Typer(
    no_args_is_help=True,
    help="The single-node Hadoop: real HDFS and YARN daemons on 127.0.0.1, for machines without a cluster.",
)

Home = Annotated[
    Path,
    typer.Option(
        help="Folder of the cluster: data, configuration, ports, logs. Another folder is another cluster.",
        show_default="build/cluster in the checkout",
        file_okay=False,
    ),
]
PARTLY, DOWN = 3, 4


@app.command()
def up(
    nodes: Annotated[
        int | None,
        typer.Option(
            min=1, max=8, help="How many NodeManagers there shall be. [default: as many as before, at first 1]"
        ),
    ] = None,
    home: Home = DEFAULT_HOME,
) -> None:
    """Start HDFS and YARN, or mend what has crashed; return when both are ready.

    The first time, Maven downloads Hadoop's jars (about 110 MB). Ports are chosen once and remembered. A cluster
    that is up is left as it is.
    """
    with _told(f"starting the cluster in {home}") as tell:
        status = SingleNode(home).up(nodes=nodes, progress=tell)
    _show(status)


@app.command()
def down(home: Home = DEFAULT_HOME) -> None:
    """Stop all daemons and end every container that is left. Files in HDFS stay."""
    with _told(f"stopping the cluster in {home}") as tell:
        SingleNode(home).down(progress=tell)
    Console(highlight=False).print(f"down: {home}")


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
    home: Home = DEFAULT_HOME,
) -> None:
    """Show the daemons, their web pages, process numbers and memory.

    Exit code 0: ready. 3: some daemon is missing or not ready. 4: down.
    """
    found = SingleNode(home).status()
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
    else:
        _show(found)
    raise typer.Exit(DOWN if found.down else 0 if found.ready else PARTLY)


@app.command()
def logs(
    daemon: Annotated[
        str | None, typer.Argument(help="namenode, datanode, resourcemanager, nodemanager-1, … Default: all.")
    ] = None,
    lines: Annotated[int, typer.Option(min=1, help="How many lines of each.")] = 40,
    home: Home = DEFAULT_HOME,
) -> None:
    """Show the last lines of the daemons' logs."""
    node = SingleNode(home)
    names = [daemon] if daemon else [found.name for found in node.status().daemons]
    for name in names:
        if not daemon:
            typer.secho(f"== {name} ==", bold=True)
        typer.echo("\n".join(node.logs(name, lines)))


@contextmanager
def _told(title: str) -> Iterator[Callable[[str], None]]:
    """Show progress on standard error: a line that changes in a terminal, plain lines elsewhere."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda line: console.print(line, markup=False, soft_wrap=True)
        return
    with console.status(title) as display:
        yield lambda line: display.update(f"{title}: {line}")


def _show(status: Status) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("daemon", "condition", "pid", "memory", "web page"):
        right = heading in ("pid", "memory")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "condition")
    for daemon in status.daemons:
        colour = "green" if daemon.ready else "yellow" if daemon.alive else "red"
        table.add_row(
            daemon.name,
            f"[{colour}]{daemon.condition}[/]",
            str(daemon.pid or "-"),
            f"{daemon.memory / 2**20:.0f} MB" if daemon.alive else "-",
            daemon.web or "-",
        )
    console.print(table)
    if status.ready:
        console.print(
            f"\n[green]ready[/]: {status.nodes} node(s); export HADOOP_CONF_DIR={status.conf_dir}", soft_wrap=True
        )
    elif status.down:
        console.print(f"\n[red]down[/]: {status.home} (start it: dkeras cluster up)", soft_wrap=True)
    else:
        console.print(f"\n[yellow]partly up[/]: {status.home} (mend it: dkeras cluster up)", soft_wrap=True)
