"""What a retraining decides by itself, on a registry in a local folder: train or not, good enough or not, what goes."""

import json
import os
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest

from dkeras_core.airflow import retraining
from dkeras_core.airflow.old_runs import remove_old_runs
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, StorageError
from dkeras_core.registry import Registry, marks
from dkeras_core.registry.readonly import remove
from dkeras_core.storage.local import LocalStorage
from dkeras_core.yarn.submission import run_tag


@pytest.fixture
def place(tmp_path, project_root):
    """``run(name, *overrides, data=)`` makes a run's folder; ``publish(name)`` publishes its pipeline file."""
    root, storage = (tmp_path / "root").as_uri(), LocalStorage()

    def run(name, *overrides, data="f1"):
        pipeline = Pipeline.load(project_root / "dags/pipelines/higgs.yaml", [f"root={root}", *overrides])
        folder = tmp_path / "root/runs" / name
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").write_text(pipeline.to_yaml())
        (folder / "preprocess.json").write_text(json.dumps({"fingerprint": data}))
        return folder

    def publish(name, data="f1"):
        version = tmp_path / f"version-{name}"
        version.mkdir()
        (version / "pipeline.yaml").write_bytes((tmp_path / "root/runs" / name / "pipeline.yaml").read_bytes())
        metrics = {"roc_auc": 0.91, "intervals": {"roc_auc": [0.9, 0.92]}}
        return registry.publish("higgs", version, run_id=name, lineage={"data_fingerprint": data}, metrics=metrics)

    registry = Registry(storage, root)
    yield SimpleNamespace(root=root, run=run, publish=publish, registry=registry, runs=tmp_path / "root/runs")
    remove(storage, root)


def test_nothing_new_is_not_trained(place):
    place.run("first")
    assert "no version" in retraining.reason_to_train(place.root, "first")
    place.publish("first")
    assert "own" in retraining.reason_to_train(place.root, "first"), "the same run, cleared after it has published"
    place.run("same", "evaluation.gates={}", "resources.memory=2g", "description=other words")
    assert retraining.reason_to_train(place.root, "same") is None
    # A sweep publishes other settings in between; what it came from is still the same.
    place.run("swept", "training.epochs=9")
    place.publish("swept")
    assert retraining.reason_to_train(place.root, "same") is None
    marks.archive(place.registry, "higgs", 1, "mislabelled rows")
    assert retraining.reason_to_train(place.root, "same") == "settings changed since higgs@2: training"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs=6", "training"),
        ("model.parameters.hidden=[5]", "model"),
        ("algorithm.moving_rate=0.4", "algorithm"),
        ("resources.executors=3", "workers"),
        ("features.impute=mean", "features"),
    ],
)
def test_other_settings_are(place, override, said):
    place.run("first")
    place.publish("first")
    place.run("other", override)
    assert retraining.reason_to_train(place.root, "other") == f"settings changed since higgs@1: {said}"


def test_other_data_are_and_so_is_what_cannot_be_compared(place):
    place.run("first")
    place.publish("first")
    place.run("new", data="f2")
    assert retraining.reason_to_train(place.root, "new") == "the data changed since higgs@1"
    place.run("own", "model={function: 'mine:build', files: [mine.py]}")
    place.publish("own")
    place.run("again", "model={function: 'mine:build', files: [mine.py]}")
    assert "own files" in retraining.reason_to_train(place.root, "again")
    (place.runs / "again/preprocess.json").unlink()
    with pytest.raises(ConfigError, match="clear the task preprocess"):
        retraining.reason_to_train(place.root, "again")


def test_gates_and_what_is_shown(place):
    folder = place.run("first")
    with pytest.raises(ConfigError, match="clear the task evaluate"):
        retraining.failed_gates(place.root, "first")
    gates = [{"passed": True, "message": "fine"}, {"passed": False, "message": "roc_auc 0.5, at least 0.8 asked"}]
    (folder / "metrics.json").write_text(json.dumps({"gates": gates}))
    assert retraining.failed_gates(place.root, "first") == ["roc_auc 0.5, at least 0.8 asked"]
    place.publish("first")
    place.run("second", data="f2")
    place.publish("second", data="f2")
    table = retraining.comparison(place.registry, "higgs", 2, 1)
    assert (
        "| higgs@2 | higgs@1 | difference |" in table
        and "| +0.0000 |" in table
        and "0.9100 (0.9000 – 0.9200)" in table
        and "| f2 | f1 |" in table
    )
    checks = [{"name": "scores", "passed": False, "message": "a|b\nc"}]
    assert "| scores | **✗ failed** | a/b c |" in retraining.checks_table(checks)
    passed = [{"name": name, "passed": True, "message": f"{name} it is"} for name in ("integrity", "comparison")]
    assert retraining.checks_shown(passed) == "Passed: integrity, comparison.\n\n- comparison: comparison it is"
    shown = retraining.checks_shown([*passed, *checks])
    assert "**✗ failed** | a/b c" in shown and shown.endswith("Passed: integrity, comparison.")


def test_old_runs_go_unless_they_live(place):
    old = time.time() - 40 * 86400
    for name in ("old", "live", "touched", "young"):
        folder = place.run(name)
        if name == "young":
            continue
        for path in (*folder.iterdir(), folder):
            os.utime(path, (old, old))
    (place.runs / "touched/progress.json").write_text("{}")
    apps = SimpleNamespace(tags=("dkeras", run_tag("live")))
    found = SimpleNamespace(storage=LocalStorage(), rm=SimpleNamespace(apps=lambda **asked: [apps]))
    month = timedelta(days=30)
    assert remove_old_runs(found, place.root, month, dry_run=True) == ["old"]
    assert sorted(path.name for path in place.runs.iterdir()) == ["live", "old", "touched", "young"]
    assert remove_old_runs(found, place.root, month) == ["old"]
    assert remove_old_runs(found, place.root, timedelta(0)) == [], "an hour's wait for an approval is no reason to go"
    assert sorted(path.name for path in place.runs.iterdir()) == ["live", "touched", "young"]
    assert remove_old_runs(found, f"{place.root}/none", month) == []


def test_what_cannot_be_removed_is_told_after_the_others(place, monkeypatch):
    old, storage = time.time() - 40 * 86400, LocalStorage()
    for name in ("a", "b"):
        folder = place.run(name)
        for path in (*folder.iterdir(), folder):
            os.utime(path, (old, old))
    delete = storage.delete

    def refuse(path, **options):
        if path.endswith("/a"):
            raise StorageError("a: Permission denied")
        return delete(path, **options)

    monkeypatch.setattr(storage, "delete", refuse)
    found = SimpleNamespace(storage=storage, rm=SimpleNamespace(apps=lambda **asked: []))
    with pytest.raises(StorageError, match="1 runs could not be removed: a: Permission denied"):
        remove_old_runs(found, place.root, timedelta(days=30))
    assert [path.name for path in place.runs.iterdir()] == ["a"]
