"""What a scoring asks of YARN: from the version's own pipeline, and the environment that it was made in."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from dkeras_core.cli import score_flow, sending
from dkeras_core.cli.console import Steps
from dkeras_core.config import Pipeline, Resources
from dkeras_core.errors import ConfigError
from dkeras_core.paths import Layout
from dkeras_core.registry import Registry
from dkeras_core.scoring.request import ScoreRequest, choose
from dkeras_core.storage.local import LocalStorage
from dkeras_core.yarn.sizing import scoring_containers

KEY = "0123456789abcdef"


@pytest.fixture
def published(tmp_path, project_root):
    """A version with the pipeline of the example, changed a little, and one without any."""
    asked = ["resources.executors=3", "resources.queue=physics", "resources.memory_overhead=9g"]
    pipeline = Pipeline.load(project_root / "dags/pipelines/higgs.yaml", asked)
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    for run in ("with", "without"):
        folder = tmp_path / run
        folder.mkdir()
        (folder / "model.keras").write_bytes(b"weights" * 1000)
        if run == "with":
            (folder / "pipeline.yaml").write_text(pipeline.to_yaml())
        registry.publish("tiny", folder, run_id=run, lineage={"environment": KEY})
    return registry


def resources(registry, text, *overrides):
    return score_flow._resources(registry.storage, choose(registry, text), overrides)


def test_resources_are_those_of_the_version_but_for_what_training_held(published):
    asked = resources(published, "tiny@1")
    assert (asked.executors, asked.queue, asked.memory_overhead) == (3, "physics", None)
    asked = resources(published, "tiny@1", "resources.executors=8", "resources.memory_overhead=2g")
    assert (asked.executors, asked.queue, asked.memory_overhead) == (8, "physics", "2g")
    assert resources(published, "tiny@2") == Resources()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("executors=8", "executors"),
        ("resources.executor=8", "did you mean 'executors'"),
        ("resources.executors=0", "1"),
    ],
)
def test_a_mistyped_setting_is_refused(published, override, said):
    with pytest.raises(ConfigError) as refusal:
        resources(published, "tiny@1", override)
    assert said in refusal.value.what and "--set" in refusal.value.next_step


def test_the_overhead_grows_with_the_model_and_the_cores():
    def executor(model_bytes, **asked):
        return scoring_containers(Resources(**asked), model_bytes, 256).executor_overhead

    small, large = executor(1 << 20), executor(500 << 20)
    assert 1000 < small < 1500 and 1930 <= large - small <= 2064  # four copies of 499 MiB, rounded
    assert executor(500 << 20, cores=2) > 1.7 * large
    assert executor(500 << 20, memory_overhead="3g") == 3072
    whole = scoring_containers(Resources(executors=2), 1 << 20, 256)
    assert whole.total == 2 * (1024 + small) + 1024 + whole.driver_overhead


def uploaded(registry, monkeypatch):
    """Choose the environment; return its path and what the screen says."""
    storage, layout = registry.storage, Layout(registry.layout.root)
    shown = io.StringIO()

    def built(step):
        step.detail = "built"
        return SimpleNamespace(key="new", path=None)

    monkeypatch.setattr(sending, "built_environment", built)
    monkeypatch.setattr(
        "envs.builder.publish.upload", lambda storage, layout, archive, progress: layout.env_archive("new")
    )
    found = SimpleNamespace(storage=storage, single_node=True)
    steps = Steps(Console(file=shown, width=200))
    path, jars = score_flow._upload(found, layout, choose(registry, "tiny@1"), steps)
    assert jars is None
    return path.removeprefix(layout.root), shown.getvalue()


def test_the_environment_is_the_versions_own_where_it_stands(published, monkeypatch):
    path, said = uploaded(published, monkeypatch)
    assert path == "/envs/train-new.tar.gz" and f"the version's own, train-{KEY}, is not in" in said
    published.storage.write_bytes(Layout(published.layout.root).env_archive(KEY), b"packed")
    path, said = uploaded(published, monkeypatch)
    assert path == f"/envs/train-{KEY}.tar.gz" and "environment: reused" in said
    assert score_flow._key(path) == KEY


def test_the_submission_names_run_and_environment(published, tmp_path):
    chosen = choose(published, "tiny@1")
    request = ScoreRequest.of(chosen, input="/in", output="/out")
    module = tmp_path / "layers.py"
    module.touch()
    asked = score_flow.Asked("/dkeras/", "tiny@1", "score-tiny-1", (), (module,), {})
    work = score_flow._work(request, chosen, Resources(queue="physics"))
    config = SimpleNamespace(default_fs="hdfs://nn", conf_dir=tmp_path)
    found = SimpleNamespace(config=config, single_node=False)
    made = score_flow._submission(found, asked, request, work, "/dkeras/envs/train-x.tar.gz", "/dkeras/envs/jars.zip")
    assert made.arguments == ("--root", "/dkeras", "--run", "score-tiny-1", "--score")
    assert (
        made.archive == "hdfs://nn/dkeras/envs/train-x.tar.gz" and made.spark_jars == "hdfs://nn/dkeras/envs/jars.zip"
    )
    assert made.py_files[1:] == (module,) and made.staging == "hdfs://nn/dkeras/runs/score-tiny-1/staging"
    assert made.conf()["spark.yarn.queue"] == "physics" and "tiny@1" in made.name
    assert made.tags == ("dkeras", "dkeras-run-score-tiny-1")
