"""Promotion on real HDFS, each model tried in the environment that containers use, unpacked from the real archive."""

from __future__ import annotations

import secrets
import sys
import time
from pathlib import Path

import pytest

from dkeras_core.errors import GateFailed
from dkeras_core.paths import Layout
from dkeras_core.registry import Registry, environments, readonly
from dkeras_core.registry.promotion import promote_checked

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def place(webhdfs, keras_toy, tmp_path, monkeypatch):
    """A registry in HDFS with a good version, an equal and a worse one; its environment is not on this machine yet."""
    from envs.builder.archive import ensure_archive

    archive, root = ensure_archive(), f"/tmp/promotion-{secrets.token_hex(4)}"
    for noise in (0.0, 0.02, 3.0):
        keras_toy.publish(noise, lineage={"environment": archive.key})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    webhdfs.upload(Path(keras_toy.root), root)
    webhdfs.upload(archive.path, Layout(root).env_archive(archive.key))
    yield Registry(webhdfs, root), archive.key
    readonly.remove(webhdfs, root)


def test_gates_in_the_packaged_environment(place):
    registry, key = place
    said, seconds = [], []

    def promote(number):
        started = time.monotonic()
        try:
            return promote_checked(registry, registry.version("toy", number), "production", progress=said.append)
        finally:
            seconds.append(time.monotonic() - started)

    for number in (1, 2):
        entry, checks = promote(number)
        assert entry.version == number and not entry.forced
        found = {check.name: check for check in checks}
        assert found["scores"].detail["environment"] == f"environment {key}"
        assert found["scores"].detail["served"] <= 1e-5
    assert len([line for line in said if "unpacking" in line]) == 1
    assert environments.find(registry, key).python != sys.executable
    assert "1,500 rows" in found["comparison"].message
    with pytest.raises(GateFailed) as caught:
        promote(3)
    assert [check.name for check in caught.value.checks if not check.passed] == ["comparison", "significance"]
    assert registry.alias("toy", "production") == 2
    assert [event.entry.version for event in registry.history("toy") if event.applied] == [2, 1]
    print(f"promotions took {', '.join(f'{s:.1f} s' for s in seconds)}, the first with unpacking")
