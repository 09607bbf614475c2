"""Our side of the comparison with Elephas: the same model, rows, optimizer, workers and frequency, on the same Spark.

usage: ours.py asynchronous|synchronous ROWS EPOCHS
"""

import json
import sys
import time
from pathlib import Path

mode, rows, epochs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
WORKERS, FEATURES, BATCH = 2, 30, 32
sys.path.insert(0, str(Path(__file__).parents[3]))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from pyspark.sql import SparkSession  # noqa: E402
from pyspark.sql.types import ArrayType, FloatType, IntegerType, StructField, StructType  # noqa: E402

from dkeras_core import rules  # noqa: E402
from dkeras_core.data.spool import Column  # noqa: E402
from dkeras_core.learning.flat import FlatModel  # noqa: E402
from dkeras_core.learning.model_io import to_json  # noqa: E402
from dkeras_core.training.driver import TrainingSettings, train  # noqa: E402
from dkeras_core.training.spark import SparkLauncher  # noqa: E402


def main() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(rows, FEATURES)).astype(np.float32)
    labels = (features.sum(1) > 0).astype(int)
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((FEATURES,)), dense(600, "relu"), dense(600, "relu"), dense(2, activation="softmax")]
    )
    builder = SparkSession.builder.master(f"local[{WORKERS}]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.driver.memory", "2g").config("spark.driver.host", "127.0.0.1").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    schema = StructType([StructField("features", ArrayType(FloatType(), False)), StructField("label", IntegerType())])
    frame = spark.createDataFrame(pd.DataFrame({"features": features.tolist(), "label": labels}), schema)
    frame = frame.repartition(WORKERS).cache()
    frame.count()
    if mode == "asynchronous":
        rule = rules.get("asynchronous_delta_averaging", communication_period=1, commit_rate=1)
    else:
        rule = rules.get("delta_averaging", communication_period="epoch")
    settings = TrainingSettings(
        rule=rule,
        optimizer={"name": "sgd", "learning_rate": 0.01},
        loss="sparse_categorical_crossentropy",
        epochs=epochs,
        batch_size=BATCH,
        workers=WORKERS,
        rows=rows,
        inputs=(Column("features", shape=(FEATURES,)),),
    )
    flat = FlatModel(model)
    begun = time.perf_counter()
    train(to_json(model), flat.get(), None, settings, SparkLauncher(spark, frame))
    print(json.dumps({"seconds": time.perf_counter() - begun, "parameters": flat.n}), flush=True)
    spark.stop()


main()
