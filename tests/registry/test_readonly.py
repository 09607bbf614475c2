"""Read-only versions: what their owner cannot do by mistake, and that publishing and deleting work all the same.

Where the tests are run by root, to whom modes mean nothing, this becomes another user first.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from dkeras_core.errors import AccessDenied, PathExists, RegistryError
from dkeras_core.registry import Registry, readonly
from dkeras_core.registry import publish as publishing
from dkeras_core.storage.local import LocalStorage

NOBODY = 65534


@pytest.fixture
def registry(monkeypatch, folder, tmp_path):
    """A registry in a local folder, and a user who is not root."""
    # Modules that are imported on first use may stand where only root may read.
    readonly.remove(LocalStorage(), Registry(LocalStorage(), str(tmp_path / "r")).publish("a", folder, run_id="a").path)
    monkeypatch.setenv("HADOOP_USER_NAME", "nobody")
    # In /tmp itself: the folders above the tests' own may be closed to others.
    root = Path(tempfile.mkdtemp(prefix="dkeras-readonly-", dir="/tmp"))
    became = os.geteuid() == 0
    try:
        if became:
            os.chown(root, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        yield Registry(LocalStorage(), str(root))
    finally:
        if became:
            os.seteuid(0)
        readonly.remove(LocalStorage(), str(root))
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def small(registry):
    folder = Path(registry.layout.root, "small")
    (folder / "variables/deep").mkdir(parents=True)
    (folder / "model.keras").write_bytes(b"weights")
    (folder / "variables/deep/data").write_bytes(b"more")
    return folder


def test_a_version_cannot_be_changed(registry, small):
    version = registry.publish("higgs", small, run_id="a")
    storage, path = registry.storage, version.path
    assert storage.status(path).mode == storage.status(f"{path}/variables/deep").mode == 0o555
    assert {status.mode for status in storage.walk(path)} == {0o444}
    for attempt in (
        lambda: storage.write_bytes(f"{path}/model.keras", b"x", overwrite=True),
        lambda: storage.write_bytes(f"{path}/extra", b"x"),
        lambda: storage.write_bytes(f"{path}/variables/deep/extra", b"x"),
        lambda: storage.delete(f"{path}/variables/deep/data"),
        lambda: storage.delete(path, recursive=True),
    ):
        with pytest.raises(AccessDenied):
            attempt()
    with pytest.raises(PermissionError):
        Path(path, "model.keras").write_bytes(b"x")
    assert version.verify() == [] and registry.publish("higgs", small, run_id="b").number == 2


def test_a_tree_is_removed_with_its_read_only_folders(registry, small):
    version = registry.publish("higgs", small, run_id="a")
    with pytest.raises(AccessDenied):
        readonly.remove(registry.storage, f"{version.path}/model.keras")  # a file alone stays locked
    assert registry.storage.status(f"{version.path}/model.keras").mode == 0o444
    assert readonly.remove(registry.storage, version.path) is True
    assert registry.versions("higgs") == []
    assert readonly.remove(registry.storage, version.path) is False


def test_a_failed_publication_leaves_nothing(registry, small, monkeypatch):
    def fail(storage, folder):
        readonly.lock(storage, folder)
        raise RegistryError("something else went wrong")

    monkeypatch.setattr(publishing, "lock", fail)
    with pytest.raises(RegistryError, match="something else"):
        registry.publish("higgs", small, run_id="a")
    assert registry.storage.list(registry.layout.versions("higgs")) == []


def test_a_claim_that_was_left_is_published_and_not_twice(registry, small, monkeypatch):
    monkeypatch.setattr(publishing, "ADOPT", 0.1)
    version = registry.publish("higgs", small, run_id="a")
    registry.storage.rename(version.path, f"{registry.layout.versions('higgs')}/.ready-a")
    assert registry.publish("higgs", small, run_id="a") == version
    assert [status.name for status in registry.storage.list(registry.layout.versions("higgs"))] == ["1"]


def test_what_belongs_to_others_is_refused(registry, small):
    version = registry.publish("higgs", small, run_id="a")
    registry.storage.set_mode(registry.layout.versions("higgs"), 0o555)
    with pytest.raises(AccessDenied):
        readonly.remove(registry.storage, version.path)
    with pytest.raises(AccessDenied):
        registry.publish("higgs", small, run_id="b")
    registry.storage.set_mode(registry.layout.versions("higgs"), 0o755)
    with pytest.raises(PathExists):
        registry.storage.write_bytes(f"{registry.layout.versions('higgs')}/1", b"x")


def test_who_may_not_make_a_model_is_told_whom_to_ask(registry, small):
    registry.storage.mkdirs(registry.layout.models())
    registry.storage.set_mode(registry.layout.models(), 0o555)
    with pytest.raises(AccessDenied, match="Ask an operator to run `dkeras models init higgs`"):
        registry.publish("higgs", small, run_id="a")
    registry.storage.set_mode(registry.layout.models(), 0o755)
