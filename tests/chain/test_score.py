"""`dkeras score` on real HDFS and YARN: rows and scores, what is refused, a worker that dies, Ctrl-C."""

import copy
import importlib.util
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ROOT = "/chain"  # the environment of the other tests stands there already
SMALL = ("--root", ROOT, "--set", "resources.executors=1", "--set", "resources.memory=512m")


@pytest.fixture(scope="module")
def tiny(webhdfs, tmp_path_factory):
    """The version tiny@1, promoted; and raw rows in HDFS, CSV in three files."""
    from dkeras_core.registry import Registry

    spec = importlib.util.spec_from_file_location("tiny_version", Path(__file__).parents[1] / "jobs" / "conftest.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    base = tmp_path_factory.mktemp("tiny")
    registry = Registry(webhdfs, ROOT)
    registry.publish("tiny", made.version_folder(base / "v"), run_id="run-1")
    registry.promote("tiny", 1, "production")
    draw = np.random.default_rng(1)
    rows = pd.DataFrame({"id": range(3000), "jets": draw.integers(0, 5, 3000).astype(str), "note": "as it came, ä"})
    rows["mass"] = np.where(draw.random(3000) < 0.1, -999.0, draw.normal(1, 1, 3000))
    rows["angle"] = draw.normal(0, 1, 3000)
    for i in range(3):
        part = rows[i * 1000 : (i + 1) * 1000].to_csv(index=False)
        webhdfs.write_bytes(f"{ROOT}/incoming/part-{i}.csv", part.encode(), overwrite=True)
    return registry, rows


def read(webhdfs, path, folder):
    """The rows of a result, and what it says of itself."""
    webhdfs.download(path, folder)
    found = pd.concat([pd.read_csv(part, dtype={"jets": str}) for part in sorted(folder.glob("part-*.csv"))])
    return found.sort_values("id", ignore_index=True), json.loads((folder / "_dkeras.json").read_text())


def nothing_left(webhdfs, output):
    beside = [status.name for status in webhdfs.list(ROOT)]
    assert not webhdfs.exists(f"{ROOT}/{output}")
    assert [name for name in beside if name.startswith("_")] == []
    for run in webhdfs.list(f"{ROOT}/runs") if webhdfs.exists(f"{ROOT}/runs") else []:
        assert not webhdfs.exists(f"{run.path}/staging")


def live(hadoop):
    from dkeras_core.yarn.answers import LIVE_STATES
    from dkeras_core.yarn.resource_manager import ResourceManager

    return ResourceManager([hadoop.resourcemanager_http]).apps(states=LIVE_STATES)


@pytest.fixture(scope="module")
def scored(dkeras, tiny):
    outcome = dkeras("score", "-m", "tiny@production", f"{ROOT}/incoming", f"{ROOT}/scored", *SMALL)
    assert outcome.code == 0, outcome.err
    return outcome


def test_rows_are_scored_in_the_packed_environment(dkeras, tiny, scored, webhdfs, hadoop, tmp_path):
    from dkeras_core.registry.load import load

    registry, rows = tiny
    path = scored.out.strip().splitlines()[-1].removeprefix("scored ")
    assert path.startswith("hdfs://") and path.endswith(f"{ROOT}/scored"), scored.out
    assert "3,000 rows scored with tiny@1 (production)" in scored.err
    found, said = read(webhdfs, f"{ROOT}/scored", tmp_path / "scored")
    pd.testing.assert_frame_equal(found[list(rows.columns)], rows)
    expected = load(registry.version("tiny", 1)).predict(rows)
    assert np.allclose(found["score"], expected, atol=1e-5) and expected.std() > 0.01
    assert said["model"]["digest"] == registry.digest("tiny", 1) and said["model"]["alias"] == "production"
    assert said["rows"] == {"in": 3000, "out": 3000}
    assert said["application"].startswith("application_") and said["environment"]
    assert [app.id for app in live(hadoop)] == []
    nothing_left(webhdfs, "none")
    (line,) = [line for line in dkeras("runs", "--root", ROOT).out.splitlines() if said["run"] in line]
    assert path in line
    followed = dkeras("follow", said["run"], "--root", ROOT)
    assert followed.code == 0 and followed.out.strip() == f"scored {path}", followed.err
    assert "preprocess" not in followed.err


def test_a_bad_value_is_named_and_the_earlier_scoring_stays(dkeras, scored, webhdfs):
    before = webhdfs.fingerprint(f"{ROOT}/scored")
    webhdfs.write_bytes(f"{ROOT}/bad/rows.csv", b"id,mass,angle,jets\n1,0.5,0.1,0\n2,heavy,0.1,1\n")
    outcome = dkeras("score", "-m", "tiny", f"{ROOT}/bad", f"{ROOT}/scored", "--overwrite", *SMALL)
    assert outcome.code == 3, outcome.err
    assert "column 'mass' holds 'heavy'" in outcome.err and f"{ROOT}/bad/rows.csv" in outcome.err
    assert "Traceback" not in outcome.err
    assert webhdfs.fingerprint(f"{ROOT}/scored") == before
    nothing_left(webhdfs, "none")


def test_an_earlier_scoring_is_replaced_and_can_be_an_input(dkeras, scored, webhdfs, tmp_path):
    webhdfs.write_bytes(f"{ROOT}/again/_dkeras.json", b"{}", overwrite=True)
    webhdfs.write_bytes(f"{ROOT}/again/part-old", b"old", overwrite=True)
    arguments = ("--overwrite", "--column", "again", *SMALL)
    outcome = dkeras("score", "-m", "tiny", f"{ROOT}/scored", f"{ROOT}/again", *arguments)
    assert outcome.code == 0, outcome.err
    assert "environment: reused" in outcome.err or "upload: reused" in outcome.err
    found, _ = read(webhdfs, f"{ROOT}/again", tmp_path / "again")
    assert len(found) == 3000 and np.allclose(found["again"], found["score"], atol=1e-6)
    assert not webhdfs.exists(f"{ROOT}/again/part-old")
    nothing_left(webhdfs, "none")


@pytest.mark.parametrize(
    ("model", "source", "output", "code", "said"),
    [
        ("tiny@production", f"{ROOT}/incoming", f"{ROOT}/incoming", 2, "overlap"),
        ("tiny@production", f"{ROOT}/incoming", f"{ROOT}/envs", 4, "stands there already"),
        ("tiny@production", f"{ROOT}/nosuch", f"{ROOT}/out", 3, "does not exist"),
        ("tiny@9", f"{ROOT}/incoming", f"{ROOT}/out", 7, "no version 9"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_submitted(dkeras, tiny, model, source, output, code, said):
    begun = time.monotonic()
    outcome = dkeras("score", "-m", model, source, output, *SMALL)
    assert outcome.code == code and said in outcome.err, outcome.err
    assert time.monotonic() - begun < 20


SLEEPS = "import time\nfrom pyspark import TaskContext\nTaskContext.get() and time.sleep({})\n"


def until_written(webhdfs, process):
    """Wait until tasks of the scoring write, and so hold a model that is being loaded."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if any(webhdfs.exists(f"{found.path}/_temporary") for found in webhdfs.list(ROOT) if found.name[0] == "_"):
            return
        time.sleep(0.3)
    raise AssertionError("it never began to write")


def test_ctrl_c_kills_the_application_and_leaves_nothing(dkeras, tiny, hadoop, webhdfs, tmp_path):
    module = tmp_path / "sleeps.py"
    module.write_text(SLEEPS.format(200))
    process = dkeras.start("score", "-m", "tiny", f"{ROOT}/incoming", f"{ROOT}/cut", "--py-files", str(module), *SMALL)
    try:
        until_written(webhdfs, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=90)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 130 and "was killed" in err, err
    assert live(hadoop) == []
    nothing_left(webhdfs, "cut")


def workers(hadoop):
    """The processes that a Python daemon of one of the cluster's containers has forked."""
    import psutil

    def is_pyspark(process):
        command = " ".join(process.info["cmdline"] or ())
        return "pyspark" in command and "daemon" in command

    there = {found.pid: found for found in psutil.process_iter(["cmdline", "environ", "ppid"]) if is_pyspark(found)}
    ours = [
        found for found in there.values() if str(hadoop.home) in (found.info["environ"] or {}).get("LOCAL_DIRS", "")
    ]
    return [found for found in ours if found.info["ppid"] in there]


def test_a_worker_that_is_killed_costs_no_row(dkeras, tiny, hadoop, webhdfs, tmp_path):
    module = tmp_path / "sleeps.py"
    module.write_text(SLEEPS.format(8))
    process = dkeras.start("score", "-m", "tiny", f"{ROOT}/incoming", f"{ROOT}/shot", "--py-files", str(module), *SMALL)
    try:
        deadline = time.monotonic() + 150
        while not (found := workers(hadoop)):
            assert time.monotonic() < deadline and process.poll() is None, "no Python worker was found"
            time.sleep(0.2)
        for worker in found:
            worker.kill()
        out, err = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, out + err
    found, _ = read(webhdfs, f"{ROOT}/shot", tmp_path / "shot")
    assert sorted(found["id"]) == list(range(3000))


def test_who_may_only_read_the_models_can_score(dkeras, tiny, scored, webhdfs):
    """As docs/permissions.md says: write is needed in runs and beside the output, nowhere else."""
    visitor = copy.copy(dkeras)
    visitor.env = {**dkeras.env, "HADOOP_USER_NAME": "visitor"}
    webhdfs.set_mode(f"{ROOT}/runs", 0o1777)
    webhdfs.mkdirs("/visitors", mode=0o1777)
    refused = visitor("score", "-m", "tiny", f"{ROOT}/incoming", f"{ROOT}/visited", *SMALL)
    assert refused.code == 4 and "visitor" in refused.err and f"{ROOT}" in refused.err, refused.err
    outcome = visitor("score", "-m", "tiny", f"{ROOT}/incoming", "/visitors/scored", "--json", *SMALL)
    assert outcome.code == 0, outcome.err
    assert webhdfs.status("/visitors/scored").owner == "visitor"
    said = json.loads(outcome.out)
    assert said["user"] == "visitor" and said == json.loads(webhdfs.read_bytes("/visitors/scored/_dkeras.json"))
    assert [status.name for status in webhdfs.list("/visitors")] == ["scored"]
    nothing_left(webhdfs, "visited")


def test_rows_of_hdfs_are_scored_without_yarn(dkeras, tiny, hadoop, webhdfs, tmp_path, monkeypatch):
    monkeypatch.setitem(dkeras.env, "XDG_CACHE_HOME", str(tmp_path / "cache"))
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    url = HadoopConfig.load(hadoop.conf_dir).default_fs
    paths = f"{url}{ROOT}/incoming", f"{url}{ROOT}/from-here"
    outcome = dkeras("score", "-m", "tiny@production", "--root", ROOT, "--local", *paths)
    assert outcome.code == 0, outcome.err
    found, said = read(webhdfs, f"{ROOT}/from-here", tmp_path / "back")
    assert len(found) == 3000 and said["application"].startswith("local-")
    nothing_left(webhdfs, "none")
    assert live(hadoop) == []
