"""What a user sees when the chain breaks: one message with cause and next step, and nothing half-written."""

import itertools
import os
import signal
import time

import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


ROOT = "/chain"  # the environment stands there already, and is unpacked on the node


def nothing_half_written(webhdfs, model):
    """No version of the model stands there, and nothing that was staged for it or for its run."""
    assert not webhdfs.exists(f"{ROOT}/models/{model}")
    left = [status.path for status in webhdfs.walk(ROOT)] if webhdfs.exists(ROOT) else []
    assert [path for path in left if "/staging/" in path or "partial" in path or path.endswith(".tmp")] == []


def submit(dkeras, registered, events, *arguments, **settings):
    """Submit for a model of its own, on the data that the other tests have preprocessed where nothing says else."""
    return dkeras.submit("--data", str(events), *arguments, root=ROOT, registry__model=registered, **settings)


def live_applications(hadoop):
    from dkeras_core.yarn.answers import LIVE_STATES
    from dkeras_core.yarn.resource_manager import ResourceManager

    return ResourceManager([hadoop.resourcemanager_http]).apps(states=LIVE_STATES)


def test_a_misspelt_column(dkeras, events, webhdfs, result_of):
    outcome = submit(dkeras, "misspelt", events, name="misspelt", schema__label="Labell")
    assert outcome.code == 3, outcome.err
    assert "Labell" in outcome.err and "'Label'" in outcome.err
    assert "Traceback" not in outcome.err
    nothing_half_written(webhdfs, "misspelt")
    assert not webhdfs.exists(f"{ROOT}/data/misspelt") or webhdfs.list(f"{ROOT}/data/misspelt") == []
    result = result_of(ROOT, "misspelt")
    assert (result["status"], result["error"]["type"]) == ("failed", "DataError")


def test_a_model_function_that_fails_shows_its_exception(dkeras, events, webhdfs, tmp_path):
    module = tmp_path / "mine.py"
    module.write_text("def build(n_features):\n    raise RuntimeError('out of ideas')\n")
    outcome = submit(dkeras, "mine", events, model=f"{{function: 'mine:build', files: [{module}]}}")
    assert outcome.code == 2, outcome.err
    assert "out of ideas" in outcome.err and "mine:build" in outcome.err
    nothing_half_written(webhdfs, "mine")


def test_a_gate_that_fails_publishes_nothing_and_leaves_the_report(dkeras, events, webhdfs, result_of, newest_run):
    gates = "{roc_auc: {min: 0.999}}"
    outcome = submit(dkeras, "gated", events, training__epochs="1", evaluation__gates=gates)
    assert outcome.code == 7, outcome.err
    assert "roc_auc" in outcome.err and "0.999" in outcome.err
    nothing_half_written(webhdfs, "gated")
    assert result_of(ROOT, "higgs", "metrics.json")["gates"][0]["passed"] is False
    assert webhdfs.exists(f"{newest_run(ROOT, 'higgs')}/report.html")


def test_an_executor_killed_for_memory_names_the_setting(dkeras, events, webhdfs):
    small = {"resources__memory": "512m", "resources__memory_overhead": "128m"}
    outcome = submit(dkeras, "gated", events, "--step", "preprocess", "--step", "train", **small)
    assert outcome.code != 0
    assert "memory_overhead" in outcome.err, outcome.err
    nothing_half_written(webhdfs, "gated")


def train_and_kill_the_busiest_worker(dkeras, events, hadoop, **settings):
    """Preprocess and train, and kill -9 the executor's Python that has computed most, once the training runs."""
    import psutil

    process = dkeras.start(
        *("submit", "dags/pipelines/higgs.yaml", "--data", str(events)),
        *("--step", "preprocess", "--step", "train"),
        *dkeras.overrides({"root": ROOT, "name": "higgs", "registry__model": "shot", **settings}),
    )
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if line.startswith("train: epoch") and "rows/s" in line:
                break
        workers = [
            found
            for found in psutil.process_iter(["cmdline", "environ"])
            if "pyspark" in " ".join(found.info["cmdline"] or ())
            and str(hadoop.home) in (found.info["environ"] or {}).get("LOCAL_DIRS", "")
            and "daemon" in " ".join(found.info["cmdline"])
            and not found.children()
        ]
        assert workers, "".join(said)
        busiest = max(workers, key=lambda found: sum(found.cpu_times()[:2]))
        busiest.kill()
        out, err = process.communicate(timeout=300)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, out + err


