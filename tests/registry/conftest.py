"""Registries in a local folder and on real HDFS, and a small folder to publish."""

import secrets
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from dkeras_core.registry import Registry
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
    storage.delete(root, recursive=True)


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
