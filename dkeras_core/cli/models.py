"""`dkeras models`: what is published, and is it whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dkeras_core.cli.console import stdout
from dkeras_core.errors import RegistryError

if TYPE_CHECKING:
    from dkeras_core.registry import Registry, Version

app = typer.Typer(no_args_is_help=True, help="Versions and aliases of the published models.")

Root = Annotated[str, typer.Option(help="Root folder in HDFS, or file:///folder of this machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name, name@number or name@alias; alone: the newest.")]

SHOWN_METRICS = ("roc_auc", "log_loss", "accuracy", "ams")
LEFT = ("model", "aliases", "created", "run")


@app.command("list")
def list_(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model: show its versions.")] = None,
    root: Root = "/dkeras",
    as_json: AsJson = False,
) -> None:
    """List the models, or the versions of one.

    Example: dkeras models list higgs
    """
    registry = _registry(root)
    table = _versions(registry, name) if name else _models(registry)
    if as_json:
        _print_json(table)
        return
    if not table:
        missing = f"version of {name}" if name else "model"
        stdout().print(f"no {missing} below {registry.layout.root}/models", soft_wrap=True, markup=False)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    metrics = [metric for metric in SHOWN_METRICS if any(metric in row.get("metrics", {}) for row in table)]
    columns = [column for column in table[0] if column not in ("path", "user", "metrics")]
    for column in columns + metrics:
        shown.add_column(column, overflow="fold", justify="left" if column in LEFT else "right")
    for row in table:
        shown.add_row(*(_cell(row[column]) for column in columns), *(_cell(row["metrics"].get(m)) for m in metrics))
    _print_table(shown)


@app.command()
def show(model: Model, root: Root = "/dkeras", as_json: AsJson = False) -> None:
    """Show a version: where it is, where it comes from, how good it is, its files.

    Example: dkeras models show higgs@production
    """
    version = _version(_registry(root), model)
    manifest = version.manifest()
    if as_json:
        _print_json({"version": version.number, "path": version.path} | manifest.model_dump(mode="json"))
        return
    facts = {"version": str(version), "path": version.path, "created": f"{manifest.created:%Y-%m-%d %H:%M:%S} UTC"}
    facts |= {"user": manifest.user, "run": manifest.run}
    facts |= manifest.lineage.model_dump()
    facts |= {name: _cell(value) for name, value in manifest.metrics.items() if isinstance(value, int | float)}
    for name, value in facts.items():
        if value is not None:
            stdout().print(f"{name:<18}{value}", soft_wrap=True, markup=False)
    files = Table("file", box=None, pad_edge=False, header_style="bold")
    files.add_column("bytes", justify="right")
    files.add_column("SHA-256")
    for name, entry in sorted(manifest.files.items()):
        files.add_row(name, f"{entry.size:,}", f"{entry.sha256[:16]}…")
    stdout().print()
    _print_table(files)


@app.command()
def verify(model: Model, root: Root = "/dkeras", as_json: AsJson = False) -> None:
    """Read and hash every file of a version. Exit code 7 when one is missing, changed or too many.

    Example: dkeras models verify higgs@7
    """
    version = _version(_registry(root), model)
    problems = version.verify()
    if as_json:
        _print_json({"version": version.number, "path": version.path, "problems": problems})
    elif not problems:
        stdout().print(f"{version} is whole: {version.path}", soft_wrap=True, markup=False)
    if problems:
        raise RegistryError(f"{version} [{version.path}] is damaged: {'; '.join(problems)}", "Use another version.")


@app.command()
def pull(
    model: Model,
    folder: Annotated[Path | None, typer.Argument(help="New folder for it; default: NAME-NUMBER here.")] = None,
    root: Root = "/dkeras",
    as_json: AsJson = False,
) -> None:
    """Download a version, verified: the folder appears whole or not at all.

    Example: dkeras models pull higgs@production model
    """
    version = _version(_registry(root), model)
    local = version.fetch(folder or Path(f"{version.name}-{version.number}"))
    if as_json:
        _print_json({"version": version.number, "path": version.path, "folder": str(local)})
    else:
        stdout().print(f"{version} -> {local}", soft_wrap=True, markup=False)


def _registry(root: str) -> Registry:
    from dkeras_core.cli import place
    from dkeras_core.registry import Registry
    from dkeras_core.storage import open_storage
    from dkeras_core.storage.base import split_uri

    local = split_uri(root)[0] == "file"
    return Registry(open_storage(root) if local else place.find(root).storage, root)


def _version(registry: Registry, text: str) -> Version:
    name, at, which = text.partition("@")
    if at:
        return registry.version(name, which)
    newest = registry.latest(name)
    if newest is None:
        there = ", ".join(registry.models()) or "none"
        raise RegistryError(f"{name} has no version below {registry.layout.root}/models", f"Models there: {there}.")
    return newest


def _models(registry: Registry) -> list[dict[str, Any]]:
    rows = []
    for name in registry.models():
        there = registry.versions(name)
        rows.append(
            {
                "model": name,
                "versions": len(there),
                "newest": there[-1] if there else None,
                "aliases": registry.aliases(name),
            }
        )
    return rows


def _versions(registry: Registry, name: str) -> list[dict[str, Any]]:
    numbers = registry.versions(name)
    named: dict[int, list[str]] = {}
    for alias, number in registry.aliases(name).items():
        named.setdefault(number, []).append(alias)

    def row(number: int) -> dict[str, Any]:
        version = registry.at(name, number)
        found = {"version": number, "aliases": named.get(number, []), "path": version.path}
        try:
            manifest = version.manifest()
        except RegistryError as error:
            return found | {"created": None, "user": None, "run": f"damaged: {error.what}", "metrics": {}}
        return found | {name: getattr(manifest, name) for name in ("created", "user", "run", "metrics")}

    with ThreadPoolExecutor(16) as readers:
        return list(readers.map(row, reversed(numbers)))


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{alias} → {number}" for alias, number in value.items())
    if isinstance(value, list):
        return ", ".join(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)


def _print_table(table: Table) -> None:
    # In a pipe a row stays one line, however long.
    console = stdout() if stdout().is_terminal else Console(file=stdout().file, width=1000)
    console.print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=datetime.isoformat))
