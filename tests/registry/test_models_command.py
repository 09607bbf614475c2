"""`dkeras models` as a shell sees it."""

import json
import secrets

import pytest

from dkeras_core.cli import console
from dkeras_core.cli.app import run
from dkeras_core.registry import Registry
from dkeras_core.storage.local import LocalStorage


@pytest.fixture(autouse=True)
def fresh_consoles():
    """A console keeps the stream that it was made with; each test has its own."""
    console.stdout.cache_clear(), console.stderr.cache_clear()
    yield
    console.stdout.cache_clear(), console.stderr.cache_clear()


@pytest.fixture
def models(tmp_path, folder, capsys):
    """Call ``dkeras models``; return (exit code, standard output, standard error)."""
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    registry.publish("higgs", folder, run_id="run-1", lineage={"pipeline": "p.yaml"}, metrics={"roc_auc": 0.912345})
    registry.publish("higgs", folder, run_id="run-2")
    registry.storage.write_atomic(registry.layout.alias("higgs", "production"), b"1\n")

    def call(*arguments):
        code = run(["models", *arguments, "--root", f"file://{tmp_path / 'root'}"])
        output = capsys.readouterr()
        return code, output.out, output.err

    return call


def test_list(models):
    code, out, _ = models("list")
    assert code == 0 and out.splitlines()[1].split() == ["higgs", "2", "2", "production", "→", "1"]
    assert json.loads(models("list", "--json")[1]) == [
        {"model": "higgs", "versions": 2, "newest": 2, "aliases": {"production": 1}}
    ]
    first, second = models("list", "higgs")[1].splitlines()[1:]
    assert first.split()[0] == "2" and second.split()[:2] == ["1", "production"] and "0.9123" in second
    rows = json.loads(models("list", "higgs", "--json")[1])
    assert [(row["version"], row["run"]) for row in rows] == [(2, "run-2"), (1, "run-1")]
    assert rows[1]["metrics"] == {"roc_auc": 0.912345} and rows[1]["aliases"] == ["production"]
    assert models("list", "other")[1].startswith("no version of other")


def test_show(models):
    code, out, _ = models("show", "higgs@production")
    assert code == 0 and "higgs@1" in out and "p.yaml" in out and "0.9123" in out and "variables/data" in out
    shown = json.loads(models("show", "higgs", "--json")[1])
    assert (shown["version"], shown["run"]) == (2, "run-2") and shown["files"]["empty"]["size"] == 0


def test_verify_says_what_is_damaged(models, tmp_path):
    assert models("verify", "higgs@1")[0] == 0
    (tmp_path / "root/models/higgs/versions/1/empty").write_bytes(b"x")
    code, out, err = models("verify", "higgs@1")
    assert code == 7 and out == "" and "empty: has 1 bytes instead of 0" in err
    assert json.loads(models("verify", "higgs@1", "--json")[1])["problems"] == ["empty: has 1 bytes instead of 0"]
    (tmp_path / "root/models/higgs/versions/1/manifest.json").write_bytes(b"{")
    assert "damaged" in models("list", "higgs")[1]


def test_pull(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert models("pull", "higgs@1")[0] == 0
    assert (tmp_path / "higgs-1/variables/data").read_bytes() == b"more weights"
    code, _, err = models("pull", "higgs@1")
    assert code == 4 and "stands there already" in err
    assert json.loads(models("pull", "higgs", str(tmp_path / "x"), "--json")[1])["folder"] == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nothing"], 7, "Models there: higgs"),
        (["show", "higgs@9"], 7, "no version 9"),
        (["verify", "higgs@staging"], 7, "Its aliases: production"),
        (["show", "Higgs@1"], 7, "'Higgs' is not a model name"),
    ],
)
def test_mistakes_are_explained(models, arguments, code, said):
    found, _, err = models(*arguments)
    assert found == code and said in " ".join(err.split())


@pytest.mark.cluster
def test_on_the_cluster_that_the_environment_names(hadoop, webhdfs, folder, monkeypatch, capsys):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hadoop.conf_dir))
    root = f"/tmp/registry-{secrets.token_hex(4)}"
    try:
        Registry(webhdfs, root).publish("higgs", folder, run_id="run-1")
        assert run(["models", "list", "--root", root, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)[0]["newest"] == 1
    finally:
        webhdfs.delete(root, recursive=True)
