"""`dkeras models init` and `doctor`: who may do what in the registry."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from dkeras_core.cli.models import reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, OptionalName, Root
from dkeras_core.errors import RegistryError

_MARKS = {"error": tables.BAD, "warning": tables.WARN, "note": ("·", "dim")}


def init(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="One model, which need not exist yet.", show_default="all")
    ] = None,
    publishers: Annotated[str | None, typer.Option(metavar="GROUP", help="Group that may publish.")] = None,
    operators: Annotated[str | None, typer.Option(metavar="GROUP", help="Group that may promote.")] = None,
    owner: Annotated[str | None, typer.Option(metavar="USER", help="Who shall own the folders.")] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Set up who may publish and who may promote.

    All may read, and nobody may change a version. It may be repeated; the groups are remembered. What only an
    administrator may do is printed as commands.

    Example: dkeras models init --publishers training --operators ops
    """
    from dkeras_core.registry import permissions

    registry = reference.open_registry(root)
    setup = permissions.init(registry, name, publishers=publishers, operators=operators, owner=owner)
    if as_json:
        tables.print_json({"done": list(setup.done), "left": list(setup.left)})
        return
    for done in setup.done:
        tables.line(done)
    if setup.left:
        tables.line("left for an administrator of the file system:", "bold")
        for command in setup.left:
            tables.line(f"  {command}")
    elif not setup.done:
        tables.line("everything is set up already")


def doctor(name: OptionalName = None, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Check owners and modes of the registry.

    Exit code 7 when something is wrong. The commands that mend it are printed.

    Example: dkeras models doctor higgs
    """
    from dkeras_core.registry import permissions

    registry = reference.open_registry(root)
    if name is not None:
        reference.known(registry, name)
    findings = permissions.doctor(registry, name)
    errors = [finding for finding in findings if finding.level == "error"]
    if as_json:
        tables.print_json([_json(finding) for finding in findings])
    else:
        for finding in findings:
            tables.text(Text.assemble(_MARKS[finding.level], " ", tables.safe(f"{finding.path}: {finding.what}")))
            for command in finding.mend:
                tables.line(f"    {command}")
        if all(finding.level == "note" for finding in findings):
            tables.line(f"{registry.layout.models()}: owners and modes are as they should be")
    if errors:
        raise RegistryError(
            f"{tables.plural(len(errors), 'thing')} below {registry.layout.models()} must be mended",
            "Run the commands above, `dkeras models init` first; some need an administrator.",
        )


def _json(finding: Any) -> dict[str, Any]:
    return {"level": finding.level, "path": finding.path, "what": finding.what, "mend": list(finding.mend)}
