"""The decisions of a retraining that need no Spark: is there anything new, is it good enough, what to show."""

from __future__ import annotations

from typing import Any

from dkeras_core.airflow.hdfs import read_json, storage_of
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, DkerasError
from dkeras_core.paths import Layout
from dkeras_core.registry import Registry, Version, catalog

SHAPING = ("schema_", "split", "features", "model", "algorithm", "training")
"""Sections of the pipeline file that decide which model comes out."""

LOOKED_AT = 20
_COMPARING = ("comparison", "significance")

SHOWN = ("roc_auc", "log_loss", "accuracy", "f1", "ams")


def reason_to_train(root: str, run: str) -> str | None:
    """Return why the run should train, None when a version was made from the same data and settings.

    Archived versions do not count, and of those made from the same data the newest :data:`LOOKED_AT` do.

    Raises
    ------
    ConfigError
        The run has not preprocessed its data.
    StorageError
        HDFS does not answer.
    """
    storage, layout = storage_of(root), Layout(root)
    dataset = read_json(storage, f"{layout.run(run)}/preprocess.json")
    if dataset is None:
        raise ConfigError(f"run {run} has no preprocess.json", "clear the task preprocess")
    pipeline = Pipeline.parse(storage.read_bytes(f"{layout.run(run)}/pipeline.yaml").decode(), f"run {run}")
    registry, model = Registry(storage, root), pipeline.registry.model
    versions = [one for one in catalog.summaries(registry, model) if not one.problem and not one.archived]
    if not versions:
        return f"there is no version of {model} yet"
    own = next((one for one in versions if one.run == run), None)
    if own:
        return f"{model}@{own.number} is this run's own"
    same = [one for one in versions if one.lineage.data_fingerprint == dataset["fingerprint"]]
    if not same:
        return f"the data changed since {model}@{versions[0].number}"
    if pipeline.model.files or pipeline.model.json_file:
        return "the model's own files may have changed"
    reasons = []
    for one in same[:LOOKED_AT]:
        reasons.append(_changes(registry.at(model, one.number), pipeline))
        if reasons[-1] is None:
            return None
    return reasons[0]


def _changes(version: Version, pipeline: Pipeline) -> str | None:
    try:
        text = version.storage.read_bytes(f"{version.path}/pipeline.yaml").decode()
        before = Pipeline.parse(text, f"{version}")
    except DkerasError as error:
        return f"what {version} was made from cannot be read: {error.what}"
    changed = [name.rstrip("_") for name in SHAPING if getattr(before, name) != getattr(pipeline, name)]
    if before.workers != pipeline.workers:
        changed.append("workers")
    return f"settings changed since {version}: {', '.join(changed)}" if changed else None


def failed_gates(root: str, run: str) -> list[str]:
    """Return what the evaluation's gates say of the run's model, one sentence for each that failed."""
    metrics = read_json(storage_of(root), f"{Layout(root).run(run)}/metrics.json")
    if metrics is None:
        raise ConfigError(f"run {run} has no metrics.json", "clear the task evaluate")
    return [gate["message"] for gate in metrics["gates"] if not gate["passed"]]


def published(root: str, run: str) -> dict[str, Any]:
    """Return what the run published: {"model", "version", "path"}."""
    found = read_json(storage_of(root), f"{Layout(root).run(run)}/publish.json")
    if found is None:
        raise ConfigError(f"run {run} has no publish.json", "clear the task publish")
    return found


def comparison(registry: Registry, name: str, number: int, current: int | None) -> str:
    """Return a table (Markdown) of a version's figures, beside those of the one it would replace and the difference."""
    versions = [registry.version(name, number), *([registry.version(name, current)] if current else [])]
    manifests = [version.manifest() for version in versions]
    titles = ["", *map(str, versions), *(["difference"] if current else [])]
    rows = [titles, ["---"] * len(titles)]
    for metric in SHOWN:
        values = [one.metrics.get(metric) for one in manifests]
        if any(isinstance(value, float) for value in values):
            rows.append([metric, *(_figure(one.metrics, metric) for one in manifests), *_difference(*values)])
    rows.append(["trained on", *(one.lineage.data_fingerprint for one in manifests)])
    return "\n".join(f"| {' | '.join(str(cell or '') for cell in row)} |" for row in rows)


def checks_table(checks: list[dict[str, Any]]) -> str:
    """Return the outcome of a promotion's checks as Markdown."""
    lines = ["| check | | |", "|---|---|---|"]
    for check in checks:
        said = " ".join(str(check["message"]).replace("|", "/").split())
        lines.append(f"| {check['name']} | {'✓' if check['passed'] else '**✗ failed**'} | {said} |")
    return "\n".join(lines)


def checks_shown(checks: list[dict[str, Any]]) -> str:
    """Return what an approver needs of the checks, in few lines: what failed, and how it compares."""
    passed = [one["name"] for one in checks if one["passed"]]
    said = f"Passed: {', '.join(passed)}." if passed else ""
    if failed := [one for one in checks if not one["passed"]]:
        return f"{checks_table(failed)}\n\n{said}".strip()
    compared = [one for one in checks if one["name"] in _COMPARING and "no current version" not in one["message"]]
    return "\n".join([said, "", *(f"- {one['name']}: {one['message']}" for one in compared)]).strip()


def _difference(new: Any, old: Any = None) -> list[str]:
    """Return the last cell of a row of figures, none where there is nothing to compare."""
    return [f"{new - old:+.4f}"] if isinstance(new, float) and isinstance(old, float) else []


def _figure(metrics: dict[str, Any], name: str) -> str:
    value = metrics.get(name)
    if not isinstance(value, float):
        return ""
    low, high = (metrics.get("intervals") or {}).get(name) or (None, None)
    return f"{value:.4f}" + (f" ({low:.4f} – {high:.4f})" if low is not None and high is not None else "")
