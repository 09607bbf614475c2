"""The folder of a version with a real model: each form loads, and all give the same scores."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.errors import RegistryError
from dkeras_core.registry import Registry
from dkeras_core.registry.export import assemble
from dkeras_core.registry.load import load
from dkeras_core.registry.serving import export
from dkeras_core.storage.local import LocalStorage

PIPELINE = FeaturePipeline(("a", "b"), (0.5, -1.0), (1.0, 2.0), (0.5, 0.25), -999.0, ("b",), {})


@pytest.fixture(scope="module")
def model():
    """Three features; state that is not trained (moments of batch normalisation) is off its initial value."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    layers = keras.layers
    made = keras.Sequential([
        keras.Input((3,)), layers.Dense(8, "relu"), layers.BatchNormalization(), layers.Dropout(0.5),
        layers.Dense(1, "sigmoid"),
    ])  # fmt: skip
    made.layers[1].set_weights([np.linspace(0.5, 1.5, 8, dtype=np.float32) + i for i in range(4)])
    return made


@pytest.fixture(scope="module")
def published(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("export")
    (place / "spark/stages").mkdir(parents=True)
    (place / "spark/stages/part-0").write_bytes(b"parquet")
    (place / "spark/stages/.part-0.crc").write_bytes(b"crc")
    features = json.dumps(PIPELINE.to_json()).encode()
    extras = {"features.json": features, "features": place / "spark", "metrics.json": b"{}"}
    folder = assemble(place / "folder", model, extras)
    return Registry(LocalStorage(), str(place / "root")).publish("higgs", folder, run_id="r", metrics={"auc": 0.9})


def rows(n=50):
    return np.random.default_rng(2).normal(size=(n, 3)).astype(np.float32)


def test_the_saved_model_gives_the_scores_of_the_keras_file(model, published):
    import keras
    import tensorflow as tf

    x = rows()
    expected = keras.models.load_model(f"{published.path}/model.keras").predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, atol=1e-6)
    served = tf.saved_model.load(published.path)
    np.testing.assert_allclose(served.serve(x)["scores"], expected, atol=1e-5)
    signature = served.signatures["serving_default"]
    np.testing.assert_allclose(signature(features=tf.constant(x))["scores"], expected, atol=1e-5)
    (spec,) = signature.structured_input_signature[1].values()
    assert spec.shape.as_list() == [None, 3] and spec.dtype == tf.float32 and spec.name == "features"
    assert signature.structured_outputs["scores"].shape.as_list() == [None, 1]


def test_the_folder_holds_what_was_added(published):
    names = set(published.manifest().files)
    assert {
        "saved_model.pb",
        "fingerprint.pb",
        "variables/variables.index",
        "model.keras",
        "architecture.json",
    } <= names
    assert {"features.json", "features/stages/part-0", "metrics.json"} <= names and published.verify() == []
    assert not any(name.endswith(".crc") for name in names)


def test_raw_rows_are_scored(model, published, tmp_path):
    import pandas as pd

    loaded = load(published)
    raw = {"b": [6.0, None], "a": [3.0, -999.0], "other": ["x", "y"]}
    x = np.array([[1.0, 1.0, 0.0], [-0.25, -0.75, 1.0]], np.float32)
    expected = model.predict(x, verbose=0)[:, 0]
    np.testing.assert_allclose(loaded.predict(raw), expected, atol=1e-5)
    np.testing.assert_allclose(loaded.predict(pd.DataFrame(raw)), expected, atol=1e-5)
    np.testing.assert_allclose(load(published.fetch(tmp_path / "v")).predict_features(x), expected, atol=1e-5)
    assert loaded.manifest.metrics == {"auc": 0.9} and loaded.predict(raw).shape == (2,)


def test_by_name_and_when_served_the_scores_are_the_same(model, published, tmp_path):
    import tensorflow as tf

    x = rows()
    expected = model.predict(x, verbose=0)[:, 0]
    registry = Registry(published.storage, str(Path(published.path).parents[3]))
    registry.promote("higgs", published.number, "production")
    loaded = load("higgs@production", root=f"file://{registry.layout.root}")
    np.testing.assert_allclose(loaded.predict_features(x), expected, atol=1e-5)
    assert (str(loaded.version), loaded.digest) == (str(published), registry.digest("higgs", published.number))
    assert Path(os.environ["XDG_CACHE_HOME"], "dkeras/models", loaded.digest, "model.keras").exists()
    exported = export(registry, published, tmp_path / "base")
    served = tf.saved_model.load(exported.path).signatures["serving_default"]
    np.testing.assert_allclose(served(features=tf.constant(x))["scores"][:, 0], expected, atol=1e-5)


def test_a_version_without_features_says_so(model, tmp_path):
    folder = assemble(tmp_path / "f", model)
    version = Registry(LocalStorage(), str(tmp_path / "root")).publish("higgs", folder, run_id="r")
    with pytest.raises(RegistryError, match=r"no features\.json"):
        load(version).predict({"a": [1.0]})


def test_what_cannot_be_assembled(model, tmp_path):
    import keras

    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_bytes(b"")
    with pytest.raises(RegistryError, match="not empty"):
        assemble(tmp_path / "full", model)
    for name in ("model.keras", "../x", "/x"):
        with pytest.raises(RegistryError, match="cannot be added"):
            assemble(tmp_path / f"f{len(name)}", model, {name: b""})
    pair = [keras.Input((2,)), keras.Input((2,))]
    with pytest.raises(RegistryError, match="inputs are"):
        assemble(tmp_path / "two", keras.Model(pair, keras.layers.add(pair)))
    assert not (tmp_path / "x").exists()
