"""Each check of a promotion, passed and failed, and that what cannot be checked has failed."""

from __future__ import annotations

import json
import shutil

import pytest

from dkeras_core.config import Promotion
from dkeras_core.data.features import FeaturePipeline
from dkeras_core.registry import checks, trial

BAD = 3.0  # noise that costs some 0.05 of AUC


def outcome(toy, version, current=None, settings=None):
    found = checks.run(toy.registry, version, current, settings)
    assert [check.name for check in found] == list(checks.NAMES)
    json.dumps([check.to_json() for check in found], allow_nan=False)  # they go into the audit
    return {check.name: check for check in found}


def failed(found):
    return [name for name, check in found.items() if not check.passed]


def test_a_good_first_version_passes_and_says_what_was_looked_at(toy):
    version = toy.publish(gates={"roc_auc": {"min": 0.7}, "log_loss": {"max": 0.6}})
    found = outcome(toy, version)
    assert failed(found) == []
    assert found["integrity"].detail["digest"] == toy.registry.digest("toy", 1)
    assert "20 rows of the sample" in found["scores"].message and "environment abc123" in found["scores"].message
    assert "roc_auc" in found["thresholds"].message and "at least 0.7" in found["thresholds"].message
    assert "no current version" in found["comparison"].message and "no current version" in found["significance"].message


def test_a_damaged_version_is_not_tried_at_all(toy, monkeypatch):
    version = toy.publish()
    path = toy.folder / "root/models/toy/versions/1/model.keras"
    path.chmod(0o644)
    path.write_text(path.read_text().replace("2", "3", 1))
    monkeypatch.setattr(trial, "run", lambda *args, **more: pytest.fail("a damaged model was run"))
    found = outcome(toy, version)
    assert failed(found) == list(checks.NAMES)
    assert "model.keras" in found["integrity"].message and "damaged" in found["scores"].message


def test_a_version_that_scores_its_sample_otherwise_fails(toy, monkeypatch):
    version = toy.publish()
    run = trial.run

    def off(by):
        def moved(*args, **more):
            return trial.Outcome(**{**vars(run(*args, **more)), "difference": by})

        return moved

    monkeypatch.setattr(trial, "run", off(9e-6))
    assert failed(outcome(toy, version)) == []
    monkeypatch.setattr(trial, "run", off(2e-5))
    found = outcome(toy, version)
    assert failed(found) == ["scores"] and "2.0e-05" in found["scores"].message


def test_the_saved_model_counts_as_well(toy, monkeypatch):
    version, run = toy.publish(), trial.run
    monkeypatch.setattr(
        trial, "run", lambda *args, **more: trial.Outcome(**{**vars(run(*args, **more)), "served": 1e-3})
    )
    assert failed(outcome(toy, version)) == ["scores"]


def test_a_version_without_a_sample_loads_at_least(toy):
    found = outcome(toy, toy.publish(without=["sample.json"]))
    assert failed(found) == [] and "without a sample" in found["scores"].message


def test_bounds_of_the_versions_own_pipeline_file(toy):
    version = toy.publish(gates={"roc_auc": {"min": 0.99}, "log_loss": {"max": 2.0}, "accuracy": {"max_drop": 0.1}})
    found = outcome(toy, version)
    assert failed(found) == ["thresholds"]
    assert "at least 0.99 asked" in found["thresholds"].message and "log_loss" not in found["thresholds"].message


def test_a_gate_on_a_metric_without_values_fails(toy):
    assert failed(outcome(toy, toy.publish(gates={"ams": {"min": 1.0}}))) == ["thresholds"]


@pytest.mark.parametrize("content", [None, "name: [", "name: toy\nwrong: 1\n"])
def test_without_a_usable_pipeline_file_nothing_is_taken_for_good(toy, content):
    toy.publish()
    version = toy.publish(without=["pipeline.yaml"])
    if content is not None:
        version = _republished(toy, "pipeline.yaml", content)
    found = outcome(toy, version, 1)
    assert failed(found) == ["thresholds", "comparison", "significance"]
    assert "pipeline.yaml" in found["thresholds"].message and "pipeline.yaml" in found["comparison"].message


def _republished(toy, name, content):
    folder = toy.folder / f"made-{toy.published}"
    (folder / name).write_text(content)
    return toy.registry.publish("toy", folder, run_id="again", lineage={"pipeline": "toy", "data_fingerprint": "f00d"})


def test_an_equal_version_passes_and_a_much_worse_one_fails_both(toy):
    toy.publish()
    equal, worse = toy.publish(0.05), toy.publish(BAD)
    assert failed(outcome(toy, equal, 1)) == []
    found = outcome(toy, worse, 1)
    assert failed(found) == ["comparison", "significance"]
    assert "worse, at most 0.01 worse allowed" in found["comparison"].message
    assert "toy@1's" in found["comparison"].message and "1,500 rows" in found["comparison"].message
    assert found["significance"].message.startswith("significantly worse than toy@1: roc_auc")
    gain = found["significance"].detail["gains"]["roc_auc"]
    assert gain["gain"] < -0.02 and gain["interval"][1] < 0
    assert failed(outcome(toy, toy.registry.at("toy", 1), 3)) == []  # and back again: a better one is welcome


def test_epsilon_and_significance_are_separate(toy):
    """Worse by some thousandths: allowed by epsilon, found out by the bootstrap, unless that is no matter."""
    toy.publish()
    version = toy.publish(0.6, gates={"roc_auc": {"max_drop": 0.06}})
    found = outcome(toy, version, 1)
    assert failed(found) == ["significance"], [check.message for check in found.values()]
    loss = -found["significance"].detail["gains"]["roc_auc"]["gain"]
    assert 0.001 < loss < 0.06
    assert failed(outcome(toy, version, 1, Promotion(negligible=2 * loss))) == []


