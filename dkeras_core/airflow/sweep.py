"""Runs of one pipeline side by side: the combinations of a sweep and the best of them, the folds of a validation."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dkeras_core import rules
from dkeras_core.airflow.hdfs import read_json, storage_of
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.evaluation.metrics import METRIC_NAMES
from dkeras_core.paths import Layout

VALIDATION = 0.1
"""Share of the rows that trials are judged on, where the pipeline holds none back."""

_OF_THE_ALGORITHM = ("communication_period", "moving_rate")


def trials(file: Path, run: str, asked: Mapping[str, Any], say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Return the trials of a sweep: {"run", "overrides", "chosen"}.

    ``chosen`` are the overrides that make the combination, without those that make it a trial (epochs, validation).

    Parameters
    ----------
    file : Path
        The pipeline file.
    run : str
        Id of the sweep; trials are named after it.
    asked : mapping
        Lists ``algorithms``, ``executors``, ``communication_period``, ``moving_rate``, ``learning_rate`` (an empty one
        leaves the pipeline's own value), and ``epochs``, ``most``, ``overrides``.

    Raises
    ------
    ConfigError
        No combination is possible, or there are more than ``most``.
    """
    given = list(asked["overrides"])
    pipeline = Pipeline.load(file, given)
    lists = [asked[key] or [None] for key in ("algorithms", "executors", *_OF_THE_ALGORITHM, "learning_rate")]
    found: list[list[str]] = []
    for algorithm, executors, period, rate, learning_rate in itertools.product(*lists):
        chosen = _algorithm(pipeline, algorithm, {"communication_period": period, "moving_rate": rate})
        chosen += [f"resources.executors={executors}"] if executors else []
        chosen += [f"training.optimizer.learning_rate={learning_rate}"] if learning_rate else []
        if chosen not in found:
            found.append(chosen)
    possible, refused = [], []
    for chosen in found:
        try:
            Pipeline.load(file, [*given, *chosen])
            possible.append([*given, *chosen])
        except ConfigError as error:
            refused.append(f"{' '.join(chosen)}: {error.what}")
            say(f"left out: {refused[-1]}")
    if not possible:
        raise ConfigError(f"no combination is possible: {'; '.join(refused)}", "Ask for others.")
    if len(possible) > asked["most"]:
        raise ConfigError(f"{len(possible)} trials, more than {asked['most']}", "Ask for fewer, or allow more.")
    held = [] if pipeline.split.validation else [f"split.validation={VALIDATION}"]
    return [
        {
            "run": _name(run, f"t{index}"),
            "overrides": [*chosen, *held, f"training.epochs={asked['epochs']}"],
            "chosen": chosen,
        }
        for index, chosen in enumerate(possible)
    ]


def as_job(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the operator of one trial is given."""
    return {"run": trial["run"], "overrides": trial["overrides"]}


def best(root: str, tried: Sequence[Mapping[str, Any]], say: Callable[[str], None] = print) -> dict[str, Any]:
    """Return the trial with the least loss on its validation rows: {"run", "val_loss", "overrides"}.

    Raises
    ------
    TrainingError
        None of them has a loss.
    """
    storage, layout, losses = storage_of(root), Layout(root), {}
    for trial in tried:
        account = read_json(storage, f"{layout.run(trial['run'])}/train.json") or {}
        losses[trial["run"]] = (account.get("final") or {}).get("val_loss")
    ranked = sorted((trial for trial in tried if losses[trial["run"]] is not None), key=lambda one: losses[one["run"]])
    for trial in ranked:
        say(f"{losses[trial['run']]:.5f}  {' '.join(trial['chosen']) or 'as in the file'}  ({trial['run']})")
    for trial in tried:
        if losses[trial["run"]] is None:
            say(f"no loss  {' '.join(trial['chosen']) or 'as in the file'}  ({trial['run']})")
    if not ranked:
        raise TrainingError("no trial has succeeded", "Look at the logs of the trials.")
    return {"run": ranked[0]["run"], "val_loss": losses[ranked[0]["run"]], "overrides": list(ranked[0]["chosen"])}


def folds(file: Path, run: str, count: int, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Return the folds of a validation: each with a test split of its own, a ``count``-th of the rows.

    Raises ConfigError when an override is wrong.
    """
    given = list(overrides)
    seed = Pipeline.load(file, given).split.seed
    return [
        {
            "run": _name(run, f"f{index}"),
            # From the pipeline's own seed on, but not that seed: its test split decides on promotions.
            "overrides": [*given, f"split.seed={seed + 1 + index}", f"split.test={1 / count}", "evaluation.gates={}"],
        }
        for index in range(count)
    ]


def summary(
    root: str, run: str, planned: Sequence[Mapping[str, Any]], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Return {"folds", "metrics": {name: {"mean", "sd", "values"}}}, and write it to the run's folder.

    ``sd`` is the standard deviation between the folds, of which ``folds`` have succeeded.

    Raises
    ------
    TrainingError
        Fewer than two folds have succeeded.
    """
    storage, layout, found = storage_of(root), Layout(root), []
    for fold in planned:
        metrics = read_json(storage, f"{layout.run(fold['run'])}/metrics.json")
        if metrics is None:
            say(f"{fold['run']} has no metrics")
        else:
            found.append(metrics["challenger"])
    if len(found) < 2:
        raise TrainingError(f"{len(found)} of {len(planned)} folds have succeeded", "Look at the logs of the folds.")
    values = {name: [one.get(name) for one in found] for name in METRIC_NAMES}
    measured = {name: ones for name, ones in values.items() if all(isinstance(one, float) for one in ones)}
    result = {
        "folds": len(found),
        "metrics": {
            name: {"mean": statistics.fmean(ones), "sd": statistics.stdev(ones), "values": ones}
            for name, ones in measured.items()
        },
    }
    for name, one in result["metrics"].items():
        say(f"{name}: {one['mean']:.4f} ± {one['sd']:.4f}")
    storage.write_atomic(f"{layout.run(run)}/cross_validation.json", json.dumps(result, indent=1).encode())
    return result


def _name(run: str, tail: str) -> str:
    name, stamp, digest = run.rsplit("-", 2)
    return f"{name[:32]}-{stamp}-{digest}-{tail}"  # a run's id has 64 characters


def _algorithm(pipeline: Pipeline, name: str | None, values: Mapping[str, Any]) -> list[str]:
    """Return the overrides for an algorithm with those values that it knows."""
    known = rules.parameters(name or pipeline.algorithm.name)
    wanted = {key: value for key, value in values.items() if value is not None and key in known}
    if name is None or name == pipeline.algorithm.name:
        return [f"algorithm.{key}={value}" for key, value in wanted.items()]
    # Parameters and result of the file's own algorithm may not suit another one.
    return [f"algorithm={json.dumps({'name': name, **wanted})}", "training.result=null"]
