"""Which run a step alone goes on with, on a local folder that looks like the root in HDFS."""

import json
from pathlib import Path

import pytest

from dkeras_core.cli.earlier import resolve
from dkeras_core.cli.request import Request
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError
from dkeras_core.storage.local import LocalStorage

HIGGS = Path(__file__).parents[2] / "dags" / "pipelines" / "higgs.yaml"
OLD, NEW = "higgs-20260101T000000-aaaa", "higgs-20260102T000000-bbbb"


@pytest.fixture
def storage(tmp_path):
    return LocalStorage()


def pipeline(root, *overrides):
    return Pipeline.load(HIGGS, [f"root={root}", *overrides])


def left(root, run, *names, settings=()):
    """Leave the files of a run."""
    folder = root / "runs" / run
    folder.mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(pipeline(root, f"input.path=/data/of-{run}.csv", *settings).to_yaml())
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps({"of": run}))


def request(root, *steps, run=None, settings=()):
    return Request(pipeline(root, *settings), root, run or "higgs-new", steps, named_run=run is not None)


def test_all_steps_start_a_new_run(storage, tmp_path):
    asked = request(tmp_path, "preprocess", "train", "evaluate", "publish")
    assert resolve(storage, asked)[0] == asked


def test_training_alone_is_a_new_run_on_the_newest_data(storage, tmp_path):
    left(tmp_path, OLD, "preprocess")
    left(tmp_path, NEW, "preprocess", "train")
    found, carried = resolve(storage, request(tmp_path, "train"))
    assert found.run_id == "higgs-new"
    assert found.pipeline.input.path == f"/data/of-{NEW}.csv"
    assert json.loads(carried.files["preprocess.json"]) == {"of": NEW}


@pytest.mark.parametrize(("step", "has"), [("evaluate", "train"), ("publish", "metrics")])
def test_later_steps_go_on_with_the_newest_run_that_has_what_they_need(storage, tmp_path, step, has):
    left(tmp_path, OLD, "preprocess", has)
    left(tmp_path, NEW, "preprocess")
    found, carried = resolve(storage, request(tmp_path, step))
    assert (found.run_id, carried.files) == (OLD, {})


def test_runs_of_a_pipeline_whose_name_begins_alike_are_not_taken(storage, tmp_path):
    left(tmp_path, "higgs-2-20260103T000000-cccc", "preprocess", "train")
    with pytest.raises(ConfigError, match="--step train"):
        resolve(storage, request(tmp_path, "evaluate"))


def test_data_of_other_settings_are_refused(storage, tmp_path):
    left(tmp_path, OLD, "preprocess", settings=["split.seed=9"])
    with pytest.raises(ConfigError, match=r"other settings \(split\)"):
        resolve(storage, request(tmp_path, "train"))


def test_a_named_run_is_taken_as_it_is_or_refused(storage, tmp_path):
    left(tmp_path, OLD, "preprocess", "train")
    left(tmp_path, NEW, "preprocess")
    assert resolve(storage, request(tmp_path, "evaluate", run=OLD))[0].run_id == OLD
    with pytest.raises(ConfigError, match=f"run {NEW} has nothing for the step evaluate"):
        resolve(storage, request(tmp_path, "evaluate", run=NEW))


def test_a_published_run_is_not_trained_again(storage, tmp_path):
    left(tmp_path, OLD, "preprocess", "train", "metrics", "publish")
    with pytest.raises(ConfigError, match="published already"):
        resolve(storage, request(tmp_path, "preprocess", "train", run=OLD))
