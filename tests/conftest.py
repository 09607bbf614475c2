"""What all tests share: the root of the checkout, and one real cluster for those that need it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def hadoop() -> Iterator:
    """A single-node Hadoop of this test session alone: up, empty, and gone afterwards, also on Ctrl-C and TERM."""
    from dkeras_core.singlenode import SingleNode

    _clean_leftovers()
    home = ROOT / "build" / f"test-cluster-{os.getpid()}"
    home.mkdir(parents=True)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    node = SingleNode(home)
    try:
        with _alive(home).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            node.up()
            yield node
    finally:
        signal.signal(signal.SIGTERM, before)
        _remove(home)


def _alive(home: Path) -> Path:
    """The file that a test session keeps locked as long as it lives."""
    return home / "session"


def _clean_leftovers() -> None:
    """Stop and remove the clusters of test sessions that were killed."""
    for home in (ROOT / "build").glob("test-cluster-*"):
        with contextlib.suppress(FileNotFoundError, BlockingIOError), _alive(home).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(home)


def _remove(home: Path) -> None:
    from dkeras_core.singlenode import SingleNode

    try:
        SingleNode(home).down()
    finally:
        shutil.rmtree(home, ignore_errors=True)
