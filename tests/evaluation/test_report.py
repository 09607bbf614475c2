"""The report: well-formed, self-contained, complete, and whole when parts are missing."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from wellformed import WellFormed

from dkeras_core.evaluation.gates import gates
from dkeras_core.evaluation.metrics import BinaryStatistics
from dkeras_core.evaluation.report import render
from dkeras_core.yarn.package import package


def metrics_of(separation, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random(4_000) < 0.34
    scores = 1 / (1 + np.exp(-1.3 * (rng.normal(size=4_000) + separation * labels - 0.9)))
    statistics = BinaryStatistics()
    statistics.update(scores.astype(np.float32), labels, np.where(labels, 0.01, rng.uniform(0.1, 5, 4_000)))
    return statistics.result({"positive": 692.0, "negative": 411_000.0})


@pytest.fixture(scope="module")
def full():
    """What the jobs hand over after a whole run."""
    challenger, champion = metrics_of(1.8), metrics_of(1.6)
    config = {"roc_auc": {"min": 0.8, "max_drop": 0.01}, "log_loss": {"max": 0.1}}
    return {
        "pipeline": {
            "name": "higgs",
            "description": "Signal against background",
            "schema": {"label": "Label", "positive": "s", "negative": "b", "drop": []},
            "training": {"optimizer": {"name": "adam", "learning_rate": 0.001}, "workers": None},
            "registry": {"model": "higgs"},
        },
        "run": {
            "phases": [
                {"name": "preprocess", "seconds": 24.3, "state": "reused", "detail": "8,000 rows to train on"},
                {"name": "train", "seconds": 245.0, "state": "done", "detail": ""},
                {"name": "publish", "seconds": None, "state": "running", "detail": ""},
            ]
        },
        "dataset": {
            "path": "/dkeras/data/higgs/9f2c",
            "fingerprint": "9f2c41d07be35a11",
            "rows": {"train": 16_000, "validation": 0, "test": 4_000, "in": 20_000},
            "features": ["DER_mass_MMC", "PRI_tau_pt"],
            "classes": {
                "positive": {"label": "s", "rows": {"train": 5_411, "test": 1_353, "in": 6_764}},
                "negative": {"label": "b", "rows": {"train": 10_589, "test": 2_647, "in": 13_236}},
            },
            "missing": {"DER_mass_MMC": 2_432},
            "warnings": ["PRI_jet_num has four values only"],
        },
        "train": {
            "algorithm": {"name": "asynchronous_easgd", "communication_period": 10, "moving_rate": 0.5},
            "parameters": 380_402,
            "epochs": 5,
            "rows_in": 16_000,
            "rows_trained": 80_000,
            "seconds": 245.0,
            "rows_per_second": 326.5,
            "curve": [
                {"seconds": i + worker / 10, "rows": 400 * i, "loss": 0.3 + 0.4 / (1 + i), "worker": worker}
                for i in range(100)
                for worker in range(2)
            ],
            "workers": [
                {
                    "worker": worker,
                    "host": f"node-{worker}",
                    "attempt": 0,
                    "rows": 8_000,
                    "rows_trained": 40_000,
                    "steps": 1_250,
                    "exchanges": 125,
                    "spool_seconds": 1.5,
                    "compute_seconds": 200.0,
                    "exchange_seconds": 30.0,
                    "wait_seconds": 8.5,
                    "loss": 0.31,
                }
                for worker in range(2)
            ],
            "versions": {"python": "3.11.7", "numpy": "2.4.6", "keras": "3.15.0", "backend": "tensorflow"},
            "result": "mean",
            "exchange": {"count": 250, "bytes": 760_804_000, "shards": 1},
        },
        "metrics": {
            "rows": 4_000,
            "challenger": challenger,
            "champion": champion,
            "champion_version": 6,
            "gates": [gate.to_json() for gate in gates(config, challenger, champion)],
        },
        "environment": {"key": "4be19a07c2d1f633", "versions": {"tensorflow": "2.21.0"}},
        "application": "application_1763838000000_0007",
        "run_id": "higgs-20261122T190501-3fa9",
        "version": 7,
        "synthetic": True,
        "created": "2026-11-22T19:07:44+00:00",
    }


def test_a_whole_run_is_all_there(full):
    page = render(full)
    parsed = WellFormed(page)
    texts = parsed.texts
    challenger = full["metrics"]["challenger"]
    for expected in [
        "higgs",
        "Version 7",
        "SYNTHETIC DATA",
        "SYNTHETIC",
        "1 of 3 gates failed",
        "22 November 2026, 19:07",
        *(f"{challenger[name]:.4f}" for name in ("roc_auc", "ams", "accuracy", "f1", "log_loss", "brier")),
        "380,402",
        "80,000",
        "asynchronous easgd",
        "4 min 5 s",
        "24.3 s",
        "Worker 1 on node-1",
        "16,000",
        "10,589",
        "13,236",
        "9f2c41d07be35a11",
        "4be19a07c2d1f633",
        "2.21.0",
        "3.15.0",
        "application_1763838000000_0007",
        "higgs-20261122T190501-3fa9",
        "optimizer.learning_rate",
        "0.001",
        "PRI_tau_pt",
        "2,432",
        "PRI_jet_num has four values only",
        "max_drop",
        *(gate["message"] for gate in full["metrics"]["gates"]),
    ]:
        assert expected in texts, expected
    for title in (
        "ROC",
        "Score distributions",
        "AMS over threshold",
        "Calibration",
        "Loss over time",
        "Loss over rows",
    ):
        assert title in texts
    assert parsed.tags.count("svg") >= 8
    difference = challenger["roc_auc"] - full["metrics"]["champion"]["roc_auc"]
    assert f"+{difference:.4f}" in texts and "against version 6" in texts
    assert len(page) < 300_000


def test_intervals_stand_below_the_values_and_the_differences(full):
    report = copy.deepcopy(full)
    metrics = report["metrics"]
    metrics["challenger"]["intervals"] = {"roc_auc": [0.8712, 0.8951], "accuracy": [0.79, 0.81]}
    metrics["comparison"] = {
        "roc_auc": {"gain": 0.02, "interval": [-0.0011, 0.0412]},
        "log_loss": {"gain": 0.03, "interval": [0.0123, 0.0487]},  # the loss itself fell by so much
    }
    page = render(report)
    texts = WellFormed(page).texts
    # what may be chance has no colour
    tones = [re.search(rf"<dt>{name}</dt>.*?class=\"delta (\w+)\"", page, re.S)[1] for name in ("ROC AUC", "Log loss")]
    assert tones == ["even", "better"]
    for expected in ("95 %: 0.8712 to 0.8951", "95 %: 0.7900 to 0.8100, at threshold 0.5"):
        assert expected in texts, expected
    for expected in ("95 %: −0.0011 to 0.0412", "95 %: −0.0487 to −0.0123"):
        assert expected in texts, expected
    assert not any(text.startswith("95 %") for text in WellFormed(render(full)).texts)


def test_it_opens_offline(full):
    page = render(full)
    assert not re.search(r"https?:|//\w|@import|url\(|<link|<script|src=|href=", page)
    assert "nan" not in re.sub(r"<style>.*</style>", "", page, flags=re.S).lower().split()


def test_hostile_names_are_text(full):
    hostile = "</style><script>alert('x')</script>"
    report = copy.deepcopy(full)
    report["pipeline"]["registry"]["model"] = report["pipeline"]["description"] = hostile
    report["pipeline"]["schema"]["positive"] = report["pipeline"]["schema"][hostile] = hostile
    report["dataset"]["features"] = [hostile]
    report["dataset"]["classes"]["positive"]["label"] = hostile
    report["train"]["workers"][0]["host"] = report["run_id"] = report["application"] = hostile
    report["train"]["algorithm"][hostile] = hostile
    report["run"]["phases"][0]["detail"] = report["run"]["phases"][0]["name"] = hostile
    report["metrics"]["gates"][0]["message"] = hostile
    report["environment"] = {"key": hostile, "versions": {hostile: hostile}}
    parsed = WellFormed(render(report))
    assert "script" not in parsed.tags and parsed.tags.count("style") == 1
    assert parsed.texts.count(hostile) >= 10


@pytest.mark.parametrize(
    ("parts", "present", "absent"),
    [
        (["train"], ["Training", "Loss over time"], ["On the test split", "Gates", "Time per phase"]),
        (["metrics"], ["On the test split", "ROC"], ["Training", "Data", "Settings"]),
        (["dataset"], ["Data"], ["Training", "Environment"]),
        (["run", "pipeline"], ["Time per phase", "Settings"], ["Training", "Data"]),
        ([], ["Candidate"], ["Gates", "Training", "Settings", "Data"]),
    ],
)
def test_missing_parts_are_left_out(full, parts, present, absent):
    texts = WellFormed(render({part: full[part] for part in parts})).texts
    assert all(heading in texts for heading in present) and not any(heading in texts for heading in absent)
    assert "SYNTHETIC DATA" not in texts
    nothing = dict.fromkeys(full) | {part: full[part] for part in parts}
    assert WellFormed(render(nothing)).texts == texts  # None is the same as missing


def test_without_champion_weights_or_gates(full):
    report = copy.deepcopy(full)
    rng = np.random.default_rng(0)
    statistics = BinaryStatistics()
    statistics.update(rng.random(50).astype(np.float32), rng.integers(0, 2, 50))
    report["metrics"] = {"rows": 50, "challenger": statistics.result(), "champion": None, "gates": []}
    texts = WellFormed(render(report)).texts
    assert "ROC" in texts and "AMS over threshold" not in texts and "AMS" not in texts
    assert not any("gate" in text.lower() or "version 6" in text for text in texts)


def test_a_split_of_one_class_still_makes_a_report(full):
    report = copy.deepcopy(full)
    statistics = BinaryStatistics()
    statistics.update(np.float32([0.2, 0.9]), np.zeros(2), np.ones(2))
    report["metrics"]["challenger"] = statistics.result({"positive": 1.0, "negative": 1.0})
    report["metrics"]["gates"] = [
        gate.to_json() for gate in gates({"roc_auc": {"min": 0.8}}, report["metrics"]["challenger"])
    ]
    texts = WellFormed(render(report)).texts
    assert "ROC" not in texts and "Gate failed" in texts


def test_many_workers_and_long_curves_stay_small(full):
    report = copy.deepcopy(full)
    report["train"]["workers"] *= 32
    report["train"]["curve"] = [
        {"seconds": i, "rows": i, "loss": 0.5, "worker": worker} for i in range(400) for worker in range(64)
    ]
    page = render(report)
    WellFormed(page)
    assert len(page) < 600_000


def test_the_loss_is_the_mean_of_the_workers(full):
    report = copy.deepcopy(full)
    report["train"]["curve"] = [
        {"seconds": i, "rows": i, "loss": loss, "worker": worker}
        for i in range(50)
        for worker, loss in enumerate((0.2, 0.6))
    ]
    page = render(report)
    assert "0 s: loss 0.4000" in page and "49 rows: loss 0.4000" in page
    for point in report["train"]["curve"]:
        del point["worker"]
    assert "rows trained by each worker" not in render(report)


@pytest.fixture
def validated(full):
    """The same run with validation, on a synchronous rule, with an automatic period, ended early."""
    report = copy.deepcopy(full)
    for worker in report["train"]["workers"]:
        period = {"first": 10, "last": 40, "min": 10 - worker["worker"], "max": 40}
        worker |= {"late": 17 + worker["worker"], "late_seconds": 1.0, "period": period, "communication_period": 40}
        worker |= {"compile_seconds": 3.25, "start_seconds": 1.0}
    report["train"] |= {
        "epoch": [1, 2, 4],
        "epoch_seconds": [1.0, 2.0, 4.0],
        "history": {"loss": [0.6, 0.5, None], "val_loss": [0.55, 0.45, 0.47], "val_AUC": [0.8, 0.85, 0.84]},
        "final": {"val_AUC": 0.8519, "val_loss": 0.4513},
        "stopped": "val_loss has not improved on 0.4500 for 2 evaluated epochs",
        "restored": 2,
        "settings": {"learning_rate_scale": 2.0, "warmup": 0.0, "overlap": True, "wire": "bfloat16"},
        "warnings": ["worker 1 exchanged only <10> times"],
    }
    return report


def test_validation_switches_and_warnings_are_told(validated):
    page = render(validated)
    texts = WellFormed(page).texts
    for expected in [
        "Loss by epoch", "Metrics by epoch", "validation, of the center", "0.4500 in epoch 2", "0.8519", "0.4513",
        "Stopped early: val_loss has not improved on 0.4500 for 2 evaluated epochs.", "center of epoch 2",
        "Worker 1 exchanged only <10> times.", "learning rate scale", "2.0", "bfloat16", "overlap",
        "periods chosen", "9 to 40", "Came last", "18",
    ]:  # fmt: skip
        assert expected in texts, expected
    assert "warmup" not in texts, "a switch at its default is told"
    assert "epoch 4: validation, of the center 0.4700" in page and "worker 0: compile 3.2 s" in page


def test_one_epoch_is_a_point_and_no_validation_no_figure(validated):
    train = validated["train"]
    train |= {"epoch": [1], "history": {"loss": [None], "val_loss": [0.5]}, "final": {}, "restored": None}
    page = render(validated)
    assert "Loss by epoch" in WellFormed(page).texts and "epoch 1: validation, of the center 0.5000" in page
    train["history"] = {"loss": [0.5]}
    assert "Loss by epoch" not in WellFormed(render(validated)).texts


def test_a_failed_run_says_so(full):
    assert "Run failed" in WellFormed(render({**full, "run": {**full["run"], "status": "failed"}})).texts


def test_the_templates_are_read_from_a_zip(full, tmp_path):
    program = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from dkeras_core.evaluation import report\n"
        "assert sys.argv[1] in report.__file__, report.__file__\n"
        "sys.stdout.write(report.render(json.load(sys.stdin)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(package(tmp_path))],
        input=json.dumps(full),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == render(full)
