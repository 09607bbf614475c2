"""`dkeras models show` and `compare`: one version in full, two side by side."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dkeras_core.cli.models import completion, reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, Model, Root
from dkeras_core.cli.models.listing import style, tags
from dkeras_core.cli.models.tables import Column

if TYPE_CHECKING:
    from dkeras_core.registry import Manifest, Registry, Version
    from dkeras_core.registry.marks import Mark


@dataclass(frozen=True)
class Shown:
    """What is known of a version; ``digest`` is the SHA-256 of its manifest."""

    version: Version
    manifest: Manifest
    digest: str
    mark: Mark
    aliases: list[str]

    def to_json(self) -> dict[str, Any]:
        found = {"version": self.version.number, "path": self.version.path, "digest": self.digest}
        marked = self.mark.model_dump(mode="json", include={"tags", "archived"})
        return found | {"aliases": self.aliases} | marked | self.manifest.model_dump(mode="json")

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Return the 95 % interval of a metric where it is known."""
        found = (self.manifest.metrics.get("intervals") or {}).get(metric)
        return tuple(found) if isinstance(found, list | tuple) and len(found) == 2 and None not in found else None


def look(registry: Registry, text: str) -> Shown:
    """Read all that is known of a version; RegistryError when it is damaged."""
    from dkeras_core.registry import marks

    version = reference.find(registry, text)
    with ThreadPoolExecutor(4) as readers:
        manifest, digest = readers.submit(version.manifest), readers.submit(version.digest)
        mark = readers.submit(marks.read, registry, version.name, version.number)
        aliases, _ = reference.pointers(registry, version.name)
        named = [alias for alias, number in aliases.items() if number == version.number]
        return Shown(version, manifest.result(), digest.result(), mark.result(), named)


def show(model: Model, root: Root = DEFAULT_ROOT, as_json: AsJson = False) -> None:
    """Show a version: where it is, where it comes from, how good it is.

    Example: dkeras models show higgs@production
    """
    shown = look(reference.open_registry(root), model)
    if as_json:
        tables.print_json(shown.to_json())
        return
    manifest, mark = shown.manifest, shown.mark
    head = Text(str(shown.version), style="bold")
    for alias in shown.aliases:
        head.append("  ").append(alias, style=style(alias))
    tables.text(head)
    archived = mark.archived
    tables.facts(
        {
            "path": shown.version.path,
            "published": f"{tables.when(manifest.created, seconds=True)} UTC by {manifest.user}",
            "run": manifest.run,
            "tags": tags(mark.tags) or None,
            "archived": archived
            and Text(f"{tables.when(archived.time)} UTC by {archived.user}: {tables.safe(archived.reason)}", "yellow"),
            "manifest": f"SHA-256 {shown.digest}",
        }
    )
    lineage = {name: value for name, value in manifest.lineage.model_dump().items() if value is not None}
    if lineage:
        tables.heading("lineage")
        tables.facts(lineage, "  ", max(map(len, lineage)))
    numbers = {name: value for name, value in manifest.metrics.items() if _is_number(value) or value is None}
    if numbers:
        columns = [Column("name"), Column("value", right=True), Column("95 % interval", 1)]
        rows = [(f"  {name}", tables.number(value), _interval(shown, name)) for name, value in numbers.items()]
        tables.heading("metrics, 95 % intervals" if any(row[2] for row in rows) else "metrics")
        tables.show(columns, rows, header=False)
    total = sum(entry.size for entry in manifest.files.values())
    tables.heading(f"{tables.plural(len(manifest.files), 'file')}, {tables.size(total)}")
    columns = [Column("file"), Column("bytes", right=True), Column("SHA-256", 1)]
    rows = [(f"  {name}", f"{e.size:,}", f"{e.sha256[:16]}…") for name, e in sorted(manifest.files.items())]
    tables.show(columns, rows, header=False)


def compare(
    model: Model,
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER",
            help="Compare with this one; @ALIAS and @NUMBER are of the same model.",
            show_default="@production",
            autocompletion=completion.models,
        ),
    ] = None,
    root: Root = DEFAULT_ROOT,
    as_json: AsJson = False,
) -> None:
    """Compare two versions: metrics, lineage, signature and files.

    Example: dkeras models compare higgs@7 higgs@5
    """
    registry = reference.open_registry(root)
    other = other or "@production"
    if other.startswith("@"):
        other = reference.split(model)[0] + other
    first, second = look(registry, model), look(registry, other)
    metrics = compare_metrics(first, second)
    lineage = _differences(_origin(first), _origin(second))
    files = compare_files(first, second)
    same_data = first.manifest.lineage.data_fingerprint == second.manifest.lineage.data_fingerprint
    signature = compare_signatures(first.version, second.version)
    if as_json:
        tables.print_json(
            {
                "versions": [one.to_json() for one in (first, second)],
                "metrics": metrics,
                "same_data": same_data,
                "lineage": lineage,
                "files": files,
                "signature": signature,
            }
        )
        return
    _show_metrics(first, second, metrics)
    if metrics and not same_data:
        tables.warn("the two were measured on different data: their metrics do not compare")
    tables.heading("lineage" if lineage else "lineage: the same")
    columns = [Column("name"), Column(str(first.version), flexible=True), Column(str(second.version), flexible=True)]
    tables.show(columns, [(f"  {name}", *pair) for name, pair in lineage.items()], header=False)
    _show_signatures(first, second, signature)
    tables.heading("files" if any(files.values()) else "files: the same")
    for said, found in files.items():
        if found:
            tables.facts({said.replace("_", " "): ", ".join(found)}, "  ", 15)


