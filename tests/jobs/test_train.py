"""The training step on local Spark: what it reads of the pipeline file, and what it leaves in the run's folder."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dkeras_core.config import Pipeline
from dkeras_core.jobs import train
from dkeras_core.jobs.context import Context
from dkeras_core.learning import model_io
from dkeras_core.storage.local import LocalStorage

pytestmark = pytest.mark.slow

ROWS = {"train": 1000, "validation": 300, "test": 0, "in": 1300}


def write(folder, rows, seed):
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 4)).astype(np.float32)
    label = (features @ np.float32([2, -1, 1, 0.5]) > 0).astype(np.float32)
    folder.mkdir(parents=True)
    table = pa.table({"features": pa.array(list(features), pa.list_(pa.float32())), "label": label})
    pq.write_table(table, folder / "part-0.parquet")
    return features, label


@pytest.fixture
def step(spark, tmp_path, project_root, monkeypatch):
    """step(**overrides) -> (account, the trained model, the run's folder, what the phase says)."""
    # The test's own process may have used TensorFlow already, with other threads
    monkeypatch.setattr("dkeras_core.learning.settings.configure_threads", lambda cores: None)
    data = tmp_path / "data"
    write(data / "train", ROWS["train"], 1)
    write(data / "validation", ROWS["validation"], 2)
    (tmp_path / "runs" / "r-1").mkdir(parents=True)
    dataset = {"path": str(data), "rows": ROWS, "features": list("abcd")}
    folder = tmp_path / "runs" / "r-1"
    (folder / "preprocess.json").write_text(json.dumps(dataset))

    def run(*overrides):
        common = [
            f"root={tmp_path}", "split.validation=0.2", "model.parameters={hidden: [8]}", "training.workers=2",
            "training.optimizer={name: sgd, learning_rate: 0.5}", "algorithm={name: asynchronous_easgd}",
        ]  # fmt: skip
        pipeline = Pipeline.load(project_root / "dags/pipelines/higgs.yaml", [*common, *overrides])
        told = []
        progress = SimpleNamespace(message=lambda text: None, update=lambda **state: told.append(state))
        outcome = {}
        train.run(Context(spark, LocalStorage(), pipeline, "r-1", progress, {}), outcome)
        model = model_io.from_json((folder / "model/architecture.json").read_text())
        model_io.weights_from_bytes(model, (folder / "model/weights.bin").read_bytes())
        return json.loads((folder / "train.json").read_text()), model, folder, outcome

    return run


def accuracy(model, tmp_path):
    features, label = write(tmp_path / "unseen", 1000, 3)
    return np.mean((model.predict(features, verbose=0)[:, 0] > 0.5) == (label > 0.5))


def test_switches_validation_and_early_end(step, tmp_path):
    (tmp_path / "runs/r-1/events").mkdir()
    (tmp_path / "runs/r-1/events/events.out.tfevents.1.host.2").write_bytes(b"of an earlier training")
    account, model, folder, outcome = step(
        "training.epochs=20000", "training.early_stopping={patience: 1, min_delta: 0.01, restore_best: true}",
        "training.validation={rows: 200, metrics: [AUC]}", "training.wire=bfloat16", "training.result=center",
        "training.learning_rate_scaling=1.5", "training.warm_start=20", "training.class_weight={0: 1.0, 1: 1.5}",
    )  # fmt: skip
    assert account["stopped"].startswith("val_loss has not improved") and account["stopped"] in outcome["detail"]
    assert account["rows_in"] == ROWS["train"] < account["rows_trained"] < 20000 * ROWS["train"]
    assert set(account["history"]) == {"loss", "val_loss", "val_AUC"} and account["final"]["val_AUC"] > 0.95
    assert account["settings"]["wire"] == "bfloat16" and account["settings"]["learning_rate_scale"] == 1.5
    assert (account["settings"]["warmup"], account["settings"]["warm_start"]) == (0.1, 20)
    assert account["result"] == "center" and accuracy(model, tmp_path) > 0.9
    (events,) = (folder / "events").iterdir()
    assert b"epoch/val_AUC" in events.read_bytes()


def test_an_ensemble_is_one_model_with_the_pipelines_inputs(step, tmp_path):
    account, model, _, _ = step("algorithm={name: ensemble}", "training.result=null", "training.epochs=5")
    assert account["result"] == "ensemble" and set(account["history"]) == {"loss"}
    assert [layer.name for layer in model.layers if "member" in layer.name] == ["member_0", "member_1"]
    assert accuracy(model, tmp_path) > 0.9 and account["final"]["val_accuracy"] > 0.9
