"""A cross-validation: its folds as runs of their own, what they say together, and their data, which are not kept."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dkeras_core.airflow.hdfs import read_json, storage_of
from dkeras_core.airflow.tags import part_of
from dkeras_core.config import Pipeline
from dkeras_core.errors import TrainingError
from dkeras_core.evaluation.metrics import METRIC_NAMES
from dkeras_core.evaluation.resampling import CONFIDENCE, interval
from dkeras_core.paths import Layout
from dkeras_core.registry import Registry, catalog

Say = Callable[[str], None]


def folds(file: Path, run: str, count: int, repeats: int, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Return the folds of a cross-validation, each with the run and the overrides of its application.

    Each of ``repeats`` cuts all rows into ``count`` folds anew, by another seed, beginning with the pipeline's own.

    Raises
    ------
    ConfigError
        An override is wrong.
    """
    given = list(overrides)
    seed = Pipeline.load(file, given).split.seed
    return [
        {
            "run": part_of(run, f"f{repeat}-{fold}" if repeats > 1 else f"f{fold}"),
            "overrides": [
                *given,
                f"split.seed={seed + repeat}",
                f"split.folds={count}",
                f"split.fold={fold}",
                "evaluation.gates={}",
            ],
        }
        for repeat in range(repeats)
        for fold in range(1, count + 1)
    ]


def summary(root: str, run: str, planned: Sequence[Mapping[str, Any]], say: Say = print) -> dict[str, Any]:
    """Return what the folds say together, and write it to the run's folder as ``cross_validation.json``.

    {"planned", "folds": how many have succeeded, "runs": which, "confidence", "metrics": {name: {"mean", "sd",
    "interval", "values"}}}: ``sd`` is the standard deviation between the folds, ``interval`` that of the mean by
    :mod:`dkeras_core.evaluation.resampling`, ``values`` are in the order of ``runs``.

    Raises
    ------
    TrainingError
        Fewer than two folds have succeeded.
    """
    storage, layout, found, ratios = storage_of(root), Layout(root), {}, []
    for fold in planned:
        folder = layout.run(fold["run"])
        metrics, data = read_json(storage, f"{folder}/metrics.json"), read_json(storage, f"{folder}/preprocess.json")
        if metrics is None or data is None:
            say(f"{fold['run']} has no metrics")
            continue
        found[fold["run"]] = metrics["challenger"]
        ratios.append(data["rows"]["test"] / data["rows"]["train"])
    if len(found) < 2:
        raise TrainingError(f"{len(found)} of {len(planned)} folds have succeeded", "Look at the logs of the folds.")
    values = {name: [one.get(name) for one in found.values()] for name in METRIC_NAMES}
    result = {
        "planned": len(planned),
        "folds": len(found),
        "runs": list(found),
        "confidence": CONFIDENCE,
        "metrics": {
            name: {
                "mean": statistics.fmean(ones),
                "sd": statistics.stdev(ones),
                "interval": list(interval(ones, statistics.fmean(ratios))),
                "values": ones,
            }
            for name, ones in values.items()
            if all(isinstance(one, float) for one in ones)
        },
    }
    say(f"{len(found)} of {len(planned)} folds; mean, standard deviation, {CONFIDENCE:.0%} interval of the mean")
    for name, one in result["metrics"].items():
        low, high = one["interval"]
        say(f"{name}: {one['mean']:.4f} ± {one['sd']:.4f}, {low:.4f} to {high:.4f}")
    storage.write_atomic(f"{layout.run(run)}/cross_validation.json", json.dumps(result, indent=1).encode())
    return result


def clean(root: str, run: str, say: Say = print) -> str | None:
    """Delete the preprocessed data that a fold's run has made; return their folder, None when none are deleted.

    What another run has made, and what a version was made from, stays.
    """
    storage, layout = storage_of(root), Layout(root)
    data = read_json(storage, f"{layout.run(run)}/preprocess.json")
    if data is None:
        return None
    folder, made = data["path"], read_json(storage, f"{data['path']}/dataset.json")
    if made is None:
        return None
    if made.get("run") != run:
        say(f"{folder} stays: it was made by {made.get('run') or 'another run'}")
        return None
    registry = Registry(storage, root)
    for model in registry.models():
        for version in catalog.summaries(registry, model):
            if version.lineage.data_fingerprint == data["fingerprint"]:
                say(f"{folder} stays: {model}@{version.number} was made from it")
                return None
    say(f"removing {folder}")
    storage.delete(folder, recursive=True)
    return folder
