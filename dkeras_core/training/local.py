"""Distributed training on one machine, without Spark: workers are processes, the parameter server stands here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from dkeras_core import rules
from dkeras_core.config_file import meant
from dkeras_core.data.columns import Column, columns_of
from dkeras_core.errors import ConfigError, DataError
from dkeras_core.rules import Rule
from dkeras_core.training.driver import EarlyStopping, TrainingResult, TrainingSettings, train
from dkeras_core.training.processes import ProcessLauncher
from dkeras_core.training.rows import Rows
from dkeras_core.training.scaling import scaling
from dkeras_core.training.settings import check_numbers
from dkeras_core.training.validation import Validation

_SAMPLE = 100  # rows that the columns' types and widths are read off


def fit_local(
    model,
    data,
    rule: str | Rule = "asynchronous_easgd",
    *,
    workers: int = 2,
    epochs: int = 1,
    batch_size: int = 32,
    optimizer: Any = None,
    loss: Any = None,
    loss_weights: Any = None,
    inputs: str | Sequence = "features",
    labels: str | Sequence = "label",
    weight: str | None = None,
    validation_data=None,
    metrics: Sequence[Any] = (),
    callbacks: Sequence[Any] = (),
    learning_rate_scaling: str | float = "auto",
    cores: Iterable[int] | None = None,
    folder: str | Path | None = None,
    observe: Callable[[dict[str, Any]], None] = lambda state: None,
    **settings: Any,
) -> TrainingResult:
    """Train ``model`` with ``workers`` processes of this machine; its weights are the result's afterwards.

    Parameters
    ----------
    model : keras.Model
        Built. A compiled model brings its optimizer, its loss and that loss' weights along, where none are given.
    data : (x, y), (x, y, sample_weight), pyarrow.Table, or path
        Arrays [rows, ...], lists or tuples of them in the order of the model's inputs and outputs; or rows in columns,
        in memory or in a Parquet file or a folder of such files, which may be larger than memory.
    rule : str or Rule
        The algorithm: a name (``dkeras_core.rules.names()``), or a rule with hyper-parameters of its own.
    workers, epochs, batch_size : int
        ``batch_size`` rows a worker and step.
    optimizer, loss, loss_weights
        What ``keras.Model.compile`` takes.
    inputs, labels : str or sequence
        Columns of a Table or of Parquet: one for each input and output; an input may be a list of columns of numbers,
        which form one vector.
    weight : str, optional
        Column of sample weights.
    validation_data : as ``data``, optional
        Rows on which the center is evaluated at the ends of epochs; at most 20,000, drawn at random.
    metrics, callbacks
        As in Keras; of the center on the validation rows, in this process.
    learning_rate_scaling : "auto", "none" or float
        How the learning rate follows the number of workers (``training.scaling``).
    cores : sequence of int, optional
        Pin the workers to these cores.
    folder : path, optional
        Where the workers spool their rows.
    observe : callable
        Is given the run's state twice a second.
    **settings
        Other fields of ``TrainingSettings``: seed, threads, class_weight, result, overlap, warm_start, wire,
        early_stopping, target_loss, deadlines.

    Returns
    -------
    TrainingResult
        With ``history`` (as of ``keras.Model.fit``, and each worker's account) and ``account``. The model of an
        ensemble is ``result.trained(model)``.

    Raises
    ------
    ConfigError, DataError
        What cannot work, before any process starts.
    TrainingError
        A worker failed or was lost; its last words are in the message.
    """
    import keras

    from dkeras_core.learning.checks import check_model
    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.model_io import to_json

    if not isinstance(model, keras.Model):
        raise ConfigError(f"fit_local trains a keras.Model, not a {type(model).__name__}")
    rule = rules.get(rule) if isinstance(rule, str) else rule
    if not isinstance(rule, Rule):
        raise ConfigError(f"an algorithm is a name or a Rule, not {rule!r}", f"names are {', '.join(rules.names())}")
    check_numbers(workers=workers)
    optimizer, loss, loss_weights = _compiled(model, optimizer, loss, loss_weights)
    given = _Given(model, data, inputs, labels, weight)
    known = {field.name for field in fields(TrainingSettings)}
    for name in settings.keys() - known:
        raise ConfigError(f"fit_local takes no {name!r}{meant(name, known)}", "see TrainingSettings for what it takes")
    if isinstance(settings.get("early_stopping"), Mapping):
        settings["early_stopping"] = EarlyStopping.of(settings["early_stopping"])
    scaled = scaling(optimizer, workers, rule, learning_rate_scaling)
    chosen = {"learning_rate_scale": scaled.scale, "warmup": scaled.warmup, "warm_start": scaled.warm_start} | settings
    run = TrainingSettings(
        rule=rule,
        optimizer=optimizer,
        loss=loss,
        loss_weights=loss_weights,
        epochs=epochs,
        batch_size=batch_size,
        workers=workers,
        rows=given.rows.count,
        inputs=given.inputs,
        labels=given.labels,
        weight=given.weight,
        **chosen,
    )
    check_model(model, run.inputs, run.labels, loss, loss_weights)
    validation = None
    if validation_data is not None:
        held = _Given(model, validation_data, inputs, labels, weight)
        try:
            check_model(model, held.inputs, held.labels, loss)
        except ConfigError as error:
            raise ConfigError(f"validation_data: {error.what}", error.next_step) from None
        validation = Validation.from_batches(
            held.rows.batches(held.reads), held.inputs, held.labels, held.weight, metrics=metrics
        )
    flat = FlatModel(model)
    result = train(
        to_json(model),
        flat.get(),
        flat.get_state() if flat.state_n else None,
        run,
        ProcessLauncher(given.rows, folder=folder, cores=None if cores is None else list(cores)),
        observe=observe,
        validation=validation,
        callbacks=callbacks,
    )
    if not isinstance(result.weights, list):
        result.trained(model)
    return result


class _Given:
    """The user's rows, and the columns of them that feed the model."""

    def __init__(self, model, data, inputs, labels, weight):
        if isinstance(data, tuple):
            self._of_arrays(model, data)
        elif isinstance(data, pa.Table | str | Path | Rows):
            self._of_columns(model, data, _listed(inputs), _listed(labels), weight)
        else:
            raise ConfigError(
                f"fit_local cannot train on a {type(data).__name__}", "give it (x, y), a pyarrow.Table or a path"
            )

    @property
    def reads(self) -> list[str]:
        columns = (*self.inputs, *self.labels, *([Column(self.weight)] if self.weight else []))
        return list(dict.fromkeys(name for column in columns for name in column.reads))

    def _of_columns(self, model, data, inputs, labels, weight) -> None:
        self.rows = data if isinstance(data, Rows) else Rows(data)
        self.weight = weight
        names = [name for group in (*inputs, *labels) for name in _listed(group)]
        missing = [name for name in names if name not in self.rows.names]
        if missing:
            raise DataError(
                f"column {missing[0]!r} is missing; the rows have {', '.join(self.rows.names)}",
                "name the columns: inputs=..., labels=...",
            )
        sample = next(self.rows.batches(list(dict.fromkeys(names))), None)
        if sample is None:
            raise DataError("there are no rows to train on")
        sample = sample.slice(0, _SAMPLE)
        shapes = [tuple(tensor.shape[1:]) for tensor in model.inputs or ()]
        self.inputs = columns_of(sample, inputs, shapes=shapes if len(shapes) == len(inputs) else None)
        self.labels = columns_of(sample, labels)

    def _of_arrays(self, model, data) -> None:
        if len(data) not in (2, 3):
            raise ConfigError(f"arrays are given as (x, y) or (x, y, sample_weight), not as {len(data)} things")
        xs, ys = ([np.asarray(array) for array in _listed(group)] for group in data[:2])
        weights = [np.asarray(data[2])] if len(data) == 3 else []
        lengths = {len(array) for array in (*xs, *ys, *weights)}
        if len(lengths) != 1:
            raise DataError(f"the arrays have {', '.join(map(str, sorted(lengths)))} rows; all need the same number")
        self.inputs = tuple(_column(f"x{number}", array) for number, array in enumerate(xs))
        self.labels = tuple(_column(f"y{number}", array) for number, array in enumerate(ys))
        self.weight = "weight" if weights else None
        self.rows = Rows(pa.table([_arrow(array) for array in (*xs, *ys, *weights)], names=self.reads))


def _compiled(model, optimizer, loss, loss_weights) -> tuple[dict[str, Any], Any, Any]:
    """Optimizer, loss and its weights as plain values: those given, else those that the model was compiled with."""
    import keras

    of_model = (model.get_compile_config() or {}) if getattr(model, "compiled", False) else {}
    if optimizer is None:
        optimizer = of_model.get("optimizer") or "adam"
    if loss is None:
        loss = of_model.get("loss")
        loss_weights = of_model.get("loss_weights") if loss_weights is None else loss_weights
    if loss is None:
        raise ConfigError("there is no loss to train with", "pass loss=..., or compile the model")
    if isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = keras.optimizers.serialize(optimizer)
    if isinstance(optimizer, str):
        optimizer = {"name": optimizer}
    if isinstance(loss, keras.losses.Loss):
        loss = keras.losses.serialize(loss)
    return _plain(optimizer), loss, loss_weights


def _plain(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """Keras' serialised form of one of its own optimizers as name and the arguments that differ from the defaults."""
    import keras

    kind = getattr(keras.optimizers, str(optimizer.get("class_name")), None)
    if kind is None or optimizer.get("registered_name"):
        return dict(optimizer)
    usual = kind().get_config()
    changed = {key: value for key, value in optimizer["config"].items() if key != "name" and usual.get(key) != value}
    return {"name": optimizer["class_name"].lower(), **changed}


def _column(name: str, array: np.ndarray) -> Column:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} holds {array.dtype}, a model takes numbers", "encode it first")
    kept = {"f": "float32", "b": "uint8"}.get(array.dtype.kind, array.dtype.name)
    return Column(name, kept, array.shape[1:])


def _arrow(array: np.ndarray) -> pa.Array:
    """Rows of any shape as lists of their values, without a copy where the array is contiguous."""
    if array.ndim == 1:
        return pa.array(array)
    width = int(np.prod(array.shape[1:]))
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).reshape(-1)), width)


def _listed(given) -> list:
    return list(given) if isinstance(given, list | tuple) else [given]
