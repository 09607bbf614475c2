"""Training and scoring on a local Spark session of two slots."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import CrossValidator, CrossValidatorModel, ParamGridBuilder, TrainValidationSplit

from dkeras_core.errors import ConfigError, DataError
from dkeras_core.ml import EASGD, AsynchronousEASGD, DynSGD, Ensemble, KerasModel, SandblasterLBFGS
from dkeras_core.ml.estimators import ESTIMATORS

pytestmark = pytest.mark.slow

ROWS = 1000


@pytest.fixture(scope="module")
def events(spark):
    """Two classes that a line parts, in several kinds of columns."""
    random = np.random.default_rng(7)
    x = random.normal(size=(ROWS, 4)).round(3)
    y = (x @ [2, -1, 1, 0.5] > 0).astype(float)
    rows = [
        (
            i,
            Vectors.dense(row) if i % 2 else Vectors.sparse(4, range(4), row.tolist()),
            float(label),
            [*map(float, row)],
            *map(float, row[:2]),
            {"key": i},
            1.0 + i % 2,
        )
        for i, (row, label) in enumerate(zip(x, y, strict=True))
    ]
    columns = ["id", "features", "label", "array", "a", "b", "map", "weight"]
    return spark.createDataFrame(rows, columns).repartition(3).cache()


@pytest.fixture(scope="module")
def network():
    import keras

    keras.utils.set_random_seed(3)
    layers = [keras.Input((4,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    return model


@pytest.fixture(scope="module")
def trained(network, events, tmp_path_factory):
    import keras

    seen = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, set(logs))))
    estimator = AsynchronousEASGD(
        network,
        workers=2,
        communication_period=5,
        epochs=4,
        weightCol="weight",
        validation_split=0.2,
        callbacks=[callback],
        rawPredictionCol="raw",
        log_dir=(tmp_path_factory.getbasetemp() / "events").as_uri(),
    )
    before = network.get_weights()
    model = estimator.fit(events)
    assert all(np.array_equal(*pair) for pair in zip(before, network.get_weights(), strict=True))
    return estimator, model, seen


def test_the_history_tells_what_was_measured_and_what_each_worker_did(trained, tmp_path_factory):
    estimator, model, seen = trained
    history = model.history
    assert history.epoch[-1] == 4 and history.stopped is None
    first = next(loss for loss in history.history["val_loss"] if loss is not None)  # short epochs may go unevaluated
    assert history.final["val_accuracy"] > 0.9 and history.final["val_loss"] < first * 1.5
    assert [worker["worker"] for worker in history.workers] == [0, 1]
    held = ROWS - sum(worker["rows"] for worker in history.workers)
    assert 0.1 * ROWS < held < 0.3 * ROWS
    assert all(worker["rows_trained"] == 4 * worker["rows"] and worker["exchanges"] for worker in history.workers)
    assert seen[-1][0] == 3 and {"loss", "val_loss", "val_accuracy"} <= seen[-1][1]
    (written,) = (tmp_path_factory.getbasetemp() / "events").glob("events.out.tfevents.*")
    assert b"val_loss" in written.read_bytes()
    assert (model.uid, model.getOrDefault("rawPredictionCol")) == (estimator.uid, "raw")


def test_transform_gives_what_predict_gives_and_keeps_every_column(trained, events):
    model = trained[1]
    answer = model.transform(events)
    assert answer.schema.fields[:8] == events.schema.fields
    assert answer.columns[8:] == ["raw", "probability", "prediction"]
    rows = answer.collect()
    expected = model.keras_model().predict(np.array([row.features.toArray() for row in rows]), verbose=0)[:, 0]
    assert np.allclose([row.probability[1] for row in rows], expected, atol=1e-6)
    assert np.array_equal([row.prediction for row in rows], expected >= 0.5)
    assert np.mean([row.prediction == row.label for row in rows]) > 0.9
    assert sorted(row.id for row in rows) == list(range(ROWS))
    plan = answer._jdf.queryExecution().optimizedPlan().toString()
    assert plan.count("ArrowEvalPython") == 1


def test_transform_takes_arrays_and_other_names(trained, events):
    model = trained[1].copy({trained[1].featuresCol: "array", trained[1].probabilityCol: ""})
    answer = model.transform(events.drop("features"))
    assert answer.columns[7:] == ["raw", "prediction"]
    both = model.setParams(predictionCol="other", rawPredictionCol="").transform(trained[1].transform(events))
    assert both.where("other != prediction").count() == 0
    with pytest.raises(ConfigError, match="has a column 'raw' already"):
        trained[1].transform(trained[1].transform(events))
    with pytest.raises(ConfigError, match=r"no column 'arrays' \(did you mean 'array'"):
        model.setFeaturesCol("arrays").transform(events)


def test_a_saved_model_is_the_same_and_holds_no_pickle(trained, events, tmp_path):
    model = trained[1]
    path = (tmp_path / "model").as_uri()
    model.save(path)
    again = KerasModel.load(path)
    assert (again.uid, again.history) == (model.uid, model.history)
    assert {p.name: v for p, v in again._paramMap.items()} == {p.name: v for p, v in model._paramMap.items()}
    first, second = (m.transform(events).orderBy("id").select("probability").collect() for m in (model, again))
    assert first == second
    assert {"architecture.json", "weights.bin", "metadata"} <= {entry.name for entry in (tmp_path / "model").iterdir()}
    for file in (tmp_path / "model").rglob("*"):
        assert not file.is_file() or not file.read_bytes().startswith(b"\x80")
    with pytest.raises(ConfigError, match=r"holds a KerasModel, not a EASGD"):
        EASGD.load(path)
    model.write().overwrite().save(path)


def test_saved_estimators_are_the_same(network, tmp_path):
    for name in ("EASGD", "ThresholdSharing", "SlowMo"):
        estimator = ESTIMATORS[name](network, epochs=3, labelCols=["label"], early_stopping={"patience": 1})
        estimator.save((tmp_path / name).as_uri())
        again = ESTIMATORS[name].load((tmp_path / name).as_uri())
        assert again.uid == estimator.uid
        assert again._paramMap == estimator._paramMap and again._defaultParamMap == estimator._defaultParamMap
    bare = EASGD(loss="mse")
    bare.save((tmp_path / "bare").as_uri())
    assert not EASGD.load((tmp_path / "bare").as_uri()).isSet("model")


def test_several_inputs_and_outputs_synchronously(events):
    import keras

    keras.utils.set_random_seed(4)
    left, right = keras.Input((4,), name="left"), keras.Input((1,), name="right")
    hidden = keras.layers.Dense(8, "relu")(keras.layers.Concatenate()([left, right]))
    outputs = [
        keras.layers.Dense(1, "sigmoid", name="sign")(hidden),
        keras.layers.Dense(1, name="size")(hidden),
    ]
    estimator = EASGD(
        keras.Model([left, right], outputs),
        workers=2,
        epochs=4,
        communication_period=5,
        inputCols=["features", "a"],
        labelCols=["label", "b"],
        loss={"sign": "binary_crossentropy", "size": "mse"},
        loss_weights={"sign": 1.0, "size": 0.5},
        optimizer={"name": "adam", "learning_rate": 0.02},
    )
    model = estimator.fit(events)
    rows = model.transform(events).collect()
    assert {"probability_sign", "prediction_sign", "prediction_size"} <= set(rows[0].asDict())
    assert "probability_size" not in rows[0].asDict()
    assert np.mean([row.prediction_sign == row.label for row in rows]) > 0.9
    assert np.mean([(row.prediction_size - row.b) ** 2 for row in rows]) < 0.6
    exchanges = {worker["exchanges"] for worker in model.history.workers}
    assert len(exchanges) <= 2 and min(exchanges) >= 12  # 4 epochs of some 16 steps for each


def test_an_ensemble_predicts_the_mean_of_its_members(network, events):
    model = Ensemble(network, workers=2, epochs=1).fit(events)
    whole = model.keras_model()
    x = np.random.default_rng(1).normal(size=(5, 4))
    members = [layer(x).numpy() for layer in whole.layers if layer.name.startswith("member")]
    assert len(members) == 2 and not np.allclose(*members)
    assert np.allclose(whole.predict(x, verbose=0), np.mean(members, axis=0), atol=1e-6)
    answer = model.transform(events.limit(5)).collect()
    assert [row.prediction for row in answer] == [float(row.probability[1] >= 0.5) for row in answer]


def test_a_pipeline_with_cross_validation_and_a_split(network, events, tmp_path):
    assembler = VectorAssembler(inputCols=["a", "b", "array_vector"], outputCol="x")
    from pyspark.ml.functions import array_to_vector

    data = events.select("id", "a", "b", "label", array_to_vector(events.array).alias("array_vector"))
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, "sigmoid")])
    estimator = DynSGD(model, workers=2, epochs=1, loss="binary_crossentropy", featuresCol="x")
    pipeline = Pipeline(stages=[assembler, estimator])
    rates = [{"name": "sgd", "learning_rate": rate} for rate in (1e-6, 0.5)]
    grid = ParamGridBuilder().addGrid(estimator.optimizer, rates).build()
    evaluator = BinaryClassificationEvaluator(metricName="areaUnderPR")

    validator = CrossValidator(estimator=pipeline, estimatorParamMaps=grid, evaluator=evaluator, numFolds=2, seed=1)
    validated = validator.fit(data)
    assert len(validated.avgMetrics) == 2 and validated.avgMetrics[1] > validated.avgMetrics[0]
    assert validated.avgMetrics[1] > 0.9
    validated.save((tmp_path / "validated").as_uri())
    again = CrossValidatorModel.load((tmp_path / "validated").as_uri())
    assert again.bestModel.stages[1].history == validated.bestModel.stages[1].history

    split = TrainValidationSplit(
        estimator=estimator,
        estimatorParamMaps=ParamGridBuilder().addGrid(estimator.communication_period, [1, 20]).build(),
        evaluator=evaluator,
        seed=1,
    )
    best = split.fit(assembler.transform(data)).bestModel
    assert best.uid == estimator.uid

    pipeline_model = PipelineModel(stages=[assembler, best])
    pipeline_model.save((tmp_path / "pipeline").as_uri())
    answers = [
        held.transform(data).orderBy("id").select("prediction").collect()
        for held in (pipeline_model, PipelineModel.load((tmp_path / "pipeline").as_uri()))
    ]
    assert answers[0] == answers[1]


def test_trainings_that_a_search_starts_side_by_side_take_turns(network, events, monkeypatch):
    from dkeras_core.training import driver

    train, lock, running, seen = driver.train, threading.Lock(), [], []

    def counted(*given, **settings):
        with lock:
            running.append(1)
            seen.append(len(running))
        try:
            return train(*given, **settings)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(driver, "train", counted)
    estimator = EASGD(network, workers=2, epochs=2, communication_period=5)
    search = TrainValidationSplit(
        estimator=estimator,
        estimatorParamMaps=ParamGridBuilder().addGrid(estimator.batch_size, [16, 32, 64]).build(),
        evaluator=BinaryClassificationEvaluator(),
        parallelism=3,
        seed=1,
    )
    found = search.fit(events)
    assert seen == [1, 1, 1, 1]  # three trials, and the best of them on all rows
    assert max(found.validationMetrics) > 0.9


def test_what_cannot_be_trained_is_refused_before_a_worker_starts(network, events):
    with pytest.raises(DataError, match=r"3 rows cannot be shared by 4 workers"):
        EASGD(network, workers=4).fit(events.filter("id < 3"))
    with pytest.raises((ConfigError, DataError), match=r"'weight' holds labels from 1 to 2"):
        EASGD(network, labelCol="weight").fit(events)
    with pytest.raises((ConfigError, DataError), match=r"column 'a.* holds 1 values|'a' .*\(4"):
        EASGD(network, featuresCol="a").fit(events)
    with pytest.raises(ConfigError, match=r"0\.9 / 1|sequential|one worker|1 worker"):
        ESTIMATORS["Sequential"](network, workers=2).fit(events)


def test_a_search_over_all_rows(network, events):
    model = SandblasterLBFGS(network, workers=2, iterations=8, batch_size=100, validation_split=0.1).fit(events)
    losses = model.history.history["loss"]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.2 and len(losses) <= 8
    assert model.history.final["val_accuracy"] > 0.9


def test_a_row_that_cannot_be_trained_is_named(network, events):
    bad = events.selectExpr("if(id = 555, array(1D, double('nan'), 0D, 0D), array) as features", "label")
    with pytest.raises(DataError, match=r"column 'features', row \d+, value 1: nan is not a finite number"):
        AsynchronousEASGD(network, workers=2).fit(bad)


def test_a_keras_model_trained_elsewhere_scores_too(network, events):
    model = KerasModel(network, probabilityCol="p", rawPredictionCol="")
    rows = model.transform(events.limit(50)).collect()
    expected = network.predict(np.array([row.features.toArray() for row in rows]), verbose=0)[:, 0]
    assert np.allclose([row.p[1] for row in rows], expected, atol=1e-6)
    with pytest.raises(ConfigError, match="holds no model"):
        KerasModel().transform(events)
