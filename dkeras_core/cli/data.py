"""`dkeras data`: make synthetic example data, and look at a CSV file before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make example data, and look at a file before it is used.")


@app.command()
def higgs(
    output: Annotated[Path, typer.Option(help="CSV file to write; <name>.json beside it says that it is synthetic.")],
    rows: Annotated[int, typer.Option(min=1, help="Number of events.")] = 250_000,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal files.")] = 1,
    upload: Annotated[bool, typer.Option("--upload", help="Also copy it to <root>/raw/higgs/ in HDFS.")] = False,
    root: Annotated[str, typer.Option(help="Root folder in HDFS, with --upload.")] = "/dkeras",
) -> None:
    """Write SYNTHETIC events in the exact schema of the 2014 ATLAS Higgs challenge (250,000 rows: a few seconds).

    They are drawn from a simple simulation, not taken from the challenge; results on them say nothing about physics.
    """
    from rich.progress import Progress

    from dkeras_core.cli.console import stderr, stdout
    from dkeras_core.data.higgs import side_car, write_events

    with Progress(console=stderr(), transient=True) as bar:
        task = bar.add_task("synthetic events", total=rows)
        write_events(output, rows, seed, progress=lambda done: bar.update(task, completed=done))
    stdout().print(f"wrote {output}: {rows:,} synthetic events, seed {seed}", soft_wrap=True)
    if upload:
        for file in (output, side_car(output)):
            stdout().print(f"uploaded {_upload(file, root)}", soft_wrap=True)


def _upload(file: Path, root: str) -> str:
    """Copy a file to the raw data in HDFS: under a temporary name, then in one step to its own."""
    import secrets

    from dkeras_core.paths import Layout
    from dkeras_core.storage import open_storage
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    folder = Layout(root).raw("higgs")
    storage = open_storage(folder, hadoop=HadoopConfig.load())
    temporary = f"{folder}/.{file.name}.{secrets.token_hex(4)}.tmp"
    try:
        storage.upload(file, temporary)
        storage.replace(temporary, f"{folder}/{file.name}")
    finally:
        storage.delete(temporary)
    return f"{folder}/{file.name}"


@app.command()
def describe(
    file: Annotated[Path, typer.Argument(help="Local CSV file.")],
    label: Annotated[str, typer.Option(help="Name of the label column.")] = "Label",
    weight: Annotated[str, typer.Option(help="Name of the weight column.")] = "Weight",
    missing: Annotated[float, typer.Option(help="Marker of missing values.")] = -999.0,
) -> None:
    """Show rows, classes, sums of weights, and range and missing share of every column."""
    from rich.table import Table

    from dkeras_core.cli.console import stdout
    from dkeras_core.data.describe import describe as describe_file

    found = describe_file(file, label, weight, missing)
    console = stdout()
    kind = f" [bold]synthetic[/] ({json.dumps(found.synthetic)})" if found.synthetic else ""
    console.print(f"{file}: {found.rows:,} rows, {len(found.columns)} columns{kind}", soft_wrap=True)
    for name, (rows, total) in sorted(found.classes.items()):
        weights = f", sum of {weight} {total:,.6g}" if total is not None else ""
        console.print(f"{label} {name}: {rows:,} rows ({rows / found.rows:.1%}){weights}", soft_wrap=True)
    table = Table("column", "missing", "smallest", "mean", "largest")
    for column in found.columns:
        values = [f"{v:.6g}" if v is not None else "" for v in (column.smallest, column.mean, column.largest)]
        table.add_row(column.name, f"{column.missing / found.rows:.1%}" if column.missing else "", *values)
    console.print(table)
