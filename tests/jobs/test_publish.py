"""From raw rows to a promoted version in one local Spark session, with the trial in a process of its own."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.config import Pipeline
from dkeras_core.errors import GateFailed, RegistryError
from dkeras_core.jobs import evaluate, preprocess, publish
from dkeras_core.jobs.context import Context
from dkeras_core.registry import Registry
from dkeras_core.registry.load import load
from dkeras_core.registry.promotion import promote_checked
from dkeras_core.registry.signature import Signature
from dkeras_core.storage.local import LocalStorage

pytestmark = pytest.mark.slow
ROWS = 3_000


@pytest.fixture(scope="module")
def jobs(spark, tmp_path_factory):
    """``jobs(run, weights)`` evaluates and publishes a model of these weights as the run's."""
    keras = pytest.importorskip("keras")
    from dkeras_core.learning import model_io

    root = tmp_path_factory.mktemp("jobs")
    rng = np.random.default_rng(0)
    mass, angle = rng.normal(100, 20, ROWS), rng.normal(size=ROWS)
    channel = np.where(rng.random(ROWS) < 0.4, "ee", "mumu")
    signal = rng.random(ROWS) < 1 / (1 + np.exp(-(0.08 * (mass - 100) - angle + (channel == "ee"))))
    mass[::40] = -999.0
    lines = [
        f"{i},{m!r},{a!r},{c},{w:.3f},{'s' if s else 'b'}"
        for i, (m, a, c, w, s) in enumerate(
            zip(mass.tolist(), angle.tolist(), channel, rng.uniform(0.5, 2, ROWS), signal, strict=True)
        )
    ]
    (root / "raw.csv").write_text("\n".join(["id,mass,angle,channel,weight,label", *lines]) + "\n")
    pipeline = Pipeline.parse(
        json.dumps(
            {
                "name": "events",
                "root": str(root),
                "input": {"path": "raw.csv"},
                "split": {"test": 0.4},
                "schema": {
                    "key": "id",
                    "label": "label",
                    "positive": "s",
                    "negative": "b",
                    "weight": "weight",
                    "missing": -999.0,
                    "categorical": ["channel"],
                },
                "model": {"builder": "linear"},
                "evaluation": {"gates": {"roc_auc": {"min": 0.6, "max_drop": 0.05}}},
                "registry": {"model": "events"},
            }
        )
    )

    def run(run_id, weights, broken=None):
        progress = SimpleNamespace(message=lambda text: None, phases=[])
        context = Context(spark, LocalStorage(), pipeline, run_id, progress, {}, None)
        dataset = preprocess.run(context, {})
        model = keras.Sequential([keras.Input((len(dataset["features"]),)), keras.layers.Dense(1, "sigmoid")])
        model.set_weights([np.float32(weights)[:, None], np.zeros(1, np.float32)])
        storage, folder = context.storage, f"{context.folder}/model"
        storage.write_bytes(f"{folder}/architecture.json", model_io.to_json(model).encode())
        storage.write_bytes(f"{folder}/weights.bin", model_io.weights_to_bytes(model))
        context.write_json("train", {})
        metrics = evaluate.run(context, {})
        if broken:
            path = f"{dataset['path']}/features.json"
            value = storage.read_bytes(path)
            storage.write_bytes(path, broken(value), overwrite=True)
            try:
                return metrics, publish.run(context, {})
            finally:
                storage.write_bytes(path, value, overwrite=True)
        return metrics, publish.run(context, {})

    run.registry, run.root, run.pipeline = Registry(LocalStorage(), str(root)), root, pipeline
    return run


# mass, angle, ee, mumu: the features are standardised
GOOD, BAD, WORST = [1.6, -1.0, 0.5, -0.5], [1.3, -1.5, 0.3, -0.3], [0.1, -1.0, 0, 0]


@pytest.fixture(scope="module")
def first(jobs):
    metrics, published = jobs("run-1", GOOD)
    return metrics, jobs.registry.version("events", published["version"])


def test_metrics_and_manifest_carry_intervals(first):
    metrics, version = first
    assert metrics["comparison"] is None and metrics["gates"][0]["passed"]
    found = version.manifest().metrics
    assert found["intervals"] == metrics["challenger"]["intervals"] and "curves" not in found
    for name in ("roc_auc", "log_loss", "accuracy", "weighted_roc_auc", "ams"):
        low, high = found["intervals"][name]
        assert low < found[name] < high, name
    assert found["rows"] == metrics["rows"] > 1_000


