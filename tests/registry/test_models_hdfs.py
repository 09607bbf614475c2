"""`dkeras models` on real HDFS: one day of a model, by the users whose groups the NameNode knows."""

import getpass
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from dkeras_core.cli.app import run
from dkeras_core.registry import Registry, permissions
from dkeras_core.registry import checks as checking
from dkeras_core.registry.checks import Check
from dkeras_core.registry.manifest import Manifest, seal
from dkeras_core.storage.webhdfs import WebHdfsStorage

pytestmark = pytest.mark.cluster


@pytest.fixture
def site(hadoop, webhdfs, folder, monkeypatch, capsys):
    """``site(user, *arguments)`` runs `dkeras models` as a user; the checks of a promotion all pass here."""

    def passing(registry, version, current, settings=None, progress=None):
        return [Check("integrity", True, "whole", {"digest": version.digest()})]

    def call(user, *arguments):
        monkeypatch.setenv("HADOOP_USER_NAME", user)
        code = run(["models", *arguments])
        output = capsys.readouterr()
        return code, output.out, " ".join(output.err.split())

    monkeypatch.setattr(checking, "run", passing)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
    monkeypatch.setenv("DKERAS_ROOT", root := f"/tmp/models-{secrets.token_hex(4)}")
    call.root, call.conf_dir = root, hadoop.conf_dir
    registry = Registry(webhdfs, root)
    permissions.init(registry, publishers="dkeras-publishers", operators="dkeras-operators", owner="keeper")
    permissions.init(registry, "higgs")
    monkeypatch.setenv("HADOOP_USER_NAME", "trainer")
    trainer = Registry(WebHdfsStorage(webhdfs.url, user="trainer", failover=5), root)
    for number in (1, 2, 3):
        trainer.publish("higgs", folder, run_id=f"run-{number}", metrics={"roc_auc": 0.9 + number / 100})
    call.registry = registry
    yield call
    webhdfs.delete(root, recursive=True)


def test_a_day_of_a_model(site):
    assert site("operator", "promote", "higgs@1", "production")[1].endswith("higgs@production is 1 (new)\n")
    began = time.monotonic()
    assert site("operator2", "promote", "higgs@2", "production", "--expect", "1")[0] == 0
    promoted = time.monotonic() - began
    code, _, err = site("operator", "promote", "higgs@3", "production", "--expect", "1")
    assert code == 9 and "higgs@production is 2, not 1: promote by operator2" in err
    code, _, err = site("trainer", "promote", "higgs@3", "production")
    assert code == 4 and "you may not write there" in err and "dkeras-operators" in err
    code, _, err = site("reader", "rollback", "higgs@production")
    assert code == 4 and "dkeras-operators" in err
    code, _, err = site("trainer", "tag", "higgs@3", "owner=me")
    assert code == 4 and "dkeras-operators" in err
    assert site("reader", "list", "higgs")[0] == 0 and site("reader", "verify", "higgs", "--all")[0] == 0
    assert site("operator", "rollback", "higgs@production", "--reason", "drift")[1] == "higgs@production is 1 (was 2)\n"
    assert site("operator", "tag", "higgs@3", "owner=anna")[0] == 0
    assert site("operator", "archive", "higgs@3", "--reason", "mislabelled")[0] == 0
    assert site("operator", "promote", "higgs@3", "production")[0] == 7
    lines = site("reader", "history", "higgs")[1].splitlines()
    assert [line.split()[2] for line in lines[1:]] == ["archive", "tag", "rollback", "promote", "promote"]
    assert "operator2" in lines[4] and lines[3].endswith("drift")
    rows = json.loads(site("reader", "list", "higgs", "--json")[1])
    assert [(row["version"], row["aliases"]) for row in rows] == [(3, []), (2, []), (1, ["production"])]
    assert "0 versions to go" in site("trainer", "gc", "higgs")[1]
    assert site("reader", "doctor", "higgs")[0] == 0
    assert "index.html" in site("operator", "page")[1]
    print(f"\npromote over WebHDFS, without the checks: {promoted:.2f} s")


def test_two_operators_who_see_the_same_version_do_not_overwrite_each_other(site, monkeypatch):
    site("operator", "promote", "higgs@1", "production")
    code = (
        "import sys; from dkeras_core.registry import checks; from dkeras_core.registry.checks import Check;"
        "checks.run = lambda r, v, *_: [Check('integrity', True, 'whole', {'digest': v.digest()})];"
        "from dkeras_core.cli.app import run; sys.exit(run(sys.argv[1:]))"
    )
    start = threading.Barrier(2)

    def promote(number):
        start.wait()
        command = [sys.executable, "-c", code, "models", "promote", f"higgs@{number}", "production", "--expect", "1"]
        return subprocess.run(command, capture_output=True, text=True)

    monkeypatch.setenv("HADOOP_USER_NAME", "operator")
    with ThreadPoolExecutor(2) as pool:
        done = dict(zip((2, 3), pool.map(promote, (2, 3)), strict=True))
    assert sorted(found.returncode for found in done.values()) == [0, 9]
    (winner,) = [number for number, found in done.items() if found.returncode == 0]
    assert site.registry.alias("higgs", "production") == winner
    (loser,) = [found for found in done.values() if found.returncode == 9]
    assert "production" in loser.stderr and "Traceback" not in loser.stderr


def test_a_namenode_that_is_not_there_is_said_in_one_message(site, tmp_path, monkeypatch):
    conf = tmp_path / "conf"
    conf.mkdir()
    for file in site.conf_dir.iterdir():
        text = file.read_text()
        if file.name == "hdfs-site.xml":
            text = re.sub(r"(namenode\.http-address</name>\s*<value>)[^<]*", r"\g<1>127.0.0.1:9", text)
        (conf / file.name).write_text(text)
    monkeypatch.setenv("HADOOP_CONF_DIR", str(conf))
    code, out, err = site("operator", "list")
    assert code == 4 and out == "" and "127.0.0.1:9" in err


@pytest.mark.slow
def test_a_thousand_versions_are_listed_and_completed(site):
    """By the whole command, Python's start included; the times are printed. That it asks for few things, whatever the
    number of versions, test_catalog.py counts.
    """
    storage, base = site.registry.storage, site.registry.layout.versions("muons")

    def put(number):
        data = Manifest(name="muons", run=f"run-{number}", created=datetime.now(UTC), user="u", files={}).to_bytes()
        storage.write_bytes(f"{base}/{number}/manifest.json", data)
        storage.write_bytes(f"{base}/{number}/manifest.sha256", seal(data))

    def timed(arguments, **environment):
        best, lines = 60.0, []
        for _ in range(3):
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-c", "from dkeras_core.cli.app import main; main()", *arguments],
                env=os.environ | environment,
                capture_output=True,
                text=True,
            )
            best, lines = min(best, time.monotonic() - began), done.stdout.splitlines() or lines
        return best, lines

    with ThreadPoolExecutor(16) as writers:
        list(writers.map(put, range(1, 1001)))
    first = time.monotonic()
    assert len(site(getpass.getuser(), "list", "muons")[1].splitlines()) == 1001
    first = time.monotonic() - first
    listed, lines = timed(["models", "list", "muons"])
    assert len(lines) == 1001
    asked = {"_DKERAS_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "dkeras models show muons@99"}
    completed, lines = timed([], **asked)
    assert "muons@999" in "".join(lines)
    print(f"\n1,000 versions: first list {first:.2f} s, then {listed:.2f} s; completion {completed:.2f} s")
