"""A registry of toy models that need no TensorFlow: a logistic function of five features, with a real test split."""

from __future__ import annotations

import functools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.evaluation import bootstrap
from dkeras_core.evaluation.metrics import BinaryStatistics
from dkeras_core.registry import Registry, environments, trial
from dkeras_core.registry.environments import Environment
from dkeras_core.registry.export import assemble
from dkeras_core.registry.signature import Output, Signature
from dkeras_core.storage.local import LocalStorage

ROWS = 1_500
TRUTH = np.array([1.2, -0.8, 0.5, 0.9, -0.9])
FEATURES = FeaturePipeline(("a", "b", "c"), (0.0, 0.1, 0.2), (0.0,) * 3, (1.0,) * 3, -999.0, (), {"kind": ("x", "y")})


def scored(folder, table):
    """The toy's predict: float32[n] of raw rows."""
    features = FeaturePipeline.load(folder / "features.json").transform(table)
    return predicted(np.array(json.loads((folder / "model.keras").read_text())), features)


def predicted(weights, features):
    return (1 / (1 + np.exp(-(features @ weights)))).astype(np.float32)


@functools.cache  # many tests publish the same model
def measured(scores, labels):
    statistics = BinaryStatistics()
    statistics.update(np.frombuffer(scores, np.float32), np.frombuffer(labels, np.float32))
    return {name: value for name, value in statistics.result().items() if name != "curves"}


class Toy:
    """Publishes versions of the model ``toy``; ``split`` is where its test split stands."""

    def __init__(self, folder):
        self.folder, self.root = folder, str(folder / "root")
        self.registry, self.published = Registry(LocalStorage(), self.root), 0
        self.split = folder / "root/data/toy/f00d"
        rng = np.random.default_rng(5)
        columns = {name: rng.normal(size=ROWS) for name in "abc"}
        columns["a"][::50] = -999.0
        kinds = pa.array(np.where(rng.random(ROWS) < 0.5, "x", "y"))
        self.raw = pa.table({**columns, "kind": kinds})
        features = FEATURES.transform(self.raw)
        self.labels = (rng.random(ROWS) < 1 / (1 + np.exp(-2 * features @ TRUTH))).astype(np.float32)
        self.weights = rng.uniform(0.5, 2, ROWS)
        self.write_split()

    def write_split(self, files=2):
        (self.split / "test").mkdir(parents=True, exist_ok=True)
        sizes = {}
        for i, rows in enumerate(np.array_split(np.arange(ROWS), files)):
            part = self.raw.take(pa.array(rows))
            struct = pa.StructArray.from_arrays([c.combine_chunks() for c in part.columns], part.column_names)
            path = self.split / f"test/part-{i}.parquet"
            pq.write_table(pa.table({"label": self.labels[rows], "weight": self.weights[rows], "raw": struct}), path)
            sizes[f"test/{path.name}"] = path.stat().st_size
        classes = {
            name: {"label": label, "rows": {}, "weight": {"in": 5 * float(self.weights[self.labels == label].sum())}}
            for name, label in (("positive", 1), ("negative", 0))
        }
        info = {
            "path": str(self.split), "fingerprint": "f00d", "reused": False, "features": FEATURES.names,
            "rows": {"train": 1, "validation": 0, "test": ROWS, "in": ROWS + 1}, "classes": classes, "missing": {},
            "warnings": [], "seconds": 0.0, "files": sizes,
        }  # fmt: skip
        (self.split / "dataset.json").write_text(json.dumps(info))

    def write_model(self, folder, weights):
        (folder / "model.keras").write_text(json.dumps(weights.tolist()))

    def publish(
        self,
        noise=0.0,
        *,
        gates=None,
        promotion=None,
        features=FEATURES,
        outputs=1,
        lineage=None,
        without=(),
        **settings,
    ):
        """Publish a version whose weights are off by ``noise``; ``without`` names files that it shall not hold."""
        self.published += 1
        folder = self.folder / f"made-{self.published}"
        folder.mkdir()
        weights = 2 * TRUTH + noise * np.array([-1.0, -1, 1, -1, 1])
        self.write_model(folder, weights)
        (folder / "features.json").write_text(json.dumps(features.to_json()))
        signature = Signature(
            inputs=Signature.of(features).inputs,
            outputs=[Output(name="scores", type="float32", shape=(None, outputs))],
        )
        (folder / "signature.json").write_bytes(signature.to_bytes())
        scores = predicted(weights, features.transform(self.raw))
        (folder / "sample.json").write_bytes(trial.sample(self.raw.slice(0, 20), scores[:20]))
        pipeline = {
            "name": "toy", "root": self.root, "input": {"path": "raw.csv"}, "model": {"builder": "linear"},
            "schema": {"key": "id", "label": "y", "positive": 1, "negative": 0}, "evaluation": {"gates": gates or {}},
            "registry": {"model": "toy", "promotion": promotion or {}}, **settings,
        }  # fmt: skip
        (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
        for name in without:
            (folder / name).unlink()
        metrics = measured(scores.tobytes(), self.labels.tobytes())
        known = {"pipeline": "toy", "data_fingerprint": "f00d", "data_path": "/raw.csv", "environment": "abc123"}
        return self.registry.publish(
            "toy", folder, run_id=f"run-{self.published}", lineage={**known, **(lineage or {})}, metrics=metrics
        )


class KerasToy(Toy):
    """The same with a model that only Keras can load."""

    def write_model(self, folder, weights):
        import keras

        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, "sigmoid")])
        model.set_weights([np.float32(weights)[:, None], np.zeros(1, np.float32)])
        assemble(folder, model)


@pytest.fixture
def keras_toy(tmp_path):
    pytest.importorskip("keras")
    return KerasToy(tmp_path)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A registry whose trials run in this process, with NumPy."""

    def run(folder, environment, package, rows=None, scores=None, cancelled=None):
        count, difference = 0, 0.0
        if (folder / "sample.json").exists():
            value = json.loads((folder / "sample.json").read_text())
            expected = np.float32(value["scores"])
            difference, count = float(np.abs(scored(folder, pa.table(value["rows"])) - expected).max()), len(expected)
        if rows:
            np.save(scores, scored(folder, pa.ipc.open_file(rows).read_all()))
        return trial.Outcome(count, difference, None, {}, 0.0)

    def find(registry, key, *, packaged=True, progress=None):
        return Environment("python", f"environment {key}")

    monkeypatch.setattr(bootstrap, "compare", functools.partial(bootstrap.compare, replicates=200))
    monkeypatch.setattr(trial, "run", run)
    monkeypatch.setattr(environments, "find", find)
    return Toy(tmp_path)
