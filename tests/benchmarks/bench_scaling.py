"""Strong scaling: the same rows and epochs by 1, 2, 4 ... local processes, one core each, up to the cores present.

The efficiency at p is T(1) / (p T(p)), with T the training time of the slowest worker: windows, exchanges and waiting
for rows, without start and compilation. The server stands on the same cores, so at p = cores it takes its share of
them from the workers. ``exchange_share`` is 5 % over the share of exchange and wait that was found at that p.

All runs of a round follow each other; rounds are repeated.
"""

from __future__ import annotations

import os
import statistics

import numpy as np
from outcome import Outcome

ROUNDS = 3
ROWS, EPOCHS, BATCH, PERIOD = 128_000, 5, 128, 10
FEATURES = 30


def run(workers: int) -> dict:
    """Train once; seconds of the slowest worker, and the share of its time that exchange and wait took."""
    import keras

    from dkeras_core import rules
    from dkeras_core.training.local import fit_local

    random = np.random.default_rng(1)
    features = random.normal(size=(ROWS, FEATURES)).astype(np.float32)
    labels = (features.sum(1) > 0).astype(np.int32)
    keras.utils.set_random_seed(1)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((FEATURES,)), dense(600, "relu"), dense(600, "relu"), dense(2, activation="softmax")]
    )
    result = fit_local(
        model,
        (features, labels),
        rules.get("asynchronous_easgd", communication_period=PERIOD),
        workers=workers,
        epochs=EPOCHS,
        batch_size=BATCH,
        optimizer="adam",
        loss="sparse_categorical_crossentropy",
        cores=sorted(os.sched_getaffinity(0)),
    )
    times = [
        (w["compute_seconds"] + w["exchange_seconds"] + w["wait_seconds"], w["exchange_seconds"] + w["wait_seconds"])
        for w in result.account["workers"]
    ]
    slowest, apart = max(times)
    return {"seconds": slowest, "share": apart / slowest}


def measure() -> list[Outcome]:
    cores = len(os.sched_getaffinity(0))
    counts = [p for p in (1, 2, 4, 8, 16, 32) if p <= cores]
    rounds = [{p: run(p) for p in counts} for _ in range(ROUNDS)]
    outcomes = []
    for p in counts[1:]:
        ratios = [found[1]["seconds"] / (p * found[p]["seconds"]) for found in rounds]
        rates = [ROWS * EPOCHS / found[p]["seconds"] for found in rounds]
        outcomes.append(Outcome.of(f"scaling-{p}", ratios, 0.9, rows_per_second=round(statistics.median(rates))))
    shares = [found[counts[-1]]["share"] for found in rounds]
    outcomes.append(
        Outcome.of("exchange-share", [0.05 / share for share in shares], 1.0, share=round(statistics.median(shares), 4))
    )
    return outcomes