def compare_metrics(first: Shown, second: Shown) -> dict[str, dict[str, Any]]:
    """Return for each metric of both: values, intervals, the difference and whether the first is better.

    ``better`` is None for numbers that are neither better nor worse, such as a count of rows.
    """
    from dkeras_core.evaluation.metrics import LOWER_IS_BETTER, METRIC_NAMES

    found = {}
    for name, value in first.manifest.metrics.items():
        against = second.manifest.metrics.get(name)
        if not _is_number(value) or not _is_number(against):
            continue
        gain = value - against
        judged = name in METRIC_NAMES and gain != 0
        found[name] = {
            "values": [value, against],
            "intervals": [first.interval(name), second.interval(name)],
            "difference": gain,
            "better": (gain < 0) == (name in LOWER_IS_BETTER) if judged else None,
        }
    return found


def compare_files(first: Shown, second: Shown) -> dict[str, list[str]]:
    """Return which files differ, and which only one of the two has."""
    mine, its = first.manifest.files, second.manifest.files
    return {
        "changed": sorted(name for name in mine.keys() & its.keys() if mine[name].sha256 != its[name].sha256),
        f"only_{first.version}": sorted(mine.keys() - its.keys()),
        f"only_{second.version}": sorted(its.keys() - mine.keys()),
    }


def _show_metrics(first: Shown, second: Shown, metrics: Mapping[str, Mapping[str, Any]]) -> None:
    columns = [
        Column("metric"),
        Column(_title(first), right=True),
        Column("95 % interval", 2),
        Column(_title(second), right=True),
        Column("95 % interval", 2),
        Column("difference", right=True),
        Column("", 1),
    ]
    rows = []
    for name, found in metrics.items():
        values = found["values"]
        judged = {True: Text("better", "green"), False: Text("worse", "red"), None: None}[found["better"]]
        rows.append(
            (
                name,
                tables.number(values[0]),
                _interval(first, name),
                tables.number(values[1]),
                _interval(second, name),
                _signed(found["difference"]),
                judged,
            )
        )
    if rows:
        tables.show(columns, rows)
    else:
        tables.line(f"{first.version} and {second.version} have no metric in common")


def _title(shown: Shown) -> str:
    return f"{shown.version} {shown.aliases[0]}" if shown.aliases else str(shown.version)


def _interval(shown: Shown, metric: str) -> str | None:
    found = shown.interval(metric)
    return f"{tables.number(found[0])} – {tables.number(found[1])}" if found else None


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return f"{'+' if value > 0 else '−'}{tables.number(abs(value))}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _origin(shown: Shown) -> dict[str, Any]:
    manifest = shown.manifest
    own = {"published": f"{tables.when(manifest.created)} UTC", "user": manifest.user, "run": manifest.run}
    return own | manifest.lineage.model_dump()


def _differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Any]]:
    names = dict.fromkeys([*first, *second])
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def compare_signatures(first: Version, second: Version) -> dict[str, Any] | None:
    """Return how the columns that go in and what comes out differ, and whether the first can take the second's place.

    None when one of the two has no signature.
    """
    from dkeras_core.registry.signature import Signature, incompatibilities

    mine, its = (Signature.read(version.storage, version.path) for version in (first, second))
    if mine is None or its is None:
        return None
    columns, others = ({column.name: column.type for column in one.inputs} for one in (mine, its))
    said = [f"only {first} takes {name} ({kind})" for name, kind in columns.items() if name not in others]
    said += [f"only {second} takes {name} ({kind})" for name, kind in others.items() if name not in columns]
    for name in columns.keys() & others.keys():
        if columns[name] != others[name]:
            said.append(f"{name} is {columns[name]} in {first}, {others[name]} in {second}")
    if None not in (mine.outputs, its.outputs) and mine.outputs != its.outputs:
        gives = [", ".join(map(str, one.outputs)) for one in (mine, its)]
        said.append(f"{first} gives {gives[0]}, {second} gives {gives[1]}")
    return {"differences": said, "compatible": not incompatibilities(mine, its)}


def _show_signatures(first: Shown, second: Shown, found: dict[str, Any] | None) -> None:
    if found is None:
        tables.heading("signature: not known of both")
        return
    tables.heading("signature" if found["differences"] else "signature: the same")
    for line in found["differences"]:
        tables.line(f"  {line}")
    if found["differences"]:
        can = "can" if found["compatible"] else "cannot"
        tables.line(f"  callers of {second.version} {can} be served by {first.version}")
