"""`dkeras models history`: who changed what, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dkeras_core.cli.models import completion, reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, Root
from dkeras_core.cli.models.listing import tags
from dkeras_core.cli.models.tables import Column

if TYPE_CHECKING:
    from dkeras_core.registry.audit import Entry, Event

NEWEST = 20
"""Events that a terminal shows unless asked for more."""


def history(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A model; NAME@ALIAS and NAME@NUMBER are only what happened to that.",
            autocompletion=completion.models,
        ),
    ],
    every: Annotated[bool, typer.Option("--all", help=f"On a terminal, more than the {NEWEST} newest.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, when and why.

    The newest first: promotions, roll-backs, tags, archiving, deletions. An attempt that ended before it took effect is
    shown as not applied.

    Example: dkeras models history higgs@production
    """
    from dkeras_core.registry import names

    registry = reference.open_registry(root)
    name, which = reference.split(model)
    reference.known(registry, name)
    number = names.version_number(which) if which is not None else None
    alias = names.alias_name(which) if which is not None and number is None else None
    short = tables.on_terminal() and not every and not as_json
    found = registry.history(name, alias, NEWEST + 1 if short and number is None else None)
    if number is not None:
        found = [event for event in found if number in (event.entry.version, event.entry.before.version)]
    for what in reference.pointers(registry, name)[1].values():
        tables.warn(f"{what}: which of its changes were applied is not known")
    if as_json:
        tables.print_json([event.entry.model_dump(mode="json") | {"applied": event.applied} for event in found])
        return
    if not found:
        tables.line(f"nothing happened to {model} yet")
        return
    columns = [
        Column("time (UTC)"),
        Column("what"),
        Column("change"),
        Column("by"),
        Column("on", 1),
        Column("why", flexible=True),
    ]
    tables.show(columns, [_cells(event) for event in (found[:NEWEST] if short else found)])
    if short and len(found) > NEWEST:
        tables.note("there is more: --all")


def _cells(event: Event) -> list[Any]:
    entry = event.entry
    cells = [tables.when(entry.time, seconds=True), entry.action, change(entry), entry.user, entry.host, _why(event)]
    if event.applied:
        return cells
    return [cell if isinstance(cell, Text) else Text(tables.safe(cell), "dim") for cell in cells]


def change(entry: Entry) -> str:
    """``production 5 → 7`` of an alias, else the version."""
    if entry.alias is None:
        return str(entry.version)
    return f"{entry.alias} {entry.before.version or 'none'} → {entry.version}"


def _why(event: Event) -> Text:
    entry, why = event.entry, Text()
    parts = []
    if not event.applied:
        parts.append(Text("not applied", "red"))
    if entry.forced:
        failed = [str(check.get("name")) for check in entry.checks if not check.get("passed")]
        parts.append(Text(f"forced past {', '.join(failed)}" if failed else "forced", "yellow"))
    if entry.action == "tag":
        changed = entry.detail
        text = [tags(changed.get("set", {})), *(f"without {key}" for key in changed.get("removed", {}))]
        parts.append(Text(tables.safe(", ".join(one for one in text if one))))
    if entry.reason:
        parts.append(Text(tables.safe(entry.reason)))
    return why.append_text(Text("; ").join(parts))