def test_the_gates_of_the_pipeline_say_what_is_compared(toy):
    toy.publish()
    lax = toy.publish(BAD, gates={"roc_auc": {"max_drop": 0.5}, "log_loss": {"max_drop": 0.0}})
    found = outcome(toy, lax, 1)
    assert failed(found) == ["comparison", "significance"]
    assert "log_loss" in found["comparison"].message and "roc_auc" not in found["comparison"].message
    assert set(found["significance"].detail["gains"]) == {"roc_auc", "log_loss"}
    assert found["significance"].detail["confidence"] == 0.975
    # the metric of the settings is held to its own rule where no gate is on it
    other = toy.publish(BAD, gates={"log_loss": {"max_drop": 9.0}}, promotion={"metric": "accuracy", "max_drop": 0.001})
    found = outcome(toy, other, 1)
    assert "accuracy" in found["comparison"].message and "at most 0.001 worse" in found["comparison"].message


def test_weighted_metrics_and_the_ams_are_compared_where_there_are_weights(toy):
    schema = {"key": "id", "label": "y", "positive": 1, "negative": 0, "weight": "w"}
    gates = {"ams": {"max_drop": 0.1}, "weighted_log_loss": {"max_drop": 0.01}}
    toy.publish(schema=schema)
    found = outcome(toy, toy.publish(BAD, schema=schema, gates=gates), 1)
    assert {"ams", "weighted_log_loss", "roc_auc"} == set(found["significance"].detail["gains"])
    assert failed(found) == ["comparison", "significance"]


def test_when_the_test_split_is_gone_the_comparison_fails_and_says_so(toy):
    toy.publish()
    version = toy.publish()
    shutil.rmtree(toy.split)
    found = outcome(toy, version, 1)
    assert failed(found) == ["comparison", "significance"]
    assert "is gone" in found["comparison"].message and str(toy.split) in found["comparison"].message
    assert failed(outcome(toy, version)) == []  # without a current version it is not needed


def test_other_rows_than_those_of_the_run_are_noticed(toy):
    toy.publish()
    version = toy.publish()
    toy.labels[:200] = 1 - toy.labels[:200]
    toy.write_split()
    found = outcome(toy, version, 1)
    assert failed(found) == ["comparison", "significance"]
    assert "published with" in found["comparison"].message
    next(iter((toy.split / "test").iterdir())).write_bytes(b"cut off")
    assert "not those that were written" in outcome(toy, version, 1)["comparison"].message


def test_without_lineage_there_is_nothing_to_compare_on(toy):
    toy.publish()
    found = outcome(toy, toy.publish(lineage={"data_fingerprint": None}), 1)
    assert failed(found) == ["comparison", "significance"] and "names no data set" in found["comparison"].message


def test_a_damaged_current_version_is_named(toy):
    toy.publish()
    version = toy.publish()
    path = toy.folder / "root/models/toy/versions/1/features.json"
    path.chmod(0o644)
    path.write_text("{}")
    found = outcome(toy, version, 1)
    assert failed(found) == ["signature", "comparison", "significance"]
    assert "toy@1 is damaged: features.json" in found["comparison"].message


def test_a_current_version_that_needs_what_these_data_lack_is_no_comparison(toy):
    toy.publish()
    toy.raw = toy.raw.drop_columns(["c"])
    toy.write_split()
    fewer = FeaturePipeline(("a", "b"), (0.0, 0.1), None, None, -999.0, ("b",), {"kind": ("x", "y")})
    found = outcome(toy, toy.publish(features=fewer), 1)
    assert failed(found) == ["comparison", "significance"]  # fewer columns are no matter to callers
    assert "the current version toy@1 cannot be tried" in found["comparison"].message
    assert "no column 'c'" in found["comparison"].message


def test_a_large_split_is_judged_on_some_of_its_rows(toy):
    toy.publish()
    toy.write_split(files=5)
    (toy.split / "test/part-4.parquet").write_bytes((toy.split / "test/part-4.parquet").read_bytes()[::-1])  # not read
    found = outcome(toy, toy.publish(BAD), 1, Promotion(rows=700))
    assert "700 of 1,500 rows" in found["comparison"].message and not found["significance"].passed


def test_a_current_version_of_another_split_is_pointed_out(toy):
    toy.publish(split={"seed": 7})
    toy.publish(split={"test": 0.1})
    toy.publish(split={"test": 0.3})
    version = toy.publish()
    assert "split otherwise" in outcome(toy, version, 1)["comparison"].message
    assert "split otherwise" in outcome(toy, version, 2)["comparison"].message
    assert "split" not in outcome(toy, version, 3)["comparison"].message  # it held all of these rows out


def test_a_fold_holds_out_the_rows_of_its_own_part(toy):
    toy.publish(split={"folds": 4, "fold": 1})
    toy.publish(split={"folds": 4, "fold": 2})
    version = toy.publish()
    assert "split" not in outcome(toy, version, 1)["comparison"].message
    assert "split otherwise" in outcome(toy, version, 2)["comparison"].message


def test_the_version_that_is_named_already_is_not_compared_with_itself(toy):
    assert "no current version" in outcome(toy, toy.publish(), 1)["comparison"].message


def test_an_interrupt_ends_the_trials_that_run(toy, monkeypatch):
    """The main thread is interrupted while it waits; the threads of the pool have to end for it to go on."""
    toy.publish()
    version, ended, run = toy.publish(), [], trial.run

    def interrupted(folder, *args):
        if folder.name == "version":
            raise KeyboardInterrupt
        ended.append(args[-1].wait(20))
        return run(folder, *args)

    monkeypatch.setattr(trial, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checks.run(toy.registry, version, 1)
    assert ended == [True]
