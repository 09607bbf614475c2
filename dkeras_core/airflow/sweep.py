"""A sweep: which combinations of settings it tries, what became of them, and which is the best."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkeras_core import rules
from dkeras_core.airflow.hdfs import read_json, storage_of
from dkeras_core.airflow.tags import part_of
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, TrainingError
from dkeras_core.paths import Layout

if TYPE_CHECKING:
    from dkeras_core.storage import Storage

Say = Callable[[str], None]

VALIDATION = 0.1
"""Share of the rows that trials are judged on, where the pipeline holds none back."""

DATA = "data"
"""Ends the id of the run that preprocesses for all trials: the sweep's own run is that of the best one, made anew."""

_OF_THE_ALGORITHM = ("communication_period", "moving_rate")


def trials(file: Path, run: str, asked: Mapping[str, Any], say: Say = print) -> list[dict[str, Any]]:
    """Return the trials of a sweep: {"run", "overrides", "chosen", "data"}.

    ``chosen`` are the overrides that make the combination, without those that make it a trial (epochs, validation);
    ``data`` is what the operator is given that preprocesses the data of all of them.

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
            "run": part_of(run, f"t{index}"),
            "overrides": [*chosen, *held, f"training.epochs={asked['epochs']}"],
            "chosen": chosen,
            "data": {"run": part_of(run, DATA), "overrides": [*given, *held]},
        }
        for index, chosen in enumerate(possible)
    ]


def as_job(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the operator of one trial is given."""
    return {"run": trial["run"], "overrides": trial["overrides"]}


def best(root: str, run: str, tried: Sequence[Mapping[str, Any]], say: Say = print) -> dict[str, Any]:
    """Return the trial with the least loss on its validation rows: {"run", "val_loss", "overrides"}.

    A table of all trials goes to ``say`` and, as ``trials.json``, to the run's folder: those that count by their loss,
    then the others with what was wrong. A trial counts when it has succeeded, on the data that the sweep preprocessed.

    Raises
    ------
    TrainingError
        None of them counts; with the causes.
    """
    storage, layout = storage_of(root), Layout(root)
    data = read_json(storage, f"{layout.run(part_of(run, DATA))}/preprocess.json") or {}
    found = [_outcome(storage, layout, trial, data.get("fingerprint")) for trial in tried]
    ranked = sorted(found, key=lambda one: (one["val_loss"] is None, one["val_loss"] or 0.0))
    for line in _table(ranked):
        say(line)
    table = {"data": data.get("fingerprint"), "trials": ranked}
    storage.write_atomic(f"{layout.run(run)}/trials.json", json.dumps(table, indent=1).encode())
    if not ranked or ranked[0]["val_loss"] is None:
        causes = dict.fromkeys(one["cause"] for one in ranked)
        raise TrainingError(
            f"no trial has succeeded: {'; '.join(causes) or 'there was none'}", "Look at the logs of the trials."
        )
    chosen = next(list(trial["chosen"]) for trial in tried if trial["run"] == ranked[0]["run"])
    return {"run": ranked[0]["run"], "val_loss": ranked[0]["val_loss"], "overrides": chosen}


def _outcome(storage: Storage, layout: Layout, trial: Mapping[str, Any], fingerprint: str | None) -> dict[str, Any]:
    """Return a row of the table: {"run", "settings", "val_loss", "seconds", "cause"}; a cause or a loss is None."""
    folder = layout.run(trial["run"])
    different = [one for one in trial["chosen"] if one not in trial["data"]["overrides"]]
    row = {"run": trial["run"], "settings": " ".join(different) or "as in the file"}
    row |= {"val_loss": None, "seconds": None, "cause": None}
    result = read_json(storage, f"{folder}/result.json")
    if result is None:
        return row | {"cause": "no application of it has come to an end"}
    if result["status"] != "succeeded":
        return row | {"cause": result["error"]["what"]}
    account = read_json(storage, f"{folder}/train.json") or {}
    loss = (account.get("final") or {}).get("val_loss")
    row["seconds"] = account.get("seconds")
    if not isinstance(loss, float) or not math.isfinite(loss):
        return row | {"cause": f"the loss on the validation rows is {loss}"}
    if (read_json(storage, f"{folder}/preprocess.json") or {}).get("fingerprint") != fingerprint:
        return row | {"cause": "the input was changed while the sweep ran"}
    return row | {"val_loss": loss}


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max((len(row["settings"]) for row in rows), default=0)
    lines = [f"{'loss':>9} {'seconds':>8}  {'settings':<{width}}  run"]
    for row in rows:
        loss = "-" if row["val_loss"] is None else f"{row['val_loss']:.5f}"
        seconds = "-" if row["seconds"] is None else f"{row['seconds']:.1f}"
        line = f"{loss:>9} {seconds:>8}  {row['settings']:<{width}}  {row['run']}"
        lines.append(f"{line}  {' '.join(row['cause'].split())}" if row["cause"] else line)
    return lines


def _algorithm(pipeline: Pipeline, name: str | None, values: Mapping[str, Any]) -> list[str]:
    """Return the overrides for an algorithm with those values that it knows."""
    known = rules.parameters(name or pipeline.algorithm.name)
    wanted = {key: value for key, value in values.items() if value is not None and key in known}
    if name is None or name == pipeline.algorithm.name:
        return [f"algorithm.{key}={value}" for key, value in wanted.items()]
    # Parameters and result of the file's own algorithm may not suit another one.
    return [f"algorithm={json.dumps({'name': name, **wanted})}", "training.result=null"]