def test_a_worker_that_is_killed_is_started_again_and_no_row_is_lost(dkeras, events, webhdfs, hadoop, result_of):
    train_and_kill_the_busiest_worker(dkeras, events, hadoop, training__epochs="100")
    train = result_of(ROOT, "higgs", "train.json")
    assert train["rows_trained"] == 100 * train["rows_in"]
    assert max(worker["attempt"] for worker in train["workers"]) == 1


@pytest.mark.slow
@pytest.mark.long
def test_a_search_goes_on_in_the_same_evaluation_when_a_worker_is_killed(dkeras, events, hadoop, result_of):
    """Each evaluation is of all rows, so the loss never rises; the driver itself counts the rows of the pieces."""
    algorithm = {"algorithm": "{name: sandblaster_lbfgs, iterations: 150, tolerance: 1.0e-9}"}
    train_and_kill_the_busiest_worker(dkeras, events, hadoop, **algorithm)
    train = result_of(ROOT, "higgs", "train.json")
    losses = [one["loss"] for one in train["search"]["iterations"]]
    assert len(losses) > 50 and all(after <= before for before, after in itertools.pairwise(losses)), losses
    assert losses[-1] < 0.8 * losses[0]
    assert max(worker["attempt"] for worker in train["workers"]) == 1


def test_more_memory_than_a_container_may_have(dkeras, events, webhdfs):
    outcome = submit(dkeras, "big", events, resources__memory="900g")
    assert outcome.code == 5, outcome.err
    assert "resources.memory" in outcome.err and "900g" in outcome.err
    nothing_half_written(webhdfs, "big")


def test_hdfs_out_of_quota(dkeras, events, webhdfs, hadoop):
    webhdfs.mkdirs("/poor")
    hadoop.run("org.apache.hadoop.hdfs.tools.DFSAdmin", "-setSpaceQuota", "1m", "/poor", timeout=60)
    outcome = dkeras.submit("--data", str(events), root="/poor")
    assert outcome.code == 4, outcome.err
    assert "quota" in outcome.err
    assert list(webhdfs.walk("/poor")) == []


def test_a_resource_manager_that_is_down(dkeras, events, hadoop, webhdfs):
    os.kill(hadoop.status().daemon("resourcemanager").pid, signal.SIGKILL)
    try:
        begun = time.monotonic()
        outcome = submit(dkeras, "down", events)
        assert outcome.code == 5, outcome.err
        assert "ResourceManager" in outcome.err
        assert time.monotonic() - begun < 60
        nothing_half_written(webhdfs, "down")
    finally:
        hadoop.up()


@pytest.mark.parametrize("moment", ["environment", "submit", "preprocess: running", "train: epoch"])
def test_ctrl_c(dkeras, events, hadoop, webhdfs, moment):
    model = f"cut-{moment.partition(':')[0]}"
    settings = {"root": ROOT, "registry__model": model, **({"name": model} if "preprocess" in moment else {})}
    settings = dkeras.overrides(settings)
    process = dkeras.start("submit", "dags/pipelines/higgs.yaml", "--data", str(events), *settings)
    seen = []
    try:
        for line in process.stderr:
            seen.append(line)
            if line.startswith(moment):
                break
        assert seen and seen[-1].startswith(moment), "".join(seen)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=90)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130, "".join(seen) + rest
    assert live_applications(hadoop) == [], "".join(seen) + rest
    nothing_half_written(webhdfs, model)
