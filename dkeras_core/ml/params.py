"""The params that all algorithms share: the columns under Spark's names, the training under Keras'.

What Spark ML names keeps that name and its setter (``featuresCol``, ``setFeaturesCol``); what Keras or a paper names
keeps theirs (``batch_size``, ``moving_rate``) and is set by keyword, ``setParams`` or a param map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasRawPredictionCol,
    HasSeed,
    HasValidationIndicatorCol,
    HasWeightCol,
)

from dkeras_core.errors import ConfigError
from dkeras_core.ml import converters
from dkeras_core.ml.converters import number, of_type, one_of
from dkeras_core.ml.packed import PackedModel


def param(name: str, doc: str, convert: Callable[[Any], Any]) -> Param:
    """A param that belongs to a class; each instance gets its own copy."""
    return Param(Params._dummy(), name, doc, convert)


def _setter(name: str):
    def setter(self, value):
        return self._set(**{name: value})

    setter.__name__ = f"set{name[0].upper()}{name[1:]}"
    setter.__doc__ = f"Set :py:attr:`{name}`."
    return setter


class Keywords(Params):
    """Params given by keyword, in the constructor and in ``setParams``."""

    def setParams(self, **values: Any):
        """Set params by name; ConfigError for an unknown name, TypeError for a value of a wrong type.

        None leaves a param unset, so that its default holds.
        """
        known = [held.name for held in self.params]
        for name, value in values.items():
            if name not in known:
                from dkeras_core.config_file import meant

                raise ConfigError(
                    f"{type(self).__name__} has no param {name!r}{meant(name, known)}", f"it has {', '.join(known)}"
                )
            if value is None:
                self.clear(self.getParam(name))
            else:
                try:
                    self._set(**{name: value})
                except ConfigError as error:
                    raise ConfigError(f"{type(self).__name__}, param {name}: {error.what}", error.next_step) from None
        return self

    def _value(self, name: str) -> Any:
        """The value set, else the default, else None."""
        return self.getOrDefault(name) if self.isDefined(name) else None


class ScoringParams(Keywords, HasFeaturesCol, HasPredictionCol, HasProbabilityCol, HasRawPredictionCol):
    """What predicting needs: columns in, columns out."""

    model = param("model", "the Keras model, or its JSON", PackedModel.of)
    inputCols = param(
        "inputCols",
        "columns in place of featuresCol: one for each input of the model, or columns of numbers that form one input",
        converters.names,
    )
    loss = param(
        "loss",
        "what keras.losses.get takes; a list, or a mapping by name, for several outputs. Default: the model's, when it "
        "is compiled",
        converters.loss,
    )
    prediction_batch_size = param(
        "prediction_batch_size", "rows that the model scores at once, at most", number(int, at_least=1)
    )

    setFeaturesCol = _setter("featuresCol")
    setInputCols = _setter("inputCols")
    setPredictionCol = _setter("predictionCol")
    setProbabilityCol = _setter("probabilityCol")
    setRawPredictionCol = _setter("rawPredictionCol")

    def getInputCols(self) -> list[str]:
        """The columns that are read: inputCols, or featuresCol alone."""
        return self._value("inputCols") or [self.getFeaturesCol()]

    def _scoring_defaults(self) -> None:
        self._setDefault(prediction_batch_size=4096)


class TrainingParams(ScoringParams, HasLabelCol, HasWeightCol, HasValidationIndicatorCol, HasSeed):
    """What training needs beside the algorithm's own hyper-parameters."""

    labelCols = param("labelCols", "columns in place of labelCol: one for each output of the model", converters.names)
    workers = param(
        "workers", "number of workers; default: the task slots of the Spark application", number(int, at_least=1)
    )
    epochs = param("epochs", "times that each row is trained", number(int, at_least=1))
    batch_size = param("batch_size", "rows of one local step", number(int, at_least=1))
    optimizer = param(
        "optimizer",
        'each worker\'s own optimizer: a name, {"name": ..., "learning_rate": ...}, or a keras.Optimizer. Default: the '
        "model's, when it is compiled, else adam",
        converters.optimizer,
    )
    loss_weights = param(
        "loss_weights",
        "factor on the loss of each output: a list in the model's order, or a mapping by name; one number for one "
        "output. Default: the model's, when it is compiled and brings its loss along",
        converters.loss_weights,
    )
    class_weight = param(
        "class_weight", "weight of each class, multiplied onto weightCol; for one output", converters.class_weight
    )
    validation_split = param(
        "validation_split",
        "share of the rows held back to see how good the center is; chosen by a hash of the row and the seed",
        number(float, at_least=0.0, at_most=0.9),
    )
    metrics = param(
        "metrics",
        "Keras' metrics on the validation rows, beside the loss; default: accuracy for one output of probabilities",
        converters.names,
    )
    early_stopping = param(
        "early_stopping",
        'when to end before the epochs are over: {"monitor": "val_loss", "patience": 2, "min_delta": 0.0, '
        '"restore_best": False}',
        converters.early_stopping,
    )
    target_loss = param(
        "target_loss", "end when the loss (of validation, where there is one) is this or less", of_type(float)
    )
    callbacks = param(
        "callbacks", "Keras callbacks on the center, called in the driver; not saved with the estimator", list
    )
    log_dir = param(
        "log_dir", "folder on any Hadoop file system that gets an event file for TensorBoard", TypeConverters.toString
    )
    result = param(
        "result",
        "mean of the workers' models, center, ema of the center, or ensemble; default: the algorithm's own",
        one_of("mean", "center", "ema", "ensemble"),
    )
    warm_start = param(
        "warm_start",
        "local steps that worker 0 makes alone before the others start; default: as learning_rate_scaling has it",
        number(int, at_least=0),
    )
    warmup = param(
        "warmup",
        "share of the local steps over which the learning rate rises; default: as learning_rate_scaling has it",
        number(float, at_least=0.0, at_most=1.0),
    )
    learning_rate_scaling = param(
        "learning_rate_scaling",
        'factor on the learning rate for many workers: "auto" for the one measured for the algorithm, "none", or a '
        "number",
        of_type(float | str),
    )
    overlap = param("overlap", "let an exchange travel while the next steps are computed", of_type(bool))
    exchange_share = param(
        "exchange_share",
        'share of the time that exchanging may take with communication_period "auto"',
        number(float, at_least=0.0, at_most=1.0),
    )
    wire = param("wire", "type of the numbers that travel", one_of("float32", "bfloat16", "float16"))
    on_nonfinite = param(
        "on_nonfinite", 'when a loss is not finite: "stop" the run or "drop" the worker', one_of("stop", "drop")
    )
    join_deadline = param(
        "join_deadline", "seconds to wait for the first worker and for free slots", number(float, at_least=0.0)
    )
    silence_deadline = param(
        "silence_deadline", "seconds without a word after which a worker counts as lost", number(float, at_least=0.0)
    )
    step_deadline = param(
        "step_deadline",
        "seconds that a worker may live without finishing a local step, after which it counts as lost",
        number(float, at_least=0.0),
    )
    barrier_deadline = param(
        "barrier_deadline",
        "seconds that workers that meet wait for one that has not joined, is lost, or is silent so long",
        number(float, at_least=0.0),
    )
    seed = param("seed", "seed of initial weights, order of the rows, dropout and the validation split", of_type(int))
    weightCol = param("weightCol", "column of sample weights; default: all weigh the same", TypeConverters.toString)

    setLabelCol = _setter("labelCol")
    setLabelCols = _setter("labelCols")
    setWeightCol = _setter("weightCol")
    setValidationIndicatorCol = _setter("validationIndicatorCol")
    setSeed = _setter("seed")

    def getLabelCols(self) -> list[str]:
        """The columns of labels: labelCols, or labelCol alone."""
        return self._value("labelCols") or [self.getLabelCol()]

    def _training_defaults(self) -> None:
        self._scoring_defaults()
        self._setDefault(
            epochs=1,
            batch_size=32,
            seed=1,
            validation_split=0.0,
            learning_rate_scaling="auto",
            overlap=False,
            exchange_share=0.05,
            wire="float32",
            on_nonfinite="stop",
            join_deadline=180.0,
            silence_deadline=300.0,
            step_deadline=3600.0,
            barrier_deadline=300.0,
        )
