"""The page is written in one step, by whoever may, and its readers never meet half of it."""

import logging
import os
import secrets
import threading
import time
from pathlib import Path

import pytest
from wellformed import WellFormed

from dkeras_core.errors import AccessDenied, StorageError
from dkeras_core.registry import Registry, page
from dkeras_core.storage.local import LocalStorage


@pytest.fixture
def registry(tmp_path):
    return Registry(LocalStorage(), str(tmp_path / "root"))


def test_it_is_written_beside_the_models_and_read_by_everybody(place, folder):
    registry = place.registry
    registry.publish("higgs", folder, run_id="run-1")
    path = page.write(registry)
    assert path == f"{place.root}/models/index.html"
    assert b"1 model, 1 version" in place.storage.read_bytes(path)
    assert place.storage.status(path).mode & 0o777 == 0o644
    registry.publish("higgs", folder, run_id="run-2")
    page.refresh(registry)
    assert b"1 model, 2 versions" in place.storage.read_bytes(path)
    assert [status.name for status in place.storage.list(f"{place.root}/models")] == ["higgs", "index.html"]
    assert registry.models() == ["higgs"]


def test_the_later_state_stays_when_two_write_at_once(registry, folder):
    registry.publish("higgs", folder, run_id="run-1")

    class Slow(LocalStorage):
        """Between reading and writing, another process publishes and writes the page."""

        def write_atomic(self, path, data, mode=None):
            if path.endswith("index.html") and registry.versions("higgs") == [1]:
                registry.publish("higgs", folder, run_id="run-2")
                page.write(registry)
            super().write_atomic(path, data, mode)

    path = page.write(Registry(Slow(), registry.layout.root))
    assert "version 2" in Path(path).read_text()


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (AccessDenied("/dkeras/models: permission denied", "Ask."), logging.INFO),
        (StorageError("the quota is exceeded", "Free space."), logging.WARNING),
        (ValueError("a defect"), logging.WARNING),
    ],
)
def test_a_page_that_cannot_be_written_is_no_failure(registry, folder, monkeypatch, caplog, error, level):
    registry.publish("higgs", folder, run_id="run-1")

    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(registry.storage, "write_atomic", refuse, raising=False)
    with caplog.at_level(logging.INFO):
        page.refresh(registry)
    (record,) = (record for record in caplog.records if "page of the models was not written" in record.message)
    assert record.levelno == level
    with pytest.raises(type(error)):
        page.write(registry)


def test_what_dead_writers_left_is_swept(registry, folder):
    registry.publish("higgs", folder, run_id="run-1")
    base = Path(registry.layout.models())
    for name, hours in ((".index.html.aa.tmp", 25), (".index.html.bb.tmp", 1), ("notes", 99)):
        (base / name).write_bytes(b"")
        os.utime(base / name, (time.time() - 3600 * hours,) * 2)
    page.write(registry)
    assert sorted(path.name for path in base.iterdir()) == [".index.html.bb.tmp", "higgs", "index.html", "notes"]


@pytest.mark.cluster
@pytest.mark.slow
def test_readers_on_hdfs_never_meet_half_a_page(webhdfs, folder):
    registry = Registry(webhdfs, f"/tmp/registry-{secrets.token_hex(4)}")
    seen, stop = [], threading.Event()
    try:
        registry.publish("higgs", folder, run_id="run-0")
        path = page.write(registry)

        def poll():
            while not stop.is_set():
                seen.append(webhdfs.read_bytes(path))

        reader = threading.Thread(target=poll)
        reader.start()
        for i in range(1, 4):
            registry.publish("higgs", folder, run_id=f"run-{i}")
            registry.promote("higgs", i, "production")
            writers = [threading.Thread(target=page.refresh, args=(registry,)) for _ in range(2)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join(60)
        stop.set()
        reader.join(60)
        assert len(seen) > 5 and all(data.endswith(b"</html>") for data in seen)
        text = WellFormed(webhdfs.read_bytes(path).decode()).text
        assert "production version 3" in text and "1 model, 4 versions" in text
    finally:
        stop.set()
        webhdfs.delete(registry.layout.root, recursive=True)
