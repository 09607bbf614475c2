"""Elephas' side of the comparison, run by its own environment: trains and prints one JSON line.

usage: theirs.py asynchronous|synchronous ROWS EPOCHS http|socket PORT
"""

import json
import sys
import time

mode, rows, epochs, server, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
WORKERS, FEATURES, BATCH = 2, 30, 32

import keras  # noqa: E402
import numpy as np  # noqa: E402
from elephas.spark_model import AsynchronousSparkModel, SparkModel  # noqa: E402
from elephas.utils.rdd_utils import to_simple_rdd  # noqa: E402
from pyspark import SparkConf, SparkContext  # noqa: E402


def main() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(rows, FEATURES)).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[(features.sum(1) > 0).astype(int)]
    keras.utils.set_random_seed(1)
    relu = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((FEATURES,)), relu(600, "relu"), relu(600, "relu"), relu(2, activation="softmax")]
    )
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="categorical_crossentropy")
    conf = SparkConf().setMaster(f"local[{WORKERS}]").set("spark.ui.enabled", "false")
    conf.set("spark.driver.memory", "2g")
    context = SparkContext(conf=conf)
    context.setLogLevel("ERROR")
    rdd = to_simple_rdd(context, features, labels)
    rdd = rdd.repartition(WORKERS).cache()
    rdd.count()
    if mode == "asynchronous":
        spark_model = AsynchronousSparkModel(
            model, batch_size=BATCH, mode=mode, frequency="batch", parameter_server_mode=server, port=int(port)
        )
    else:
        spark_model = SparkModel(model, batch_size=BATCH)
    begun = time.perf_counter()
    spark_model.fit(rdd, epochs=epochs, batch_size=BATCH, verbose=0, validation_split=0.0)
    print(json.dumps({"seconds": time.perf_counter() - begun, "parameters": model.count_params()}), flush=True)
    context.stop()


main()
