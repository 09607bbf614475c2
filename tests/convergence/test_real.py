"""What the simulation says, for real: processes, the parameter server, sockets, Keras, and the real events."""

from __future__ import annotations

import pyarrow as pa
import pytest
from simulated import data, runs
from simulated.runs import Run

from dkeras_core.data.columns import Column
from dkeras_core.training.driver import TrainingSettings, train
from dkeras_core.training.processes import ProcessLauncher

SEED = 1
TOLERANCE = 0.5  # points; seeds differ by 0.1 to 0.3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("algorithm", "workers"), [("asynchronous_easgd", 4), ("diloco", 2)])
def test_real_workers_are_as_good_as_simulated_ones(algorithm, workers, tmp_path):
    import keras

    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.model_io import to_json

    try:
        events = data.load("higgs")
    except data.Unavailable as reason:
        pytest.skip(str(reason))
    keras.utils.set_random_seed(SEED)
    layers = [keras.layers.Dense(600, "relu"), keras.layers.Dense(600, "relu"), keras.layers.Dense(2, "softmax")]
    model = keras.Sequential([keras.Input((30,)), *layers])
    run = Run("higgs", algorithm, workers, 10, 10, seed=SEED)
    asked = run.resolved()
    settings = TrainingSettings(
        rule=run.rule(),
        optimizer=run.setting(),
        loss="sparse_categorical_crossentropy",
        epochs=run.epochs,
        batch_size=run.batch,
        workers=workers,
        rows=len(events.train[0]),
        inputs=(Column("features", shape=(30,)),),
        labels=(Column("label"),),
        learning_rate_scale=asked["scale"],
        warmup=asked["warmup"],
        seed=SEED,
    )
    features = pa.FixedSizeListArray.from_arrays(pa.array(events.train[0].ravel()), 30)
    table = pa.table({"features": features, "label": events.train[1].astype("float32")})
    flat = FlatModel(model)
    result = train(to_json(model), flat.get(), None, settings, ProcessLauncher(table, folder=tmp_path))
    assert result.account["rows_trained"] == 10 * len(events.train[0])
    flat.set(result.weights)
    score = events.score(model.predict(events.test[0], batch_size=2000, verbose=0), events.test[1])
    simulated = runs.execute(run)
    print(f"{algorithm}, {workers} workers: {score:.2f} for real, {simulated['scores']} simulated")
    assert score == pytest.approx(simulated["scores"][simulated["default_result"]], abs=TOLERANCE)
