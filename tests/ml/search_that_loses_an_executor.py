"""An application of two executors, each a process: a search over hyper-parameters in which one of them is killed.

``python search_that_loses_an_executor.py ESTIMATOR`` prints one line of JSON: what the search found, or how it ended.
"""

import json
import os
import signal
import sys
import time

import keras
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.tuning import ParamGridBuilder, TrainValidationSplit
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from dkeras_core import ml
from dkeras_core.errors import DkerasError


def executors():
    """Process numbers of the executors of this application: descendants of this process."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as stat, open(f"/proc/{entry}/cmdline") as line:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                    found[int(entry)] = parent, "CoarseGrainedExecutorBackend" in line.read()
            except OSError:
                continue  # it has ended meanwhile

    def ours(pid):
        while pid in found:
            pid = found[pid][0]
            if pid == os.getpid():
                return True
        return False

    return sorted(pid for pid, (_, executor) in found.items() if executor and ours(pid))


class Killer(keras.callbacks.Callback):
    """Kills one executor as soon as a training has moved."""

    killed = None

    def on_epoch_end(self, epoch, logs=None):
        if not Killer.killed:
            Killer.killed = executors()[0]
            os.kill(Killer.killed, signal.SIGKILL)
            print("killed an executor", file=sys.stderr, flush=True)


def search(spark, name):
    rows = spark.range(4000).select(F.array(F.randn(1), F.randn(2)).alias("features"))
    rows = rows.withColumn("label", (rows.features[0] > rows.features[1]).cast("double"))
    keras.utils.set_random_seed(1)
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    own = (
        {"iterations": 200, "tolerance": 1e-12}
        if name == "SandblasterLBFGS"
        else {"communication_period": 1, "epochs": 30}
    )
    estimator = getattr(ml, name)(
        network,
        workers=2,
        batch_size=8,
        loss="binary_crossentropy",
        callbacks=[Killer()],
        join_deadline=400.0,
        **own,
    )
    rates = [{"name": "sgd", "learning_rate": rate} for rate in (1e-9, 0.1)]
    grid = ParamGridBuilder().addGrid(estimator.optimizer, rates).build()
    return TrainValidationSplit(
        estimator=estimator,
        estimatorParamMaps=grid,
        evaluator=BinaryClassificationEvaluator(),
        parallelism=2,
        seed=1,
    ).fit(rows)


def main():
    spark = (
        SparkSession.builder.master("local-cluster[2,1,1024]")
        .config("spark.executor.memory", "512m")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.network.timeout", "600s")  # the machine may be busy; a killed process is found by its socket
        .getOrCreate()
    )
    begun = time.monotonic()
    try:
        found = search(spark, sys.argv[1])
        accounts = found.bestModel.history.workers
        answer = {"metrics": found.validationMetrics, "rows": sum(account["rows_trained"] for account in accounts)}
    except DkerasError as error:
        answer = {"error": error.what, "next": error.next_step, "kind": type(error).__name__}
    answer |= {"killed": Killer.killed, "seconds": round(time.monotonic() - begun)}
    print(json.dumps(answer), flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
