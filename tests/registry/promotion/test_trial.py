"""The trial as the process that it is: a real model, and everything that may be wrong with it."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.errors import RegistryError
from dkeras_core.registry import Registry, trial
from dkeras_core.registry.environments import Environment
from dkeras_core.registry.export import assemble
from dkeras_core.storage.local import LocalStorage
from dkeras_core.yarn.package import package

HERE = Environment(sys.executable, "here")
FEATURES = FeaturePipeline(("a", "b"), (0.5, -1.0), (1.0, 2.0), (0.5, 0.25), -999.0, ("b",), {"kind": ("x",)})


def rows(n):
    rng = np.random.default_rng(2)
    b = [None if i % 3 == 0 else float(value) for i, value in enumerate(rng.normal(size=n))]
    return pa.table({"a": rng.normal(size=n), "b": pa.array(b, pa.float64()), "kind": ["x", "y"] * (n // 2)})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder to fetch versions to, function that publishes a version with another sample and fetches it)."""
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1, "sigmoid")])
    place = tmp_path_factory.mktemp("trial")
    registry, made = Registry(LocalStorage(), str(place / "root")), []
    table = rows(20)
    scores = model.predict(FEATURES.transform(table), verbose=0)[:, 0]

    def publish(sample=None):
        made.append(None)
        extras = {"features.json": json.dumps(FEATURES.to_json()).encode()}
        extras["sample.json"] = sample(table, scores) if sample else trial.sample(table, scores)
        folder = assemble(place / f"made-{len(made)}", model, extras)
        version = registry.publish("toy", folder, run_id=f"r{len(made)}")
        return version.fetch(place / f"fetched-{len(made)}")

    publish.model, publish.package = model, package(place)
    return publish


@pytest.mark.slow
def test_a_sample_is_scored_again_and_rows_beside_it(made, tmp_path):
    table = rows(1_000)
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    stranger = made.package.parent / "keras.py"
    stranger.write_text("raise SystemExit('imported from the folder it was started in')")
    outcome = trial.run(made(), HERE, made.package, tmp_path / "rows.arrow", tmp_path / "scores.npy")
    stranger.unlink()
    assert outcome.rows == 20 and outcome.difference <= 1e-6 and outcome.served <= 1e-5
    assert outcome.versions["backend"] == "tensorflow"
    expected = made.model.predict(FEATURES.transform(table), verbose=0)[:, 0]
    found = np.load(tmp_path / "scores.npy")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.slow
def test_scores_that_are_off_are_measured(made):
    def off(table, scores):
        moved = scores.copy()
        moved[7] += 3e-4
        return trial.sample(table, moved)

    outcome = trial.run(made(off), HERE, made.package)
    assert outcome.difference == pytest.approx(3e-4, rel=1e-2) and outcome.served == pytest.approx(3e-4, rel=1e-2)


@pytest.mark.slow
def test_what_is_wrong_is_said_in_one_line(made, monkeypatch, capsys):
    """In this process, which has Keras already."""

    def refused(folder):
        assert trial.main([str(folder)]) == 7
        lines = capsys.readouterr().err.strip().splitlines()
        return lines[-1]

    assert "shape (20,), it was published with (20, 3)" in refused(
        made(lambda table, scores: trial.sample(table, np.stack([scores] * 3, axis=1)))
    )
    assert "sample.json is of format 2" in refused(
        made(lambda *pair: trial.sample(*pair).replace(b'"format": 1', b'"format": 2'))
    )
    damaged = made()
    (damaged / "features.json").write_text("{}")
    assert "features.json" in refused(damaged)
    weights = made.model.get_weights()
    try:
        made.model.set_weights([np.full_like(array, np.nan) for array in weights])
        assert "20 scores of the sample are NaN" in refused(made())
    finally:
        made.model.set_weights(weights)


def test_how_the_process_ends_is_told(tmp_path, monkeypatch):
    zipped = tmp_path / "dkeras_core.zip"

    def python(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Environment(str(path), "fake")

    with pytest.raises(RegistryError, match=r"^GLIBC_2\.99 not found$"):
        trial.run(tmp_path, python("echo some warning >&2; echo GLIBC_2.99 not found >&2; exit 1"), zipped)
    with pytest.raises(RegistryError, match="ended with -9 and said nothing"):
        trial.run(tmp_path, python("kill -9 $$"), zipped)
    with pytest.raises(RegistryError, match="cannot be started"):
        trial.run(tmp_path, Environment(str(tmp_path / "nothing"), "none"), zipped)
    monkeypatch.setattr(trial, "DEADLINE", 0.2)
    with pytest.raises(RegistryError, match="more than 0 s"):
        trial.run(tmp_path, python("exec sleep 30"), zipped)
    monkeypatch.undo()
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    started = time.monotonic()
    with pytest.raises(RegistryError, match="was cancelled"):
        trial.run(tmp_path, python("exec sleep 30"), zipped, cancelled=cancelled)
    assert time.monotonic() - started < 10
    for script in ("exit 0", "echo '{}'", "echo '[1]'; echo bye"):
        with pytest.raises(RegistryError, match="its last line is no result"):
            trial.run(tmp_path, python(script), zipped)
    good = dataclasses.asdict(trial.Outcome(3, 0.0, None, {}, 1.0))
    assert trial.run(tmp_path, python(f"echo noise; echo '{json.dumps(good)}'"), zipped).rows == 3
