"""Workers as Spark tasks, on a local session with two slots."""

import numpy as np
import pytest

from dkeras_core import rules
from dkeras_core.errors import ConfigError, DataError, TrainingError
from dkeras_core.training.spark import SparkLauncher

pytestmark = pytest.mark.slow

ROWS = 601


@pytest.fixture(scope="module")
def frame(spark, rows_of):
    rows = rows_of(ROWS, 1)
    features = np.asarray(rows.column("features").flatten()).reshape(ROWS, -1).tolist()
    labels = np.asarray(rows.column("label")).tolist()
    data = [(row, label, "another column") for row, label in zip(features, labels, strict=True)]
    return spark.createDataFrame(data, "features array<float>, label float, comment string")


def launched(run, launcher, **settings):
    return run([], launcher=launcher, rows=ROWS, **{"epochs": 2, **settings})[0]


def test_more_workers_than_slots_run_in_waves(run, spark, frame):
    launcher = SparkLauncher(spark, frame)
    outcome = launched(run, launcher, workers=3)
    assert outcome.account["rows_trained"] == 2 * ROWS
    assert [account["worker"] for account in outcome.account["workers"]] == [0, 1, 2]
    assert launcher.describe() == "Spark runs as local[2] with 2 task slots: 2 of 3 workers run at a time"


def test_a_synchronous_rule_runs_as_a_barrier_stage(run, spark, frame):
    weights = [
        launched(run, SparkLauncher(spark, frame), workers=2, rule=rules.get("slowmo", communication_period=4)).weights
        for _ in range(2)
    ]
    assert np.array_equal(*weights)


def test_a_synchronous_rule_needs_all_slots(run, spark, frame):
    launcher = SparkLauncher(spark, frame, join_deadline=0.1)
    with pytest.raises(TrainingError, match=r"easgd is synchronous and needs 3 task slots .* with 2 task slots"):
        launched(run, launcher, workers=3, rule=rules.get("easgd"))
    with pytest.raises(TrainingError, match="the run has a warm start and needs 3"):
        launched(run, launcher, workers=3, warm_start=10)


@pytest.mark.parametrize(
    ("name", "rule", "message"),
    [
        ("spark.speculation", "downpour", "a second copy of a slow worker"),
        ("spark.dynamicAllocation.enabled", "easgd", "easgd is synchronous: its workers wait for each other"),
    ],
)
def test_what_spark_must_not_do(run, spark, frame, name, rule, message):
    conf = spark.sparkContext._conf
    conf.set(name, "true")
    try:
        with pytest.raises(ConfigError, match=message):
            launched(run, SparkLauncher(spark, frame), workers=2, rule=rules.get(rule))
    finally:
        conf.set(name, "false")


def test_a_column_that_is_missing(run, spark, frame):
    with pytest.raises(DataError, match="'label' is missing; the rows have features, comment"):
        launched(run, SparkLauncher(spark, frame.drop("label")), workers=2)


def test_names_that_spark_would_take_apart(run, spark, frame):
    from dkeras_core.data.columns import Column

    launcher = SparkLauncher(spark, frame.withColumnRenamed("label", "the.la`bel"))
    outcome = launched(run, launcher, workers=1, epochs=1, labels=(Column("the.la`bel"),))
    assert outcome.account["rows_trained"] == ROWS


def test_a_failing_worker_ends_the_job(run, spark, frame):
    from pyspark.sql import functions as F

    launcher = SparkLauncher(spark, frame.withColumn("label", F.lit(3.0).cast("float")))
    with pytest.raises(Exception, match="out of range"):
        launched(run, launcher, workers=2)
    assert not launcher._thread.is_alive()
