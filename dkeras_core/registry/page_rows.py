"""What the page says in words and numbers: cards, rows and events, ready for the template."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from dkeras_core.evaluation import text
from dkeras_core.registry import page_events, page_figures
from dkeras_core.registry.catalog import Summary
from dkeras_core.registry.overview import Alias, Model, Overview, interval, value

METRICS = ("roc_auc", "log_loss", "ams", "accuracy", "f1", "brier", "calibration_error")
NO_METRICS = frozenset({"rows", "positives", "negatives", "threshold", "roc_auc_se"})
FIGURES, COLUMNS = 6, 4
RECENT = 12
BLOCK = 100
GENERATIONS = 8
GONE = 200  # deleted versions that are listed, the newest
UNFOLDED = 4  # models that a page shows in full; of more it shows the aliases, and the rest on a click
SOURCES = (
    ("data", "data_fingerprint"), ("code", "code"), ("environment", "environment"), ("pipeline", "pipeline"),
)  # fmt: skip


def moment(time: datetime | None) -> str:
    """Return a time to the second, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S}" if time else text.NONE


def minute(time: datetime | None) -> str:
    """Return a time to the minute, UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" if time else text.NONE


def day(time: datetime | None) -> str:
    """Return a day in words."""
    return f"{time.astimezone(UTC).day} {time.astimezone(UTC):%B %Y}" if time else text.NONE


def context(overview: Overview) -> dict[str, Any]:
    """Return what the template draws."""
    return {
        "root": overview.root,
        "time": overview.time,
        "models": [_model(model, overview) for model in overview.models],
        "versions": sum(len(model.versions) for model in overview.models),
        "notices": sum(len(model.notices) for model in overview.models),
        "folded": len(overview.models) > UNFOLDED,
    }


def _model(model: Model, overview: Overview) -> dict[str, Any]:
    metrics = _metrics(model)
    figures = [page_figures.over_versions(model, metric, overview.time) for metric in metrics[:FIGURES]]
    columns = metrics[:COLUMNS]
    names = _names(model)
    rows = [_row(summary, columns, names) for summary in model.versions]
    recent = len(rows) if len(rows) <= RECENT + 8 else RECENT
    events = page_events.rows(model.events)
    return {
        "name": model.name,
        "count": len(model.versions),
        "production": model.production,
        "newest": model.versions[0] if model.versions else None,
        "changed": model.changed,
        "metric": metrics[0] if metrics else None,
        "spark": page_figures.sparkline(model, metrics[0]) if metrics else "",
        "production_value": _production_value(model, metrics),
        "notices": model.notices,
        "cards": [_card(model, alias, metrics) for alias in model.aliases],
        "figures": [figure for figure in figures if figure],
        "ancestry": _ancestry(model, metrics),
        "current": _current(model, overview.root),
        "columns": columns,
        "recent": rows[:recent],
        "blocks": _blocks(rows[recent:], columns),
        "deleted": model.deleted[:GONE],
        "gone": len(model.deleted),
        "events": events[:RECENT],
        "older_events": events[RECENT:],
        "more": model.more,
    }


def _metrics(model: Model) -> list[str]:
    """Return the metrics of this model, the best known first; numbers that are no figure of merit are left out."""
    every = [*model.versions, *model.deleted]
    found = {name for summary in every for name in summary.metrics if value(summary, name) is not None}
    known = [name for name in METRICS if name in found]
    return known or sorted(name for name in found - NO_METRICS if not name.endswith("_threshold"))


def _production_value(model: Model, metrics: Sequence[str]) -> float | None:
    pointer = model.production.pointer if model.production else None
    return value(model.version(pointer.number), metrics[0]) if pointer and metrics else None


def _names(model: Model) -> dict[int, list[str]]:
    named: dict[int, list[str]] = {}
    for alias in model.aliases:
        if alias.pointer:
            named.setdefault(alias.pointer.number, []).append(alias.name)
    return named


def _card(model: Model, alias: Alias, metrics: Sequence[str]) -> dict[str, Any]:
    """Return an alias: what it names, how good that is, since when, by whom, and whether it was forced."""
    number, entry = alias.pointer.number if alias.pointer else None, alias.entry
    summary = model.version(number)
    metric = metrics[0] if metrics else None
    before = entry.before.version if entry else None
    change = None
    if metric and before is not None:
        change = text.change(metric, value(summary, metric), value(model.version(before), metric))
    return {
        "alias": alias.name,
        "number": number,
        "there": summary is not None and summary.deleted is None,
        "trouble": _trouble(alias, summary),
        "metric": metric,
        "value": value(summary, metric) if metric else None,
        "half": _half(summary, metric) if metric else None,
        "change": change,
        "before": before,
        "entry": entry,
    }


def _trouble(alias: Alias, summary: Summary | None) -> str:
    """Return in a word what is wrong with the version of an alias; empty when nothing is known to be."""
    if alias.pointer is None or summary is None or summary.deleted:
        return "missing" if alias.pointer else ""
    if summary.problem:
        return "damaged"
    return "changed" if alias.pointer.digest not in (None, summary.digest) else ""


def _half(summary: Summary | None, metric: str) -> float | None:
    """Return half the width of the 95 % interval."""
    span = interval(summary, metric)
    return (span[1] - span[0]) / 2 if span else None


def _row(summary: Summary, columns: Sequence[str], names: dict[int, list[str]]) -> dict[str, Any]:
    return {
        "summary": summary,
        "number": summary.number,
        "aliases": names.get(summary.number, []),
        "measured": [(value(summary, metric), _half(summary, metric)) for metric in columns],
    }


def _blocks(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the older versions by the hundred of their numbers, each block with a line that tells what is in it."""
    blocks: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        blocks.setdefault((row["number"] - 1) // BLOCK, []).append(row)
    result = []
    for part in blocks.values():
        times = [row["summary"].created for row in part if row["summary"].created]
        valued = [row for row in part if columns and row["measured"][0][0] is not None]
        lower = bool(columns) and columns[0] in text.LOWER_IS_BETTER
        best = (min if lower else max)(valued, key=lambda row: row["measured"][0][0]) if valued else None
        result.append(
            {
                "rows": part,
                "numbers": " to ".join(str(n) for n in sorted({part[-1]["number"], part[0]["number"]})),
                "days": _days(min(times), max(times)) if times else "",
                "best": best,
                "named": sorted({alias for row in part for alias in row["aliases"]}),
            }
        )
    return result


def _days(first: datetime, last: datetime) -> str:
    """Return the days of a time, year and month once when they are the same."""
    if first.date() == last.date():
        return day(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day} to {day(last)}"
    return f"{first.day} {first:%B} to {day(last)}" if first.year == last.year else f"{day(first)} to {day(last)}"


def _ancestry(model: Model, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return the current version, the one it was compared with, that one's, and so on, with what changed."""
    steps, seen, summary = [], set(), model.current
    if summary is not None and summary.problem:
        return []
    metric = metrics[0] if metrics else None
    while summary is not None and summary.number not in seen and len(steps) < GENERATIONS:
        seen.add(summary.number)
        number = summary.lineage.parent
        parent = model.version(number)
        new, same = _sources(summary, parent) if parent is not None else ([], [])
        step = {
            "summary": summary,
            "parent": number,
            "known": parent is not None and parent.problem is None,
            "value": value(summary, metric) if metric else None,
            "change": text.change(metric, value(summary, metric), value(parent, metric)) if metric else None,
            "new": new,
            "same": same,
            "further": False,
        }
        steps.append(step)
        summary = parent
    if steps and summary is not None:
        steps[-1]["further"] = True
    return steps


def _sources(summary: Summary, parent: Summary) -> tuple[list[str], list[str]]:
    """Return what of the two's making differs, and what is the same; what is unknown on either side is left out."""
    pairs = [(name, getattr(summary.lineage, key), getattr(parent.lineage, key)) for name, key in SOURCES]
    known = [(name, one == other) for name, one, other in pairs if one is not None and other is not None]
    return [name for name, same in known if not same], [name for name, same in known if same]


def _current(model: Model, root: str) -> dict[str, Any] | None:
    summary = model.current
    if summary is None:
        return None
    lineage = summary.lineage
    facts = [
        ("Path", f"{root}/models/{model.name}/versions/{summary.number}", True),
        ("Published", f"{moment(summary.created)} UTC by {summary.user}" if summary.created else None, False),
        ("Run", summary.run, True),
        ("Application", lineage.application, True),
        ("Pipeline", lineage.pipeline, True),
        ("Data", lineage.data_path, True),
        ("Data fingerprint", lineage.data_fingerprint, True),
        ("Environment", lineage.environment, True),
        ("Code", lineage.code, True),
        ("SHA-256 of the manifest", summary.digest, True),
        (
            "Size",
            f"{text.size(summary.bytes)} in {_counted(summary.files, 'file')}" if summary.bytes is not None else None,
            False,
        ),
        ("Tags", ", ".join(f"{key}={tag}" for key, tag in sorted(summary.tags.items())) or None, False),
    ]
    return {
        "number": summary.number,
        "facts": [fact for fact in facts if fact[1]],
        "synthetic": bool((lineage.model_extra or {}).get("synthetic")),
    }


def _counted(number: int | None, word: str) -> str:
    return f"{text.count(number)} {word}{'' if number == 1 else 's'}"
