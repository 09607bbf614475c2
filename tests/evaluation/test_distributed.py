"""Evaluation on Spark against the same statistics gathered in one process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dkeras_core.errors import DataError, DkerasError
from dkeras_core.evaluation.bootstrap import compare, intervals
from dkeras_core.evaluation.distributed import evaluate
from dkeras_core.evaluation.metrics import BinaryStatistics
from dkeras_core.evaluation.paired import PairedStatistics
from dkeras_core.evaluation.sources import ModelSource, matrix, scores

ROWS, WIDTH, FILES = 6_000, 5, 4
TOTALS = {"positive": 692.0, "negative": 411_000.0}


def logistic(coefficients, features):
    """A model: float32[n, d] -> float32[n]."""
    return (1 / (1 + np.exp(-(features @ np.float32(coefficients))))).astype(np.float32)


def good_model():
    return partial(logistic, [1.0, -0.5, 0.2, 0.0, 0.3])


def other_model():
    return partial(logistic, [0.2, -0.9, 0.2, 0.5, 0.3])


def load_from_bytes(payload):
    return partial(logistic, np.frombuffer(payload, np.float32))


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """A test split of several files, one of them without rows; returns (path, features, labels, weights)."""
    folder = tmp_path_factory.mktemp("split")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    labels = (rng.random(ROWS) < good_model()(features)).astype(np.float32)
    weights = rng.uniform(0.1, 3, ROWS)
    for i, rows in enumerate([*np.array_split(np.arange(ROWS), FILES), np.arange(0)]):
        write(folder / f"part-{i}.parquet", features[rows], labels[rows], weights[rows])
    return str(folder), features, labels, weights


def write(path, features, labels, weights, **more):
    array = pa.ListArray.from_arrays(
        pa.array(np.arange(0, features.size + 1, features.shape[1]), pa.int32()), pa.array(features.reshape(-1))
    )
    table = pa.table({"key": np.arange(len(labels)), "features": array, "label": labels, "weight": weights, **more})
    pq.write_table(table, path)


def single_pass(model, features, labels, weights=None, threshold=0.5):
    statistics = BinaryStatistics(threshold)
    statistics.update(model(features), labels, weights)
    return statistics


def test_equals_a_single_pass_for_every_model(spark, split):
    path, features, labels, weights = split
    payload = np.float32([0.2, -0.9, 0.2, 0.5, 0.3]).tobytes()
    models = {"challenger": ModelSource.function(good_model), "champion": ModelSource(load_from_bytes, payload)}
    results = evaluate(spark, path, models, 0.4, TOTALS, expected_rows=ROWS, batch_rows=700)
    for name, model in (("challenger", good_model()), ("champion", other_model())):
        expected = single_pass(model, features, labels, weights, 0.4).result(TOTALS)
        assert results[name]["rows"] == ROWS
        # a row's score may differ in its last bit with the size of the batch that it is scored in
        for metric in ("accuracy", "f1", "log_loss", "brier", "roc_auc", "ams", "weighted_roc_auc", "weighted_f1"):
            assert results[name][metric] == pytest.approx(expected[metric], abs=1e-6), metric
    assert results["challenger"]["roc_auc"] > results["champion"]["roc_auc"] + 0.01


@pytest.mark.slow
def test_intervals_and_the_comparison_are_those_of_a_single_pass(spark, split):
    path, features, labels, weights = split
    models = {"challenger": ModelSource.function(other_model), "champion": ModelSource.function(good_model)}
    results = evaluate(spark, path, models, 0.4, TOTALS, pair=("challenger", "champion"), batch_rows=700)
    paired = PairedStatistics(0.4)
    paired.update(other_model()(features), good_model()(features), labels, weights)
    expected = {
        name: single_pass(model, features, labels, weights, 0.4)
        for name, model in (("challenger", other_model()), ("champion", good_model()))
    }
    metrics = {name: statistics.result(TOTALS) for name, statistics in expected.items()}
    for name in models:
        found = intervals(expected[name], metrics[name], TOTALS)
        assert set(results[name]["intervals"]) == set(found) >= {"roc_auc", "log_loss", "weighted_f1", "ams"}
        for metric, interval in found.items():
            assert results[name]["intervals"][metric] == pytest.approx(interval, rel=0.02), metric
    found = compare(paired, metrics["challenger"], metrics["champion"], TOTALS)
    assert set(results["challenger"]["comparison"]) == set(found) and "comparison" not in results["champion"]
    for metric in ("roc_auc", "log_loss", "accuracy"):
        one, other = results["challenger"]["comparison"][metric], found[metric]
        assert one["gain"] == pytest.approx(other["gain"], abs=1e-6)
        assert one["interval"] == pytest.approx(other["interval"], abs=0.1 * abs(other["gain"])), metric
    assert results["challenger"]["comparison"]["roc_auc"]["interval"][1] < 0


def test_without_weights_the_column_is_not_needed(spark, split, tmp_path):
    _, features, labels, _ = split
    array = pa.array(list(features[:100]), pa.list_(pa.float32()))
    pq.write_table(pa.table({"features": array, "label": labels[:100]}), tmp_path / "part.parquet")
    models = {"challenger": ModelSource.function(good_model)}
    result = evaluate(spark, str(tmp_path), models, weighted=False)["challenger"]
    assert result["rows"] == 100 and "weighted_accuracy" not in result
    with pytest.raises(DataError, match="no column weight"):
        evaluate(spark, str(tmp_path), models)


def test_a_model_is_loaded_once_in_a_worker(spark, split, tmp_path):
    path, *_ = split

    def counted():
        import os
        import tempfile

        tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=tmp_path)
        return good_model()

    evaluate(spark, path, {"challenger": ModelSource.function(counted)}, batch_rows=100)
    workers = [name.name.split("-")[0] for name in Path(tmp_path).iterdir()]
    assert 1 <= len(workers) <= 2  # local[2]: two Python workers, 15 batches in each of four files
    assert len(set(workers)) == len(workers)


def test_a_model_may_bring_its_own_features(spark, split, tmp_path):
    _, features, labels, weights = split
    halves = {"left": features[:, 0].astype(np.float64) / 2, "right": features[:, 1].astype(np.float64) / 2}
    write(tmp_path / "part.parquet", features, labels, weights, **halves)

    def twice(batch):
        return np.stack([2 * batch.column(name).to_numpy() for name in ("left", "right")], axis=1)

    models = {
        "challenger": ModelSource.function(good_model),
        "champion": ModelSource.function(
            lambda: partial(logistic, [1.0, -0.5]), columns=("left", "right"), transform=twice
        ),
    }
    results = evaluate(spark, str(tmp_path), models)
    expected = single_pass(partial(logistic, [1.0, -0.5]), features[:, :2], labels, weights).result()
    assert results["champion"]["roc_auc"] == pytest.approx(expected["roc_auc"], abs=1e-6)
    assert results["challenger"]["rows"] == results["champion"]["rows"] == ROWS


def test_lost_rows_are_noticed(spark, split):
    with pytest.raises(DataError, match=r"6,000 rows were evaluated.*6,001"):
        evaluate(spark, split[0], {"challenger": ModelSource.function(good_model)}, expected_rows=6_001)


def test_nan_scores_are_counted_over_the_whole_split(spark, split):
    path, features, *_ = split

    def diverged():
        def predict(x):
            answer = good_model()(x)
            answer[x[:, 0] > 2] = np.nan
            return answer

        return predict

    count = int((features[:, 0] > 2).sum())
    with pytest.raises(DataError, match=f"'challenger'.*{count} scores that are NaN or infinite among 6,000 rows"):
        evaluate(spark, path, {"challenger": ModelSource.function(diverged)})


def test_a_wrong_answer_names_the_model_and_its_shape(spark, split):
    models = {
        "challenger": ModelSource.function(good_model),
        "champion": ModelSource.function(lambda: lambda x: np.zeros((len(x), 3))),
    }
    with pytest.raises(DataError, match=r"'champion'.*shape \((\d+), 3\) for \1 rows"):
        evaluate(spark, split[0], models)


@pytest.mark.slow
def test_a_failure_in_the_worker_keeps_its_cause(spark, split):
    def broken():
        raise RuntimeError("the file of weights is truncated")

    with pytest.raises(DkerasError, match="RuntimeError: the file of weights is truncated"):
        evaluate(spark, split[0], {"challenger": ModelSource.function(broken)})


def test_a_missing_column_is_named(spark, split):
    models = {"champion": ModelSource.function(good_model, columns=("raw_mass", "raw_angle"), transform=len)}
    with pytest.raises(DataError, match="no column raw_angle, raw_mass"):
        evaluate(spark, split[0], models)


def test_ragged_or_missing_features_are_refused():
    assert matrix(pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32())).slice(1), "features").tolist() == [
        [3, 4],
        [5, 6],
    ]
    with pytest.raises(DataError, match="1 to 2 numbers"):
        matrix(pa.array([[1.0, 2.0], [3.0]]), "features")
    with pytest.raises(DataError, match="1 rows without"):
        matrix(pa.array([[1.0, 2.0], None]), "features")
    with pytest.raises(DataError, match="missing numbers"):
        matrix(pa.array([[1.0, None]]), "features")
    assert scores(lambda x: np.ones((len(x), 1)), np.zeros((4, 2))).shape == (4,)


@pytest.mark.slow
def test_a_keras_model_travels_as_json_and_bytes(spark, split, tmp_path):
    import keras

    from dkeras_core.learning import model_io

    path, features, labels, weights = split
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((WIDTH,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    )
    source = ModelSource.keras(model_io.to_json(model), model_io.weights_to_bytes(model))
    result = evaluate(spark, path, {"challenger": source}, class_totals=TOTALS, expected_rows=ROWS)["challenger"]
    predict = lambda x: model.predict_on_batch(x).reshape(-1)  # noqa: E731
    expected = single_pass(predict, features, labels, weights).result(TOTALS)
    for metric in ("roc_auc", "log_loss", "accuracy", "ams"):
        assert result[metric] == pytest.approx(expected[metric], abs=1e-5), metric
