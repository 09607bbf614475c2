"""How the commands print: tables that fit the terminal, facts, marks, and JSON for scripts.

A terminal narrower than a table loses the columns that matter least, and is told which; a pipe gets every column and
one line for each row, however long. Texts of other people (tags, reasons, names of files) are printed as text: no
markup, no control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dkeras_core.cli.console import stderr, stdout

GAP = 2
FLEXIBLE = 20
"""Characters that a column of long texts keeps at least; more is folded."""

_UNITS = ("B", "kB", "MB", "GB", "TB")
GOOD, WARN, BAD = ("✓", "green"), ("!", "yellow"), ("✗", "red")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    ``rank`` 0 is always shown; of the others those of the highest rank go first, together, when the terminal is too
    narrow. A ``flexible`` column holds texts of any length, which are folded.
    """

    heading: str
    rank: int = 0
    right: bool = False
    flexible: bool = False


def show(columns: Sequence[Column], rows: Iterable[Sequence[Any]], header: bool = True) -> None:
    """Print a table. A cell is a str, a rich Text, or None; columns without any content are left out."""
    cells = [[_text(cell) for cell in row] for row in rows]
    filled = [at for at, column in enumerate(columns) if not column.rank or any(row[at].plain for row in cells)]
    console = stdout()
    shown, hidden = filled, []
    if console.is_terminal:
        shown, hidden = _fitting(columns, cells, filled, console.width, header)
    natural = sum(_width(columns[at], at, cells, header, None) + GAP for at in shown)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold", show_header=header)
    for at in shown:
        column = columns[at]
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            no_wrap=not (column.flexible and console.is_terminal),
            overflow="fold" if column.flexible else "ellipsis",
        )
    for row in cells:
        table.add_row(*(row[at] for at in shown))
    if not console.is_terminal:
        plain = Console(width=max(natural, 1), highlight=False, color_system=None)
        with plain.capture() as captured:
            plain.print(table)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
        return
    console.print(table)
    if hidden:
        names = ", ".join(dict.fromkeys(columns[at].heading or "…" for at in hidden))
        note(f"too narrow for: {names} (--json has everything)")


def _fitting(
    columns: Sequence[Column], cells: list[list[Text]], filled: list[int], width: int, header: bool
) -> tuple[list[int], list[int]]:
    """Leave out the columns of the highest ranks until the rest fits; return (shown, left out)."""
    shown = list(filled)

    def needed() -> int:
        return sum(_width(columns[at], at, cells, header, FLEXIBLE) + GAP for at in shown) - GAP

    while needed() > width and any(columns[at].rank for at in shown):
        highest = max(columns[at].rank for at in shown)
        shown = [at for at in shown if columns[at].rank != highest]
    return shown, [at for at in filled if at not in shown]


def _width(column: Column, at: int, cells: list[list[Text]], header: bool, flexible: int | None) -> int:
    widest = max((row[at].cell_len for row in cells), default=0)
    heading = len(column.heading) if header else 0
    if column.flexible and flexible is not None:
        widest = min(widest, flexible)
    return max(widest, heading)


def _text(cell: Any) -> Text:
    if isinstance(cell, Text):
        return cell
    return Text("" if cell is None else safe(str(cell)))


def safe(text: str) -> str:
    """Return ``text`` on one line, without what a terminal would obey."""
    return "".join(char if char.isprintable() else " " if char in "\n\t" else "�" for char in text)


def line(text: str, style: str = "") -> None:
    """Print one line of standard output, never broken."""
    stdout().print(Text(safe(text), style=style), soft_wrap=True)


def note(text: str) -> None:
    """Print a line about the table above, on terminals alone: in a pipe it would be one row more."""
    if stdout().is_terminal:
        line(text, "dim")


def facts(pairs: Mapping[str, Any], indent: str = "", width: int = 14) -> None:
    """Print name and value of each that is not None."""
    for name, value in pairs.items():
        if value is not None:
            body = value if isinstance(value, Text) else Text(safe(str(value)))
            stdout().print(Text(f"{indent}{name:<{width}} ").append_text(body), soft_wrap=True)


def checks(rows: Iterable[tuple[tuple[str, str], str, str, str | None]]) -> None:
    """Print the outcome of checks: (mark, name, message, what to do)."""
    rows = list(rows)
    width = max((len(name) for _, name, _, _ in rows), default=0)
    terminal = stdout().is_terminal
    grid = Table.grid(padding=(0, GAP, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for (sign, style), name, message, todo in rows:
        if terminal:
            grid.add_row(Text(sign, style=style), safe(name), safe(message))
            if todo:
                grid.add_row("", "", Text(f"next: {safe(todo)}", style="dim"))
        else:
            typer.echo(f"{sign} {name:<{width}}  {safe(message)}".rstrip())
            if todo:
                typer.echo(f"  {'':<{width}}  next: {safe(todo)}")
    if terminal and rows:
        stdout().print(grid)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False, default=_json))


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def when(time: datetime | str | float | None, seconds: bool = False) -> str | None:
    """``2026-11-23 01:45`` in UTC, from a datetime, its ISO form, or Unix seconds."""
    if time is None:
        return None
    if isinstance(time, int | float):
        moment = datetime.fromtimestamp(time, UTC)
    else:
        moment = (datetime.fromisoformat(time) if isinstance(time, str) else time).astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}" if seconds else f"{moment:%Y-%m-%d %H:%M}"


def size(count: int | None) -> str | None:
    """``812 B``, ``1.2 MB``."""
    if count is None:
        return None
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, len(_UNITS) - 1)
    value = count / 1000**power
    return f"{value:.1f} {_UNITS[power]}" if value < 99.95 else f"{value:.0f} {_UNITS[power]}"


def number(value: Any) -> str | None:
    """A metric: four decimals, counts with thousands separated."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if abs(value) >= 5e-4 or value == 0 else f"{value:.2e}"


def plural(count: int, thing: str, things: str | None = None) -> str:
    """``1 version``, ``2 versions``."""
    return f"{count:,} {thing if count == 1 else things or thing + 's'}"


def on_terminal() -> bool:
    return stdout().is_terminal


def warn(text: str) -> None:
    """Print a warning to standard error."""
    stderr().print(Text.assemble(("warning", "bold yellow"), " ", safe(text)), soft_wrap=True)


def text(styled: Text) -> None:
    stdout().print(styled, soft_wrap=True)


def heading(title: str) -> None:
    """Print the title of a part, with an empty line before it."""
    stdout().print()
    text(Text(title, style="bold"))
