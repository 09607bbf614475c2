"""`dkeras score` as a shell sees it, without YARN: on this machine, and what is refused before anything begins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from dkeras_core.cli import console
from dkeras_core.cli.app import run

MAIN = [sys.executable, "-c", "from dkeras_core.cli.app import main; main()"]


@pytest.fixture(autouse=True)
def fresh_consoles():
    """A console keeps the stream that it was made with; each test has its own."""
    console.stdout.cache_clear(), console.stderr.cache_clear()
    yield
    console.stdout.cache_clear(), console.stderr.cache_clear()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["/in", "file:///tmp/out"], "--local"),
        (["relative", "/out"], "no absolute path"),
        (["/in", "/out", "--py-files", "/nosuch/layers.py"], "/nosuch/layers.py does not exist"),
        (["/in", "/out", "--local", "--queue", "physics"], "about YARN"),
        (["/in", "/out", "--local", "--detach"], "about YARN"),
    ],
)
def test_what_cannot_be_is_refused_at_once(capsys, arguments, said):
    assert run(["score", "--model", "tiny@1", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a registry and rows, and the command run in it."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("tiny_version", Path(__file__).parents[1] / "jobs" / "conftest.py")
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    from dkeras_core.registry import Registry
    from dkeras_core.storage.local import LocalStorage

    base = tmp_path_factory.mktemp("shop")
    registry = Registry(LocalStorage(), str(base / "root"))
    registry.publish("tiny", tiny.version_folder(base / "v"), run_id="run-1")
    registry.promote("tiny", 1, "production")
    (base / "in").mkdir()
    rows = pd.DataFrame({"id": range(50), "mass": 1.5, "angle": [i / 50 for i in range(50)], "jets": "1"})
    rows.to_csv(base / "in" / "rows.csv", index=False)
    environment = {**os.environ, "XDG_CACHE_HOME": str(base / "cache"), "DKERAS_ROOT": f"file://{base / 'root'}"}
    environment.pop("HADOOP_CONF_DIR", None)

    def start(*arguments):
        command = [*MAIN, "score", "--model", "tiny@production", "--local", *arguments]
        return subprocess.Popen(
            command, cwd=base, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    return base, start


@pytest.mark.slow
def test_files_of_this_machine_are_scored_without_yarn(shop):
    base, start = shop
    scoring = start("in", "scored")
    out, err = scoring.communicate(timeout=120)
    assert scoring.returncode == 0, err
    assert out == f"scored {base}/scored\n"
    assert "50 rows scored with tiny@1 (production)" in err
    assert "oneDNN" not in err and "WARN" not in err, err
    assert json.loads((base / "scored" / "_dkeras.json").read_text())["rows"]["out"] == 50
    found = pd.concat(pd.read_csv(part) for part in (base / "scored").glob("part-*"))
    assert len(found) == 50 and found["score"].between(0, 1).all()
    assert not [name for name in os.listdir(base / "scored") if name.endswith(".crc")]
    assert sorted(os.listdir(base)) == ["cache", "in", "root", "scored", "v"]


@pytest.mark.slow
def test_the_result_for_scripts(shop):
    base, start = shop
    scoring = start("in/rows.csv", "for-scripts", "--json", "--format", "parquet")
    out, err = scoring.communicate(timeout=120)
    assert scoring.returncode == 0, err
    assert json.loads(out) == json.loads((base / "for-scripts" / "_dkeras.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_leaves_nothing(shop, signum):
    base, start = shop
    layers = base / "layers.py"
    layers.write_text("import time\nfrom pyspark import TaskContext\nTaskContext.get() and time.sleep(100)\n")
    scoring = start("in", "stopped", "--py-files", str(layers))
    try:
        deadline = time.monotonic() + 100
        while not list(base.glob("_building-*/_temporary")) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert list(base.glob("_building-*")), "it never began to write"
        scoring.send_signal(signum)
        _, err = scoring.communicate(timeout=60)
    finally:
        if scoring.poll() is None:
            os.killpg(scoring.pid, signal.SIGKILL)
            scoring.communicate()
        layers.unlink()
    assert scoring.returncode == 130, err
    assert "stopped is as it was" in err and "Traceback" not in err
    assert not list(base.glob("_building-*")) and not (base / "stopped").exists()
