"""`dkeras models verify`, `pull`, `export` and `page`: what reads whole versions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dkeras_core.cli.interruption import terminable
from dkeras_core.cli.models import asking, reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, Many, Model, Root
from dkeras_core.errors import DkerasError, RegistryError

if TYPE_CHECKING:
    from dkeras_core.registry import Registry, Version

_SUSPECT = "Use another version, and find out who wrote there."


def verify(
    models: Many,
    every: Annotated[bool, typer.Option("--all", help="Every version of the models that are named.")] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Read and hash every file of a version.

    Exit code 7 when a file is missing, changed or too many. By NAME@ALIAS it is also compared with what was promoted,
    so that a manifest that was exchanged is found.

    Example: dkeras models verify higgs@production
    """
    registry = reference.open_registry(root)
    rows = []
    with asking.working("verifying") as say:
        for text in models:
            for version in _all_of(registry, text) if every else [reference.find(registry, text)]:
                say(f"reading every file of {version}")
                problems = version.verify() or reference.exchanged(registry, version, text)
                rows.append({"model": version.name, "version": version.number, "path": version.path})
                rows[-1]["problems"] = problems
    if as_json:
        tables.print_json(rows)
    damaged = [row for row in rows if row["problems"]]
    for row in rows if not as_json else []:
        if not row["problems"]:
            tables.line(f"{row['model']}@{row['version']} is whole: {row['path']}")
    if damaged:
        said = (f"{row['model']}@{row['version']} [{row['path']}]: {'; '.join(row['problems'])}" for row in damaged)
        raise RegistryError(f"damaged: {'. '.join(said)}", _SUSPECT)


def _all_of(registry: Registry, text: str) -> list[Version]:
    name = reference.known(registry, reference.split(text)[0])
    return [registry.at(name, number) for number in registry.versions(name)]


def pull(
    model: Model,
    folder: Annotated[Path | None, typer.Argument(help="New folder for it.", show_default="NAME-NUMBER here")] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Download a version.

    It is verified; the folder appears whole or not at all.

    Example: dkeras models pull higgs@production model
    """
    registry = reference.open_registry(root)
    version = reference.find(registry, model)
    other = reference.exchanged(registry, version, model)
    if other:
        raise RegistryError(f"{version} [{version.path}]: {other[0]}", _SUSPECT)
    with terminable(), asking.working(f"downloading {version}"):
        local = version.fetch(folder or Path(f"{version.name}-{version.number}"))
    if as_json:
        tables.print_json({"version": version.number, "path": version.path, "folder": str(local)})
    else:
        tables.line(f"{version} -> {local}")


def export(
    model: Model,
    target: Annotated[
        str, typer.Argument(metavar="FOLDER", help="The model's base folder: on this machine, or hdfs://.")
    ],
    keep: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Keep only the K highest versions there.", show_default="all")
    ] = None,
    supersede: Annotated[
        bool, typer.Option("--supersede", help="Remove higher numbers: an older version is served again.")
    ] = False,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Put a version where TensorFlow Serving polls.

    FOLDER/NUMBER appears whole, by one rename. TensorFlow Serving serves the highest number. After a roll-back,
    --supersede takes the higher ones away.

    Example: dkeras models export higgs@production /srv/models/higgs --keep 3
    """
    from dkeras_core.registry import serving

    registry = reference.open_registry(root)
    version = reference.find(registry, model)
    promised = reference.promised(registry, version, model)
    with terminable(), asking.working(f"exporting {version}") as say:
        made = serving.export(
            registry, version, target, keep=keep, supersede=supersede, expected=promised, progress=say
        )
    if as_json:
        tables.print_json({"version": version.number, "path": made.path, "made": made.made, "removed": made.removed})
        return
    removed = f"; removed {', '.join(map(str, made.removed))}" if made.removed else ""
    tables.line(f"{version} -> {made.path}{'' if made.made else ' (was there already)'}{removed}")


def page(
    file: Annotated[
        Path | None, typer.Argument(help="A file of this machine.", show_default="ROOT/models/index.html")
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Write the page of all models, an HTML file that needs no network.

    It is also written after each publication and change, where who does that may.

    Example: dkeras models page models.html
    """
    from dkeras_core.registry import page as pages

    registry = reference.open_registry(root)
    with asking.working("drawing the page"):
        if file is None:
            written = pages.write(registry)
        else:
            html = pages.render(registry)
            try:
                file.write_text(html, encoding="utf-8")
            except OSError as error:
                raise DkerasError(f"{file}: {error.strerror}", "Choose another file.") from error
            written = str(file.absolute())
    if as_json:
        tables.print_json({"path": written})
    else:
        tables.line(f"page {written}")
