"""A Keras model as a Spark ML Transformer."""

from __future__ import annotations

import json
from typing import Any

from pyspark.ml.base import Model

from dkeras_core.errors import ConfigError
from dkeras_core.ml.outputs import Output, inputs_of, outputs_of
from dkeras_core.ml.packed import PackedModel
from dkeras_core.ml.params import ScoringParams
from dkeras_core.ml.persistence import Stored
from dkeras_core.ml.rows import dense_as, named, sources_of
from dkeras_core.ml.scoring import Scoring, scorer

_ANSWER = "__scores"


class KerasModel(Model, ScoringParams, Stored):
    """Adds a Keras model's predictions to a DataFrame, in Arrow batches; what an estimator's ``fit`` returns.

    Every column of the DataFrame stays as it is; behind them come

    - ``rawPredictionCol`` and ``probabilityCol``: a vector with the probability of each class (both hold the same;
      the first is there for Spark's evaluators, which rank by it), for a model that gives probabilities;
    - ``predictionCol``: the class as a double; the value of a model that ends in one linear unit; a vector where the
      model gives several values, or where several classes may be true at once.

    A param set to "" leaves its column out. A model with several outputs has these columns for each, with ``_<name of
    the output>`` behind them. Any Keras model can be used, trained here or elsewhere: ``KerasModel(model)``.

    Parameters
    ----------
    model : keras.Model or str
        The model, or its JSON (then with random weights).
    history : History, optional
        What the training measured, with the account of every worker.
    **params
        See ``explainParams()``.
    """

    def __init__(self, model: Any = None, history: Any = None, **params: Any):
        super().__init__()
        self._scoring_defaults()
        self.history = history
        self._ready: dict[str, Any] = {}
        self.setParams(model=model, **params)

    def keras_model(self):
        """Return the ``keras.Model`` with its weights: to predict without Spark, to save, to export."""
        return self._packed().unpack()

    def _packed(self) -> PackedModel:
        if self._value("model") is None:
            raise ConfigError("this KerasModel holds no model", "pass one: KerasModel(model)")
        return self._value("model")

    def copy(self, extra=None) -> KerasModel:
        that = super().copy(extra)
        that._ready = {}
        return that

    def _transform(self, dataset):
        from pyspark.sql import functions as F

        scoring = self._scoring()
        columns = self._columns(scoring.outputs)
        for name in [*columns, _ANSWER]:
            if name.lower() in {held.lower() for held in dataset.columns}:
                raise ConfigError(
                    f"the DataFrame has a column {name!r} already",
                    "drop it, or set predictionCol, probabilityCol, rawPredictionCol (an empty name leaves one out)",
                )
        packed = self._packed()
        context = dataset.sparkSession.sparkContext
        key = (context.applicationId, packed.digest)
        if self._ready.get("key") != key:  # the weights go to each executor once, however often this is called
            held = context.broadcast((packed.architecture, packed.weights))
            self._ready = {"key": key, "broadcast": held}
        score = F.arrow_udf(scorer(scoring, self._ready["broadcast"]), _schema(scoring.outputs))
        inputs = [
            named(dataset, name, dense_as(shape, dtype))
            for group, (shape, dtype) in zip(scoring.names, scoring.inputs, strict=True)
            for name in group
        ]
        scored = dataset.withColumn(_ANSWER, score(*inputs))
        return scored.withColumns({name: F.col(_ANSWER)[field] for name, field in columns.items()}).drop(_ANSWER)

    def _scoring(self) -> Scoring:
        """What is to be computed; found out once, since it needs the model to be built."""
        packed = self._packed()
        plan = (packed.digest, json.dumps(self._value("loss")))
        if self._ready.get("plan") != plan:
            model = packed.unpack()
            self._ready |= {"plan": plan, "inputs": inputs_of(model), "outputs": outputs_of(model, self._value("loss"))}
        inputs = tuple(self._ready["inputs"])
        names = tuple(map(tuple, sources_of(self.getInputCols(), len(inputs))))
        batch_size = self.getOrDefault("prediction_batch_size")
        return Scoring(packed.digest, names, inputs, self._ready["outputs"], batch_size)

    def _columns(self, outputs: tuple[Output, ...]) -> dict[str, str]:
        """Names of the new columns, and which field of the answer each one is."""
        columns = {}
        for position, output in enumerate(outputs):
            fields = {"predictionCol": f"prediction{position}"}
            if output.kind != "values":
                probability = f"probability{position}"
                fields = {"rawPredictionCol": probability, "probabilityCol": probability, **fields}
            for param, field in fields.items():
                if name := self._value(param):
                    columns[f"{name}_{output.name}" if output.name else name] = field
        return columns

    def _extra(self) -> dict[str, Any]:
        return {"history": self.history.to_dict()} if self.history else {}

    def _restore(self, metadata: dict[str, Any]) -> None:
        from dkeras_core.training.history import History

        if "history" in metadata:
            self.history = History.from_dict(metadata["history"])


def _schema(outputs: tuple[Output, ...]):
    """The struct that :class:`Scoring` returns, for Spark."""
    from pyspark.ml.linalg import VectorUDT
    from pyspark.sql import types as T

    fields = []
    for position, output in enumerate(outputs):
        several = output.kind == "labels" or (output.kind == "values" and not output.single)
        fields.append(T.StructField(f"prediction{position}", VectorUDT() if several else T.DoubleType()))
        if output.kind != "values":
            fields.append(T.StructField(f"probability{position}", VectorUDT()))
    return T.StructType(fields)
