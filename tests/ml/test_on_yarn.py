"""An application of a user's own, without a pipeline, on real YARN: two executors, in barrier mode."""

from __future__ import annotations

import json
import time

import pytest

from dkeras_core.config import Resources
from dkeras_core.storage import open_storage
from dkeras_core.yarn.hadoop_config import HadoopConfig
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.submission import SparkSubmission
from dkeras_core.yarn.submit import submit

APPLICATION = """
import sys
import keras
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from dkeras_core.ml import EASGD, KerasModel

spark = SparkSession.builder.getOrCreate()
rows = spark.range(2000).select(F.array(F.randn(1), F.randn(2)).alias("features"))
rows = rows.withColumn("label", (rows.features[0] > rows.features[1]).cast("double"))
network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
estimator = EASGD(network, epochs=3, loss="binary_crossentropy", optimizer={"name": "sgd", "learning_rate": 0.5})
estimator.fit(rows).save(sys.argv[1])
right = KerasModel.load(sys.argv[1]).transform(rows).where("prediction = label").count()
assert right > 1900, right
spark.stop()
"""


@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_an_estimator_takes_the_slots_that_yarn_gives(hadoop, tmp_path):
    config = HadoopConfig.load(hadoop.conf_dir)
    rm = ResourceManager.of(config)
    main = tmp_path / "notebook.py"
    main.write_text(APPLICATION)
    submission = SparkSubmission(
        name="notebook",
        main=main,
        arguments=("/tests/ml/model",),
        resources=Resources(executors=2, memory="512m", driver_memory="512m"),
        memory_overhead=1200,
        driver_memory_overhead=1200,
        conf_dir=config.conf_dir,
        single_node=True,
        tags=("dkeras-test",),
    )
    accepted = submit(submission, rm, tmp_path / "log")
    try:
        deadline = time.monotonic() + 300
        while not (now := rm.app(accepted.id)).ended and time.monotonic() < deadline:
            time.sleep(0.5)
        assert now.final_status == "SUCCEEDED", now
    finally:
        rm.kill(accepted.id)
    storage = open_storage("/", hadoop=config)
    (part,) = [found for found in storage.list("/tests/ml/model/metadata") if found.name.startswith("part-")]
    history = json.loads(storage.read_bytes(part.path))["history"]
    assert [worker["worker"] for worker in history["workers"]] == [0, 1]
    assert len({worker["exchanges"] for worker in history["workers"]}) == 1
    storage.delete("/tests/ml", recursive=True)
