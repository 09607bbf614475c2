"""One worker with its parameter server against ``keras.Model.fit``, and against the matrix products alone.

All on one core: driver, parameter server and worker process share the core that ``fit`` and NumPy have to themselves
when it is their turn. The 380,402-parameter network (Dense 600, 600, 2 on 30 features), Adam, asynchronous EASGD with
tau = 10. The worker's rate counts every second between its start and its end but those that spool the rows, build and
compile: the feed, the windows, the exchanges, the reports. ``fit`` is compiled and warm as well.

The matrix-multiply bound is the eight products of a step of that network (three forward, three for the gradients of
the kernels, two for those of the layers below), by NumPy on one thread.

A backend is chosen once a process, so each has a process of its own: ``bench_learning.py tensorflow`` prints its rates.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

FEATURES, UNITS, CLASSES, TAU = 30, 600, 2, 10
ROWS = {32: 320 * 200, 128: 1280 * 80}  # multiples of a window: one kind of window is compiled
PAIRS = 5
BARS = {"tensorflow": 1.5, "jax": 1.2}
BOUND = 0.8


def measure():
    from outcome import Outcome

    outcomes = []
    for backend, bar in BARS.items():
        rates = _in_process_of_its_own(backend)
        for batch in ROWS:
            worker, fit, products = (np.array(rates[str(batch)][side]) for side in ("worker", "fit", "products"))
            detail = {
                "worker_rows_per_s": round(float(np.median(worker))),
                "fit_rows_per_s": round(float(np.median(fit))),
                "products_rows_per_s": round(float(np.median(products))),
                "exchange_share": rates[str(batch)]["exchange_share"],
                "versions": rates["versions"],
            }
            name = f"learning_{backend}_{batch}"
            outcomes.append(Outcome.of(f"{name}_fit", (worker / fit).tolist(), bar, **detail))
            outcomes.append(Outcome.of(f"{name}_products", (worker / products).tolist(), BOUND, **detail))
    return outcomes


def _in_process_of_its_own(backend: str) -> dict:
    one = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # of NumPy, which reads them when it is imported
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", **one}
    done = subprocess.run([sys.executable, __file__, backend], env=env, stdout=subprocess.PIPE, text=True, timeout=900)
    if done.returncode:
        raise SystemExit(f"{backend}: ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def rates(backend: str) -> dict:
    """Rows a second of the three sides, each measured in turn, by batch size."""
    core = sorted(os.sched_getaffinity(0))[-1]
    os.sched_setaffinity(0, {core})
    from dkeras_core.learning.settings import configure_threads

    configure_threads(1)
    import keras

    assert keras.backend.backend() == backend
    random = np.random.default_rng(1)
    found: dict = {"versions": {"keras": keras.__version__, backend: sys.modules[backend].__version__}}
    for batch, rows in ROWS.items():
        features = random.normal(size=(rows, FEATURES)).astype(np.float32)
        labels = (features[:, :4].sum(1) > 0).astype(np.float32)
        model = network()
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(features[: 20 * batch], labels[: 20 * batch], batch_size=batch, verbose=0)
        sides: dict = {"worker": [], "fit": [], "products": []}
        shares = []
        for _ in range(PAIRS):
            rate, share = worker(features, labels, batch, core)
            shares.append(share)
            sides["worker"].append(rate)
            begun = time.perf_counter()
            model.fit(features, labels, batch_size=batch, verbose=0)
            sides["fit"].append(rows / (time.perf_counter() - begun))
            sides["products"].append(products(batch))
        found[str(batch)] = {**sides, "exchange_share": round(float(np.median(shares)), 4)}
    return found


def network():
    import keras

    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            dense(UNITS, "relu"),
            dense(UNITS, "relu"),
            dense(CLASSES, activation="softmax"),
        ]
    )


def worker(features, labels, batch: int, core: int) -> tuple[float, float]:
    """(rows a second, share of the time that went into exchanging) of a run of one worker and its server."""
    import pyarrow as pa

    from dkeras_core import rules
    from dkeras_core.data.columns import Column
    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.model_io import to_json
    from dkeras_core.training.driver import TrainingSettings, train
    from dkeras_core.training.processes import ProcessLauncher

    table = pa.table(
        {"features": pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), FEATURES), "label": labels}
    )
    model = network()
    settings = TrainingSettings(
        rule=rules.get("asynchronous_easgd", communication_period=TAU),
        optimizer={"name": "adam"},
        loss="sparse_categorical_crossentropy",
        epochs=1,
        batch_size=batch,
        workers=1,
        rows=len(labels),
        inputs=(Column("features", shape=(FEATURES,)),),
    )
    result = train(to_json(model), FlatModel(model).get(), None, settings, ProcessLauncher(table, cores=[core]))
    account = result.account["workers"][0]
    assert account["fused"] in ("xla", "jax"), account["fused"]
    seconds = account["seconds"] - sum(account[f"{part}_seconds"] for part in ("spool", "start", "compile"))
    return (account["rows_trained"] - TAU * batch) / seconds, account["exchange_seconds"] / seconds


def products(batch: int, steps: int = 0) -> float:
    """Rows a second of the products of a training step, on one thread."""
    random = np.random.default_rng(0)

    def made(*shape):
        return random.normal(size=shape).astype(np.float32)

    x, first, second, third = made(batch, FEATURES), made(FEATURES, UNITS), made(UNITS, UNITS), made(UNITS, CLASSES)
    one, two, out = made(batch, UNITS), made(batch, UNITS), made(batch, CLASSES)
    below, lowest = np.empty_like(two), np.empty_like(one)
    gradients = [np.empty_like(w) for w in (first, second, third)]
    steps = steps or 40_000 // batch
    begun = time.perf_counter()
    for _ in range(steps):
        np.matmul(x, first, out=one)
        np.matmul(one, second, out=two)
        np.matmul(two, third, out=out)
        np.matmul(two.T, out, out=gradients[2])
        np.matmul(out, third.T, out=below)
        np.matmul(one.T, below, out=gradients[1])
        np.matmul(below, second.T, out=lowest)
        np.matmul(x.T, lowest, out=gradients[0])
    return steps * batch / (time.perf_counter() - begun)


if __name__ == "__main__":
    print(json.dumps(rates(sys.argv[1])))
