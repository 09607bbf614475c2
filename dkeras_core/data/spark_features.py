"""The feature pipeline in Spark ML: fitted on the training split, saved as a PipelineModel and as plain numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dkeras_core.config import Pipeline
from dkeras_core.data.features import FeaturePipeline
from dkeras_core.data.schema import Columns
from dkeras_core.errors import DataError

if TYPE_CHECKING:
    from pyspark.ml import PipelineModel
    from pyspark.sql import DataFrame

OUTPUT = "features"
VECTOR = "__features"
CONSTANT = 0.0
RELATIVE_ERROR = 1e-4
"""Of the rank of a median: among 10,000 values at most one place off, while the sketch stays small for any number."""
MAX_CATEGORIES = 1000


def fit(train: DataFrame, columns: Columns, pipeline: Pipeline, indicators: tuple[str, ...]) -> PipelineModel:
    """Fit the feature pipeline on the typed rows of the training split.

    Parameters
    ----------
    train : numeric features as double, null or the marker where missing; categorical ones as text.
    indicators : numeric features that get a feature saying where they are missing.

    Raises
    ------
    DataError : a categorical feature has more than ``MAX_CATEGORIES`` values.
    """
    from pyspark.ml import Pipeline as SparkPipeline
    from pyspark.ml.feature import (
        Imputer,
        OneHotEncoder,
        SQLTransformer,
        StandardScaler,
        StringIndexer,
        VectorAssembler,
    )

    settings, missing = pipeline.features, pipeline.schema_.missing
    stages, parts, derived = [], [], []

    def absent(name: str) -> str:
        return f"(`{name}` IS NULL" + (f" OR `{name}` = {missing!r}D)" if missing is not None else ")")

    derived += [f"CAST({absent(name)} AS DOUBLE) AS `__missing {name}`" for name in indicators]
    if settings.impute == "constant":
        derived += [
            f"CASE WHEN {absent(name)} THEN {CONSTANT!r}D ELSE `{name}` END AS `__filled {name}`"
            for name in columns.numeric
        ]
    if derived:
        stages.append(SQLTransformer(statement=f"SELECT *, {', '.join(derived)} FROM __THIS__"))
    if columns.numeric:
        filled = [f"__filled {name}" for name in columns.numeric]
        if settings.impute != "constant":
            imputer = Imputer(
                inputCols=list(columns.numeric),
                outputCols=filled,
                strategy=settings.impute,
                relativeError=RELATIVE_ERROR,
            )
            stages.append(imputer if missing is None else imputer.setMissingValue(missing))
        stages.append(VectorAssembler(inputCols=filled, outputCol="__numeric"))
        parts.append("__numeric")
        if settings.standardise:
            stages.append(StandardScaler(withMean=True, inputCol="__numeric", outputCol="__scaled"))
            parts = ["__scaled"]
    parts += [f"__missing {name}" for name in indicators]
    if columns.categorical:
        indexed = [f"__index {name}" for name in columns.categorical]
        encoded = [f"__encoded {name}" for name in columns.categorical]
        # "keep" gives unseen and missing values an index of their own, and dropLast drops exactly that one.
        stages.append(
            StringIndexer(
                inputCols=list(columns.categorical),
                outputCols=indexed,
                handleInvalid="keep",
                stringOrderType="alphabetAsc",
            )
        )
        stages.append(OneHotEncoder(inputCols=indexed, outputCols=encoded, dropLast=True))
        parts += encoded
    stages.append(VectorAssembler(inputCols=parts, outputCol=VECTOR))
    model = SparkPipeline(stages=stages).fit(train)
    for name, values in _categories(model, columns).items():
        if len(values) > MAX_CATEGORIES:
            raise DataError(
                f"categorical feature {name!r} has {len(values):,} values, more than {MAX_CATEGORIES:,}",
                f"take {name!r} out of schema.categorical, or add it to schema.drop",
            )
    return model


def transform(model: PipelineModel, rows: DataFrame) -> DataFrame:
    """Return the rows with the column ``features`` (array<float>) added."""
    from pyspark.ml.functions import vector_to_array

    return model.transform(rows).withColumn(OUTPUT, vector_to_array(VECTOR, dtype="float32"))


def portable(
    model: PipelineModel, columns: Columns, pipeline: Pipeline, indicators: tuple[str, ...]
) -> FeaturePipeline:
    """Return the fitted numbers for use without Spark."""
    from pyspark.ml.feature import ImputerModel, StandardScalerModel

    fill = [CONSTANT] * len(columns.numeric)
    mean = scale = None
    for stage in model.stages:
        if isinstance(stage, ImputerModel):
            surrogates = stage.surrogateDF.first()
            fill = [surrogates[name] for name in columns.numeric]
        elif isinstance(stage, StandardScalerModel):
            mean = tuple(stage.mean.toArray().tolist())
            scale = tuple(1.0 / s if s else 0.0 for s in stage.std.toArray().tolist())
    return FeaturePipeline(
        numeric=columns.numeric,
        fill=tuple(fill),
        mean=mean,
        scale=scale,
        missing=pipeline.schema_.missing,
        indicators=indicators,
        categories=_categories(model, columns),
    )


def _categories(model: PipelineModel, columns: Columns) -> dict[str, tuple[str, ...]]:
    from pyspark.ml.feature import StringIndexerModel

    for stage in model.stages:
        if isinstance(stage, StringIndexerModel):
            return dict(zip(columns.categorical, map(tuple, stage.labelsArray), strict=True))
    return {}
