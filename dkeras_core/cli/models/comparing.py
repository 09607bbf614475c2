"""`dkeras models compare`: two versions side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from dkeras_core.cli.models import completion, reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, Model, Root
from dkeras_core.cli.models.showing import Shown, interval, is_number, look, ordered
from dkeras_core.cli.models.tables import Column

if TYPE_CHECKING:
    from dkeras_core.registry import Version


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
    for name in ordered(first.manifest.metrics):
        value, against = first.manifest.metrics[name], second.manifest.metrics.get(name)
        if not is_number(value) or not is_number(against):
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
    from dkeras_core.evaluation.metrics import METRIC_NAMES

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
        if name not in METRIC_NAMES and math.isclose(*values, rel_tol=1e-9):
            continue  # a count of the same rows
        colour = {True: "green", False: "red", None: ""}[found["better"]] if _apart(found["intervals"]) else ""
        judged = Text({True: "better", False: "worse", None: ""}[found["better"]], colour)
        rows.append(
            (
                name,
                tables.number(values[0]),
                interval(first, name),
                tables.number(values[1]),
                interval(second, name),
                _signed(found["difference"]),
                judged,
            )
        )
    if rows:
        tables.show(columns, rows)
    else:
        tables.line(f"{first.version} and {second.version} have no metric in common")


def _apart(intervals: Sequence[Sequence[float] | None]) -> bool:
    """Whether two intervals are known and do not overlap: what may be chance has no colour."""
    first, second = intervals
    return bool(first and second) and (first[0] > second[1] or second[0] > first[1])


def _title(shown: Shown) -> str:
    return f"{shown.version} {shown.aliases[0]}" if shown.aliases else str(shown.version)


def _signed(value: float) -> str:
    if value == 0:
        return "0"
    return f"{'+' if value > 0 else '−'}{tables.number(abs(value))}"


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
