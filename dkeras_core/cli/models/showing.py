"""`dkeras models show`: one version in full."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

from dkeras_core.cli.models import reference, tables
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, AsJson, Model, Root
from dkeras_core.cli.models.listing import SHOWN_METRICS, style, tags
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
    metrics = manifest.metrics
    numbers = {name: metrics[name] for name in ordered(metrics) if metrics[name] is None or is_number(metrics[name])}
    if numbers:
        columns = [Column("name"), Column("value", right=True), Column("95 % interval", 1)]
        rows = [(f"  {name}", tables.number(value), interval(shown, name)) for name, value in numbers.items()]
        tables.heading("metrics, 95 % intervals" if any(row[2] for row in rows) else "metrics")
        tables.show(columns, rows, header=False)
    total = sum(entry.size for entry in manifest.files.values())
    tables.heading(f"{tables.plural(len(manifest.files), 'file')}, {tables.size(total)}")
    columns = [Column("file"), Column("bytes", right=True), Column("SHA-256", 1)]
    rows = [(f"  {name}", f"{e.size:,}", f"{e.sha256[:16]}…") for name, e in sorted(manifest.files.items())]
    tables.show(columns, rows, header=False)


def ordered(metrics: Iterable[str]) -> list[str]:
    """Return the names of metrics as one reads them: the usual ones, all others that are judged, then figures."""
    from dkeras_core.evaluation.metrics import METRIC_NAMES

    first = dict.fromkeys((*SHOWN_METRICS, *METRIC_NAMES))
    return [*(name for name in first if name in metrics), *sorted(set(metrics) - first.keys())]


def interval(shown: Shown, metric: str) -> str | None:
    found = shown.interval(metric)
    return f"{tables.number(found[0])} – {tables.number(found[1])}" if found else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
