"""The main job on real HDFS and YARN: from raw rows to a published version, twice, and what the version is worth."""

import json

import numpy as np
import pytest

from dkeras_core.registry import readonly

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ROOT = "/chain"
EPOCHS = "5"


@pytest.fixture(scope="module")
def first(dkeras, events, webhdfs):
    # Other files may have worked here before; only the environment that they uploaded is of use.
    for left in ("runs", "data", "models/higgs"):
        readonly.remove(webhdfs, f"{ROOT}/{left}")
    outcome = dkeras.submit("--data", str(events), root=ROOT, training__epochs=EPOCHS)
    assert outcome.code == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def version(dkeras, first, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pulled") / "version"
    # models live below the root of the pipeline, so the command is told which
    outcome = dkeras("models", "pull", "higgs@1", str(folder), "--root", ROOT)
    assert outcome.code == 0, outcome.err
    return folder


def test_it_ends_with_the_path_of_the_version(first, webhdfs):
    assert first.published.endswith(f"{ROOT}/models/higgs/versions/1")
    names = {status.name for status in webhdfs.list(first.published)}
    assert {"model.keras", "saved_model.pb", "variables", "features", "features.json", "manifest.json"} <= names
    assert {"report.html", "metrics.json", "pipeline.yaml", "signature.json", "sample.json"} <= names


def test_every_row_is_accounted_for(first, result_of):
    dataset, train = result_of(ROOT, "higgs", "preprocess.json"), result_of(ROOT, "higgs", "train.json")
    assert dataset["rows"]["in"] == 10_000
    assert dataset["rows"]["train"] + dataset["rows"]["test"] == 10_000
    assert train["rows_in"] == dataset["rows"]["train"]
    assert train["rows_trained"] == int(EPOCHS) * train["rows_in"]
    assert sum(worker["exchanges"] for worker in train["workers"]) == train["exchange"]["count"] > 50


def test_the_run_left_nothing_but_its_files(first, webhdfs):
    (run,) = webhdfs.list(f"{ROOT}/runs")
    assert {status.name for status in webhdfs.list(run.path)} == {
        *("pipeline.yaml", "progress.json", "result.json", "preprocess.json", "train.json", "metrics.json"),
        *("publish.json", "model", "report.html", "events"),
    }
    assert [status.name for status in webhdfs.list(f"{ROOT}/models/higgs/versions")] == ["1"]
    assert len(webhdfs.list(f"{ROOT}/data/higgs")) == 1
    assert len(webhdfs.list(f"{ROOT}/envs")) == 1


def test_it_is_as_good_as_plain_keras_in_one_process(first, webhdfs, result_of, tmp_path):
    """Same network, rows, epochs and optimizer in one process: at most 0.5 points of AUC better."""
    import keras
    import pyarrow.parquet as pq
    from sklearn.metrics import roc_auc_score

    dataset = result_of(ROOT, "higgs", "preprocess.json")
    splits = {}
    for split in ("train", "test"):
        webhdfs.download(f"{dataset['path']}/{split}", tmp_path / split)
        table = pq.read_table(tmp_path / split)
        splits[split] = (np.stack(table["features"].to_numpy()), table["label"].to_numpy())
    scores = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((30,)), *(layers.Dense(600, "relu") for _ in range(2)), layers.Dense(1, "sigmoid")]
        )
        model.compile(keras.optimizers.Adam(0.001), "binary_crossentropy")
        model.fit(*splits["train"], batch_size=32, epochs=int(EPOCHS), verbose=0)
        scores.append(roc_auc_score(splits["test"][1], model.predict(splits["test"][0], verbose=0)[:, 0]))
    ours = result_of(ROOT, "higgs", "metrics.json")["challenger"]["roc_auc"]
    assert ours > np.mean(scores) - 0.005, f"distributed {ours:.4f}, one process {scores}"


def test_the_version_scores_raw_rows_and_all_its_forms_agree(version, events):
    import pandas as pd
    import tensorflow as tf

    from dkeras_core.registry.load import load

    raw = pd.read_csv(events).head(500)
    model = load(version)
    scores = model.predict(raw)
    assert scores.shape == (500,) and 0 < scores.min() < scores.max() < 1
    features = model.pipeline.transform(raw)
    served = tf.saved_model.load(str(version)).signatures["serving_default"](features=tf.constant(features))
    assert np.allclose(next(iter(served.values())).numpy()[:, 0], scores, atol=1e-5)
    assert np.mean((scores > 0.5) == (raw["Label"] == "s")) > 0.75


def test_the_manifest_names_what_it_came_from(version, result_of):
    manifest = json.loads((version / "manifest.json").read_text())
    dataset = result_of(ROOT, "higgs", "preprocess.json")
    assert manifest["lineage"]["data_fingerprint"] == dataset["fingerprint"]
    assert manifest["lineage"]["environment"] and manifest["lineage"]["application"].startswith("application_")
    assert all(len(entry["sha256"]) == 64 for entry in manifest["files"].values())


def test_the_report_opens_offline_and_tells_the_story(version):
    page = (version / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    for part in ("ROC", "loss", "exchange", "preprocess"):
        assert part.lower() in page.lower()


@pytest.fixture(scope="module")
def second(dkeras, events, first):
    outcome = dkeras.submit("--data", str(events), root=ROOT, training__epochs="1")
    assert outcome.code == 0, outcome.err
    return outcome


def test_it_publishes_the_next_version(second):
    assert second.published.endswith(f"{ROOT}/models/higgs/versions/2")


def test_nothing_is_built_uploaded_or_preprocessed_again(second, result_of, webhdfs):
    phases = {phase["name"]: phase["state"] for phase in result_of(ROOT, "higgs")["phases"]}
    assert phases["preprocess"] == "reused"
    assert "environment: reused" in second.err and "upload: reused" in second.err
    assert len(webhdfs.list(f"{ROOT}/envs")) == 1
    assert len(webhdfs.list(f"{ROOT}/data/higgs")) == 1


def test_steps_alone_go_on_with_each_other(dkeras, second, webhdfs, newest_run, result_of):
    """train takes the newest data in a new run, evaluate that run, against the version in production."""
    published = newest_run(ROOT, "higgs")
    assert dkeras.submit("--step", "train", root=ROOT, training__epochs="1").code == 0
    trained = newest_run(ROOT, "higgs")
    assert trained > published
    webhdfs.write_atomic(f"{ROOT}/models/higgs/aliases/production", b"1\n")
    outcome = dkeras.submit("--step", "evaluate", root=ROOT)
    assert outcome.code == 0, outcome.err
    assert outcome.out.strip().splitlines()[-1] == f"run {trained.rpartition('/')[2]} succeeded"
    metrics = result_of(ROOT, "higgs", "metrics.json")
    assert metrics["challenger"]["roc_auc"] > 0.8
    assert metrics["champion_version"] == 1
    first = min(run.path for run in webhdfs.list(f"{ROOT}/runs") if run.name.startswith("higgs-"))
    before = json.loads(webhdfs.read_bytes(f"{first}/metrics.json"))["challenger"]
    assert metrics["champion"]["roc_auc"] == pytest.approx(before["roc_auc"], abs=1e-6)
    low, high = metrics["comparison"]["roc_auc"]["interval"]
    assert low < metrics["challenger"]["roc_auc"] - metrics["champion"]["roc_auc"] < high
    assert metrics["champion"]["intervals"]["roc_auc"][0] < before["roc_auc"]
