"""`dkeras models list`: the models, and the versions of one."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dkeras_core.cli.models import reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, OptionalName, Root
from dkeras_core.cli.models.tables import Column

if TYPE_CHECKING:
    from dkeras_core.registry import Registry
    from dkeras_core.registry.catalog import Summary

SHOWN_METRICS = ("roc_auc", "log_loss", "accuracy", "ams")
NEWEST = 20
"""Versions that a terminal shows unless asked for more; those with an alias always."""

_READERS = 8


def list_(
    name: OptionalName = None,
    every: Annotated[bool, typer.Option("--all", help=f"On a terminal, more than the {NEWEST} newest.")] = False,
    deleted: Annotated[bool, typer.Option("--deleted", help="Also the versions that gc has deleted.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """List the models, or the versions of one.

    A pipe and --json get every version; a terminal the newest and those with an alias.

    Example: dkeras models list higgs
    """
    registry = reference.open_registry(root)
    if name is None:
        rows = models(registry)
        if as_json:
            tables.print_json(rows)
        else:
            _show_models(registry, rows)
        return
    rows, problems = versions(registry, reference.known(registry, name), deleted)
    if as_json:
        tables.print_json(rows)
    else:
        _show_versions(name, rows, every)
    for what in problems:
        tables.warn(what)


def models(registry: Registry) -> list[dict[str, Any]]:
    """Return a row for each model, sorted by name."""

    def model(name: str) -> dict[str, Any]:
        there = registry.versions(name)
        aliases, damaged = reference.pointers(registry, name)
        newest = there[-1] if there else None
        return {"model": name, "versions": len(there), "newest": newest, "aliases": aliases, "damaged": damaged}

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(model, registry.models()))


def versions(registry: Registry, name: str, deleted: bool = False) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a row for each version of a model, newest first, and what is wrong with its aliases."""
    from dkeras_core.registry import catalog

    with ThreadPoolExecutor(2) as readers:
        summaries = readers.submit(catalog.summaries, registry, name, deleted=deleted)
        named = readers.submit(reference.pointers, registry, name)
        aliases, damaged = named.result()
        return [row(registry, name, summary, aliases) for summary in summaries.result()], list(damaged.values())


def row(registry: Registry, name: str, summary: Summary, aliases: Mapping[str, int]) -> dict[str, Any]:
    """Return what --json says of a version in a list."""
    plain = summary.model_dump(mode="json")
    return {
        "version": summary.number,
        "aliases": [alias for alias, number in aliases.items() if number == summary.number],
        "path": registry.at(name, summary.number).path,
        **{key: plain[key] for key in ("created", "user", "run", "digest", "bytes", "files", "metrics")},
        **{key: plain[key] for key in ("tags", "archived", "deleted", "problem")},
    }


def _show_models(registry: Registry, rows: list[dict[str, Any]]) -> None:
    if not rows:
        tables.line(f"no model below {registry.layout.models()}")
        return
    columns = [
        Column("model"),
        Column("versions", 1, right=True),
        Column("newest", right=True),
        Column("aliases", flexible=True),
    ]
    cells = []
    for row in rows:
        aliases = Text(", ").join(
            [Text(_arrow(alias, number), style=style(alias)) for alias, number in row["aliases"].items()]
            + [Text(_arrow(alias, "unreadable"), style="red") for alias in row["damaged"]]
        )
        cells.append((row["model"], row["versions"], row["newest"], aliases))
    tables.show(columns, cells)
    for row in rows:
        for what in row["damaged"].values():
            tables.warn(what)


def _show_versions(name: str, rows: list[dict[str, Any]], every: bool) -> None:
    if not rows:
        tables.line(f"{name} has no version: they are deleted, or none was published yet")
        return
    kept = rows
    if tables.on_terminal() and not every:
        kept = [found for at, found in enumerate(rows) if at < NEWEST or found["aliases"]]
    metrics = shown_metrics(rows)
    columns = [
        Column("version", right=True),
        Column("aliases", flexible=True),
        Column("state", 1),
        Column("created (UTC)", 2),
        *(Column(metric, 3 + at, right=True) for at, metric in enumerate(metrics)),
        Column("run", 8),
        Column("user", 9),
        Column("tags", 10, flexible=True),
    ]
    tables.show(columns, [_cells(found, metrics) for found in kept])
    if len(kept) < len(rows):
        tables.note(f"{tables.plural(len(rows) - len(kept), 'older version')} not shown: --all")
    for found in kept:
        if found["problem"]:
            tables.warn(f"{name}@{found['version']} is damaged: {found['problem']}")


def _cells(found: Mapping[str, Any], metrics: list[str]) -> list[Any]:
    return [
        found["version"],
        Text(", ").join(Text(alias, style=style(alias)) for alias in found["aliases"]),
        state(found),
        tables.when(found["created"]),
        *(tables.number(found["metrics"].get(metric)) for metric in metrics),
        found["run"],
        found["user"],
        tags(found["tags"]),
    ]


def state(found: Mapping[str, Any]) -> Text | None:
    """In one word what is not as usual with a version."""
    if found["deleted"]:
        return Text("deleted", "dim")
    if found["problem"]:
        return Text("damaged", "red")
    return Text("archived", "yellow") if found["archived"] else None


def shown_metrics(rows: list[dict[str, Any]], most: int = 4) -> list[str]:
    """Return which metrics a table shows: the usual ones, where there are none the first numbers there are."""
    there = {name for row in rows for name, value in row["metrics"].items() if isinstance(value, float)}
    usual = [metric for metric in SHOWN_METRICS if metric in there]
    return usual or sorted(there)[:most]


def _arrow(alias: str, to: object) -> str:
    # In a narrow column the line breaks between two aliases, not within one.
    space = "\u00a0" if tables.on_terminal() else " "
    return f"{alias}{space}→{space}{to}"


def style(alias: str) -> str:
    return "bold green" if alias == "production" else "cyan"


def tags(found: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in found.items())
