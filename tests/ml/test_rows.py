"""DataFrames as rows to train: what is kept, what is held back, and what is said of a column that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import types as T

from dkeras_core.data.columns import Column
from dkeras_core.errors import ConfigError, DataError
from dkeras_core.ml.outputs import Output
from dkeras_core.ml.rows import rows_of

pytestmark = pytest.mark.slow

BINARY = (Output("", "binary", (1,), loss="binarycrossentropy"),)
THREE = (Output("", "classes", (3,), loss="sparsecategoricalcrossentropy", indices=True),)
VALUES = (Output("", "values", (1,), loss="meansquarederror"),)
ONE_INPUT = [((3,), "float32")]


def vector(i):
    return Vectors.dense([i, 2.0, 3.0]) if i % 2 else Vectors.sparse(3, [1], [float(i)])


@pytest.fixture(scope="module")
def frame(spark):
    schema = (
        "id long, features array<float>, label double, kind int, weight double, held boolean, word string, "
        "gap double, `odd.name` array<double>, amount decimal(9,2)"
    )
    rows = [
        (
            i,
            [float(i), 2.0, 3.0],
            float(i % 2),
            i % 3,
            1.0 + i,
            i % 10 == 0,
            "a",
            None if i == 3 else 1.0,
            [1.0 * i, 2.0, 3.0],
            None if i < 0 else i / 4,
        )
        for i in range(200)
    ]
    from decimal import Decimal

    rows = [(*row[:-1], Decimal(str(row[-1]))) for row in rows]
    return spark.createDataFrame(rows, schema).repartition(3, "id").cache()


def opened(frame, features="features", label="label", outputs=BINARY, inputs=None, **settings):
    names = [features] if isinstance(features, str) else features
    labels = [label] if isinstance(label, str) else label
    return rows_of(frame, names, labels, inputs or ONE_INPUT, outputs, **settings)


def test_rows_keep_what_is_named_and_nothing_else(frame):
    with opened(frame, weight="weight", validation="held") as rows:
        assert (rows.count, rows.validation_count) == (180, 20)
        assert rows.frame.columns == rows.validation.columns == ["features", "label", "weight"]
        assert {row.features[0] for row in rows.validation.collect()} == set(range(0, 200, 10))
        assert rows.frame.count() == 180
        assert (rows.inputs, rows.labels, rows.weight) == (
            (Column("features", shape=(3,)),),
            (Column("label"),),
            "weight",
        )


def test_the_share_held_back_does_not_depend_on_partitions(frame, spark):
    def held(data, seed):
        with opened(data, split=0.3, seed=seed) as rows:
            assert rows.count + rows.validation_count == 200
            return {row.features[0] for row in rows.validation.collect()}

    assert held(frame, 1) == held(frame.coalesce(1).orderBy("label", "weight"), 1) != held(frame, 2)
    assert 30 <= len(held(frame, 1)) <= 90


def test_spark_keeps_the_rows_for_the_time_of_the_training_only(frame, spark):
    before = spark.sparkContext._jsc.sc().getPersistentRDDs().size()
    with opened(frame.filter("id < 150")) as rows:
        assert rows.count == 150
        assert spark.sparkContext._jsc.sc().getPersistentRDDs().size() == before + 1
    assert spark.sparkContext._jsc.sc().getPersistentRDDs().size() == before
    with pytest.raises(DataError), opened(frame.filter("id < 0")):
        pass
    assert spark.sparkContext._jsc.sc().getPersistentRDDs().size() == before


def test_vectors_names_with_dots_and_columns_side_by_side(frame, spark):
    vectors = spark.createDataFrame([(vector(i), float(i % 2)) for i in range(20)], ["features", "label"])
    with opened(vectors) as rows:
        assert (rows.count, rows.inputs) == (20, (Column("features", shape=(3,)),))
        assert dict(rows.frame.dtypes)["features"] == "array<float>"
    wide = spark.createDataFrame([(Vectors.sparse(2000, [i], [1.0]), 1.0) for i in range(9)], ["features", "label"])
    with opened(wide, inputs=[((2000,), "float32")]) as rows:
        assert rows.inputs == (Column("features", shape=(2000,), sparse=True),)
    with opened(frame, "odd.name", "odd.name", (Output("", "values", (3,)),)) as rows:
        assert rows.frame.columns == ["odd.name"]
        assert rows.inputs == rows.labels == (Column("odd.name", shape=(3,)),)
    with opened(frame, ["amount", "kind", "weight"]) as rows:
        assert rows.inputs == (Column("amount+kind+weight", sources=("amount", "kind", "weight")),)
        assert dict(rows.frame.dtypes)["amount"] == "double"
    with opened(frame, ["features", "kind"], inputs=[((3,), "float32"), ((1,), "int32")]) as rows:
        assert rows.inputs == (Column("features", shape=(3,)), Column("kind", "int32", (1,)))


@pytest.mark.parametrize(
    "error, said, settings",
    [
        (ConfigError, r"no column 'feature' \(did you mean 'features'", {"features": "feature"}),
        (ConfigError, r"no column 'labels'", {"label": "labels"}),
        (ConfigError, r"column 'word' is of type string", {"label": "word"}),
        (ConfigError, r"has 1 outputs, 2 label columns", {"label": ["label", "kind"]}),
        (ConfigError, r"has 2 inputs, 1 columns are named", {"inputs": ONE_INPUT * 2}),
        (ConfigError, r"column 'label' .*must be boolean, it is double", {"validation": "label"}),
        (DataError, r"column 'gap' is null in 1 of 200 rows", {"label": "gap", "outputs": VALUES}),
        (
            DataError,
            r"'weight' holds labels from 1 to 200; the model's 3 classes",
            {"label": "weight", "outputs": THREE},
        ),
        (DataError, r"'amount' .* 150 of them no whole numbers", {"label": "amount", "outputs": THREE}),
        (DataError, r"column 'kind' holds labels from 0 to 2, the loss binarycross", {"label": "kind"}),
        (DataError, r"column 'features' holds 3 values .*the model takes \(4", {"inputs": [((4,), "float32")]}),
    ],
)
def test_columns_that_are_wrong_are_named(frame, error, said, settings):
    with pytest.raises(error, match=said), opened(frame, **settings):
        pass


def test_a_vector_that_is_null_is_named(spark):
    schema = T.StructType([T.StructField("features", VectorUDT()), T.StructField("label", T.DoubleType())])
    data = spark.createDataFrame([(vector(1), 1.0), (None, 0.0)], schema)
    with pytest.raises(DataError, match=r"column 'features' is null in 1 of 2 rows"), opened(data):
        pass


@pytest.mark.parametrize(
    "query, settings, said",
    [
        ("id < 0", {}, r"the DataFrame has no rows"),
        ("held", {"validation": "held"}, r"all rows are held back"),
        ("not held", {"validation": "held"}, r"column 'held' is true in no row"),
        ("id > 5", {"weight": "low"}, r"column 'low' holds weights from -193 to 0"),
        ("id > 5", {"label": "endless", "outputs": VALUES}, r"column 'endless' holds labels up to nan"),
    ],
)
def test_rows_that_are_wrong_are_named(frame, query, settings, said):
    data = frame.selectExpr("*", "5.0D - id + 1 as low", "if(id = 7, double('nan'), 1) as endless").filter(query)
    with pytest.raises(DataError, match=said), opened(data, **settings):
        pass


def test_the_split_is_about_its_share(spark):
    random = np.random.default_rng(0).random((2000, 3))
    data = spark.createDataFrame([(row.tolist(), 1.0) for row in random], "features array<double>, label double")
    with opened(data, split=0.1, seed=3) as rows:
        assert 150 < rows.validation_count < 250
