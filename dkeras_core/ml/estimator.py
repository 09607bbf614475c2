"""What the estimators of all algorithms share: from a DataFrame to a trained :class:`KerasModel`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import fields
from typing import Any, ClassVar

from pyspark.ml.base import Estimator

from dkeras_core.errors import ConfigError
from dkeras_core.ml import files
from dkeras_core.ml.outputs import Output, inputs_of, outputs_of
from dkeras_core.ml.packed import PackedModel
from dkeras_core.ml.params import TrainingParams
from dkeras_core.ml.persistence import Stored
from dkeras_core.ml.rows import Rows, rows_of
from dkeras_core.ml.transformer import KerasModel
from dkeras_core.rules import Rule

_building = threading.Lock()


class DistributedEstimator(Estimator, TrainingParams, Stored):
    """Trains a Keras model on a DataFrame's rows with one distributed algorithm; see the classes derived from it.

    Workers are tasks of this Spark application; the parameter server runs in its driver for the time of ``fit``.
    """

    rule: ClassVar[type[Rule]]
    unsaved: ClassVar[tuple[str, ...]] = ("model", "callbacks")

    def __init__(self, model: Any = None, **params: Any):
        super().__init__()
        self._training_defaults()
        self._setDefault(**{field.name: field.default for field in fields(self.rule)})
        self.setParams(model=model, **params)

    def setParams(self, **params: Any):
        """Set params by name. A compiled model brings optimizer, loss and its weights along, where none are given."""
        compiled = params.get("model")
        super().setParams(**params)
        if getattr(compiled, "compiled", False):
            settings = compiled.get_compile_config() or {}
            # Weights belong to the losses that they were compiled with
            weighted = () if self.isSet("loss") else ("loss_weights",)
            for name in ("optimizer", "loss", *weighted):
                if settings.get(name) is not None and not self.isSet(name):
                    self._set(**{name: settings[name]})
        self._rule()
        return self

    def _rule(self) -> Rule:
        """The algorithm with its hyper-parameters; ConfigError for those it refuses."""
        return self.rule(**{field.name: self.getOrDefault(field.name) for field in fields(self.rule)})

    def _fit(self, dataset) -> KerasModel:
        from dkeras_core.training.turns import turns_of

        packed, loss = self._needed("model"), self._needed("loss")
        rule = self._rule()
        spark = dataset.sparkSession
        workers = self._workers(spark)
        rule.for_workers(workers)
        with _building:  # the seed of random initial weights is one for all threads
            model = packed.unpack(self.getSeed())
        with turns_of(spark).take(workers):
            result = self._train(dataset, rule, workers, model, loss)
        return self._model(model, result)

    def _train(self, dataset, rule: Rule, workers: int, model, loss: Any):
        from dkeras_core.learning.checks import check_model
        from dkeras_core.training.driver import train
        from dkeras_core.training.spark import SparkLauncher

        spark, outputs = dataset.sparkSession, outputs_of(model, loss)
        with rows_of(
            dataset,
            self.getInputCols(),
            self.getLabelCols(),
            inputs_of(model),
            outputs,
            weight=self._value("weightCol"),
            validation=self._value("validationIndicatorCol"),
            split=self.getOrDefault("validation_split"),
            seed=self.getSeed(),
        ) as rows:
            check_model(model, rows.inputs, rows.labels, loss, self._value("loss_weights"))
            with self._events(spark) as events:
                return train(
                    self._value("model").architecture,
                    *_start(model),
                    self._settings(spark, rule, workers, rows),
                    SparkLauncher(spark, rows.frame, join_deadline=self.getOrDefault("join_deadline")),
                    validation=self._validation(rows, outputs),
                    callbacks=self._value("callbacks") or (),
                    events=events,
                )

    def _needed(self, name: str) -> Any:
        value = self._value(name)
        if value is None:
            raise ConfigError(
                f"{type(self).__name__} has no {name} to train",
                f"give it one: {type(self).__name__}(model, loss=...); a compiled model brings its loss along",
            )
        return value

    def _workers(self, spark) -> int:
        """The number set; else one for each task slot, or one for an algorithm that has no others."""
        from dkeras_core.training.spark import task_slots

        if self.isSet("workers"):
            return self.getOrDefault("workers")
        return 1 if self.rule.name == "sequential" else max(task_slots(spark), 1)

    def _settings(self, spark, rule: Rule, workers: int, rows: Rows):
        from dkeras_core.training.address import server_settings
        from dkeras_core.training.scaling import scaling
        from dkeras_core.training.settings import EarlyStopping, TrainingSettings

        optimizer = self._value("optimizer") or {"name": "adam"}
        scaled = scaling(optimizer, workers, rule, self.getOrDefault("learning_rate_scaling"))
        stopping = self._value("early_stopping")
        same = (
            "loss loss_weights epochs batch_size class_weight result overlap exchange_share on_nonfinite wire "
            "target_loss join_deadline silence_deadline step_deadline barrier_deadline seed"
        )
        return TrainingSettings(
            rule=rule,
            optimizer=optimizer,
            workers=workers,
            rows=rows.count,
            inputs=rows.inputs,
            labels=rows.labels,
            weight=rows.weight,
            threads=int(spark.conf.get("spark.task.cpus", "1")),
            learning_rate_scale=scaled.scale,
            warmup=self.getOrDefault("warmup") if self.isSet("warmup") else scaled.warmup,
            warm_start=self.getOrDefault("warm_start") if self.isSet("warm_start") else scaled.warm_start,
            early_stopping=EarlyStopping(**stopping) if stopping else None,
            server=server_settings(spark),
            **{name: self._value(name) for name in same.split()},
        )

    def _validation(self, rows: Rows, outputs: tuple[Output, ...]):
        from dkeras_core.training.validation import BYTES, LIMIT, Validation

        if rows.validation is None:
            return None
        frame = rows.validation
        limit = max(1, min(LIMIT, BYTES // sum(column.row_bytes for column in (*rows.inputs, *rows.labels))))
        if rows.validation_count > 2 * limit:  # what the driver would not keep need not travel
            frame = frame.sample(1.5 * limit / rows.validation_count, seed=self.getSeed())
        metrics = ["accuracy"] if len(outputs) == 1 and outputs[0].kind != "values" else []
        return Validation.from_batches(
            frame.toArrow().to_batches(),
            rows.inputs,
            rows.labels,
            rows.weight,
            seed=self.getSeed(),
            metrics=self._value("metrics") or metrics,
        )

    @contextmanager
    def _events(self, spark) -> Iterator[Any]:
        """The event file for TensorBoard, when one is asked for."""
        from dkeras_core.training.events import EventLog, file_name

        if self._value("log_dir") is None:
            yield None
            return
        path = f"{self.getOrDefault('log_dir').rstrip('/')}/{file_name()}"
        with closing(EventLog(lambda data: files.write(spark, path, data))) as events:
            yield events

    def _model(self, model, result) -> KerasModel:
        trained = KerasModel(history=result.history)
        self._copyValues(trained)
        trained._set(model=PackedModel.of(result.trained(model)))
        return trained._resetUid(self.uid)


def _start(model):
    """The vectors that training starts from: parameters, and the state when there is one."""
    from dkeras_core.learning.flat import FlatModel

    flat = FlatModel(model)
    return flat.get(), flat.get_state() if flat.state_n else None