def test_the_page_of_the_models_shows_the_version(first, jobs):
    metrics, version = first
    page = (jobs.root / "models/index.html").read_text()
    assert version.manifest().run in page and f"{metrics['challenger']['roc_auc']:.4f}" in page
    assert "95 % interval" in page


def test_the_version_says_what_it_takes_and_how_it_scores(first, jobs):
    _, version = first
    signature = Signature.read(version.storage, version.path)
    assert [(c.name, c.type) for c in signature.inputs] == [
        ("mass", "number"),
        ("angle", "number"),
        ("channel", "text"),
    ]
    assert str(signature.outputs[0]) == "scores float32[n, 1]"
    sample = json.loads(version.storage.read_bytes(f"{version.path}/sample.json"))
    assert list(sample["rows"]) == ["mass", "angle", "channel"] and len(sample["scores"]) == 20
    raw = [line.split(",")[1:4] for line in (jobs.root / "raw.csv").read_text().splitlines()]
    for row in zip(*sample["rows"].values(), strict=True):
        assert [str(value) for value in row] in raw
    scores = load(version.path).predict(pa.table(sample["rows"]))
    np.testing.assert_allclose(scores, sample["scores"], atol=1e-6)
    assert np.ptp(scores) > 0.1


def test_it_is_promoted_after_it_was_tried_in_another_process(first, jobs):
    _, version = first
    said = []
    entry, checks = promote_checked(jobs.registry, version, "production", progress=said.append)
    assert entry.version == 1 and all(check.passed for check in checks) and not entry.forced
    scores = {check.name: check for check in checks}["scores"]
    assert scores.detail["rows"] == 20 and scores.detail["difference"] < 1e-6 and scores.detail["served"] < 1e-5
    assert (
        "the running Python, not the packed environment (the version's lineage names no environment)" in scores.message
    )


@pytest.fixture(scope="module")
def second(first, jobs):
    if jobs.registry.alias("events", "production") is None:
        promote_checked(jobs.registry, first[1], "production")
    metrics, published = jobs("run-2", BAD)
    return metrics, jobs.registry.version("events", published["version"])


def test_the_evaluation_compares_with_production(first, second):
    metrics, version = second
    found = metrics["comparison"]["roc_auc"]
    assert found["gain"] == pytest.approx(
        metrics["challenger"]["roc_auc"] - first[0]["challenger"]["roc_auc"], abs=1e-6
    )
    assert found["interval"][1] < 0, metrics["comparison"]
    assert "comparison" not in metrics["challenger"] and "comparison" not in version.manifest().metrics
    assert metrics["champion"]["intervals"] == first[0]["challenger"]["intervals"]


def test_a_worse_version_is_refused_on_the_same_test_split(second, jobs):
    metrics, version = second
    with pytest.raises(GateFailed) as caught:
        promote_checked(jobs.registry, version, "production", expected=1)
    checks = {check.name: check for check in caught.value.checks}
    assert [name for name, check in checks.items() if not check.passed] == ["significance"], checks
    # scored by itself from the raw columns, it comes to what the evaluation on Spark has found
    gain, expected = checks["significance"].detail["gains"]["roc_auc"], metrics["comparison"]["roc_auc"]
    assert gain["gain"] == pytest.approx(expected["gain"], abs=1e-6)
    assert gain["interval"] == pytest.approx(expected["interval"], abs=0.1 * abs(expected["gain"]))
    assert f"{metrics['rows']:,} rows" in checks["comparison"].message
    assert jobs.registry.alias("events", "production") == 1


def test_a_gate_of_the_pipeline_still_stops_the_publication(second, jobs):
    with pytest.raises(RegistryError, match="a gate failed"):
        jobs("run-3", WORST)
    assert jobs.registry.versions("events") == [1, 2]


def test_features_that_raw_rows_do_not_give_stop_it_too(second, jobs):
    def moved(content):
        value = json.loads(content)
        value["mean"][1] += 0.01
        return json.dumps(value).encode()

    with pytest.raises(RegistryError, match="feature 'angle' made from raw rows"):
        jobs("run-4", GOOD, broken=moved)
    assert jobs.registry.versions("events") == [1, 2]
