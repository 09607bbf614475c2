"""Registries in a local folder and on real HDFS, and a small folder to publish."""

import re
import secrets
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dkeras_core.registry import Registry
from dkeras_core.registry.readonly import remove
from dkeras_core.storage.local import LocalStorage

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(params=["local", pytest.param("webhdfs", marks=pytest.mark.cluster)])
def place(request, tmp_path):
    """A registry of its own: (registry, storage, root, url), url None for local folders."""
    if request.param == "local":
        storage, root, url = LocalStorage(), str(tmp_path / "root"), None
    else:
        storage, root = request.getfixturevalue("webhdfs"), f"/tmp/registry-{secrets.token_hex(4)}"
        url = storage.url
    yield SimpleNamespace(registry=Registry(storage, root), storage=storage, root=root, url=url)
    remove(storage, root)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Local copies of versions stay below the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own-cache"))


@pytest.fixture
def folder(tmp_path):
    """What a version might hold: three files, one of them in a folder, one empty."""
    made = tmp_path / "folder"
    (made / "variables").mkdir(parents=True)
    (made / "model.keras").write_bytes(b"weights" * 1000)
    (made / "variables/data").write_bytes(b"more weights")
    (made / "empty").write_bytes(b"")
    return made


@pytest.fixture
def small(tmp_path):
    """A version of two little files, for tests that publish many times."""
    folder = tmp_path / "small"
    (folder / "variables").mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"weights" * 100)
    (folder / "variables/data").write_bytes(b"more weights")
    return folder


@pytest.fixture
def shell(tmp_path, folder, capsys, monkeypatch):
    """``dkeras models`` on a local registry: two versions of higgs, of which 1 is production.

    ``shell(*arguments)`` returns (exit code, standard output, standard error); ``width`` makes both a terminal of that
    many columns, ``answer`` is what the person types there, or a function that returns it.
    """
    from dkeras_core.cli import console
    from dkeras_core.cli.app import run

    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    metrics = {"roc_auc": 0.912345, "rows": 1000, "threshold": 0.5, "intervals": {"roc_auc": [0.9, 0.92]}}
    registry.publish("higgs", folder, run_id="run-1", lineage={"pipeline": "p.yaml"}, metrics=metrics)
    registry.publish("higgs", folder, run_id="run-2")
    registry.promote("higgs", 1, "production", reason="first")

    def call(*arguments, width=None, answer=None):
        typed = answer if callable(answer) else lambda: answer
        monkeypatch.setenv("COLUMNS", str(width or 80))
        monkeypatch.setenv("TTY_COMPATIBLE", "1" if width else "0")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: answer is not None, readline=typed))
        # A console keeps the stream that it was made with; each call has its own.
        console.stdout.cache_clear(), console.stderr.cache_clear()
        code = run(["models", *arguments, "--root", f"file://{tmp_path / 'root'}"])
        console.stdout.cache_clear(), console.stderr.cache_clear()
        output = capsys.readouterr()
        return code, re.sub(r"\x1b\[[\d;]*m", "", output.out), re.sub(r"\x1b\[[\d;?]*\w", "", output.err)

    call.registry, call.root = registry, tmp_path / "root"
    return call
