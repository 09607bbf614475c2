"""Every single operation of every change of the registry fails, in every way: nobody ever sees anything but the old
state or the new one, the next attempt succeeds, and nothing is left behind.

The table is made by running each change once and counting what it asks of the file system. In a local folder it is
run whole. On HDFS that takes ten minutes, so every thirtieth case is taken; all with EVERY_FAULT=1 in the environment.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from faults import Fault, FaultyStorage, Killed
from sound import AT_ONCE, NAME, QUICK, explained, tidy

from dkeras_core.errors import DkerasError
from dkeras_core.registry import Registry, collect, marks, readonly
from dkeras_core.registry import publish as publishing
from dkeras_core.storage import Storage
from dkeras_core.storage.local import LocalStorage


@dataclass(frozen=True)
class Change:
    """One change; ``again`` is what is tried after the fault (the same, when left out)."""

    prepare: Callable[[Registry, Path], Any]
    run: Callable[[Registry, Path], Any]
    rival: Callable[[Registry, Path], Any] | None = None

    def again(self, registry: Registry, folder: Path, rival: bool) -> None:
        (self.rival if rival and self.rival else self.run)(registry, folder)


def publish(*runs: int) -> Callable[[Registry, Path], None]:
    def publish(registry, folder):
        for run in runs:
            registry.publish(NAME, folder, run_id=f"run-{run}")

    return publish


def promote(*numbers: int, **expectation: int | None) -> Callable[[Registry, Path], None]:
    def promote(registry, folder):
        for number in numbers:
            registry.promote(NAME, number, "production", **expectation, **QUICK)

    return promote


def both(*steps: Callable[[Registry, Path], Any]) -> Callable[[Registry, Path], None]:
    def both(registry, folder):
        for step in steps:
            step(registry, folder)

    return both


def rollback(registry, folder):
    registry.rollback(NAME, "production", to=1, expected=2, **QUICK)


def archive(registry, folder):
    marks.archive(registry, NAME, 2, "unfit", **QUICK)


def tag(registry, folder):
    marks.tag(registry, NAME, 2, {"owner": "anna"}, **QUICK)


def gc(registry, folder):
    plan = collect.plan(registry, NAME, keep=1, older_than=AT_ONCE, stale_after=timedelta(days=1))
    collect.carry_out(registry, plan, **QUICK)


CHANGES = {
    "the first publication": Change(prepare=lambda registry, folder: None, run=publish(1)),
    "a publication": Change(prepare=publish(1), run=publish(2)),
    "the first promotion": Change(prepare=publish(1, 2, 3), run=promote(2, expected=None), rival=promote(3)),
    "a promotion": Change(prepare=both(publish(1, 2, 3), promote(1)), run=promote(2, expected=1), rival=promote(3)),
    "a roll-back": Change(prepare=both(publish(1, 2, 3), promote(1, 2)), run=rollback, rival=promote(3)),
    "an archiving": Change(prepare=publish(1, 2), run=archive),
    "a tagging": Change(prepare=publish(1, 2), run=tag),
    "a collection": Change(prepare=both(publish(1, 2, 3), promote(2)), run=gc),
}


def state(registry: Registry) -> dict[str, Any]:
    """What readers see. Fails when an alias names nothing, or a version is not whole."""
    numbers, aliases = registry.versions(NAME), registry.aliases(NAME)
    assert set(aliases.values()) <= set(numbers), f"an alias names nothing: {aliases}, {numbers}"
    for number in numbers:
        assert registry.version(NAME, number).verify() == []
    noted = {number: marks.read(registry, NAME, number) for number in numbers}
    return {
        "versions": {number: registry.version(NAME, number).manifest().run for number in numbers},
        "aliases": aliases,
        "marks": {number: (mark.tags, mark.archived is not None) for number, mark in noted.items()},
    }


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(publishing, "ADOPT", 0.2)


def attempt(change: Change, storage: FaultyStorage, root: str, small: Path) -> None:
    """Run the change in a process that may die of it; only errors that people can read may come out."""
    with contextlib.suppress(DkerasError, Killed):
        change.run(Registry(storage, root), small)


def outcome(change: Change, storage: Storage, root: str, small: Path) -> tuple[list[str], dict, dict]:
    """The operations of a change that nothing disturbs, the state before and the state after."""
    registry = Registry(storage, root)
    change.prepare(registry, small)
    before, counted = state(registry), FaultyStorage(storage)
    change.run(Registry(counted, root), small)
    return counted.operations, before, state(registry)


def case(change: Change, fault: Fault, at: int, storage, root: str, small: Path, old: dict, new: dict) -> None:
    registry = Registry(storage, root)
    change.prepare(registry, small)
    faulty, hangs = FaultyStorage(storage, fault, at), fault is Fault.HANG
    with ThreadPoolExecutor(1) as process:
        attempted = process.submit(attempt, change, faulty, root, small)
        try:
            if hangs:
                assert faulty.hanging.wait(30), "the operation was not reached"
            else:
                attempted.result(60)
                assert len(faulty.operations) > at, "the operation was not reached"
            seen = state(registry)
            assert seen in (old, new), f"readers see neither the old state nor the new one: {seen}"
            change.again(registry, small, rival=hangs)
            after = state(registry)
        finally:
            faulty.released.set()
        attempted.result(60)
    assert state(registry) == after, "a process that slept undid what was done meanwhile"
    if not (hangs and change.rival):
        assert after == new
    explained(registry)
    tidy(registry)


def run_table(storage, root: str, small: Path, name: str, faults: list[Fault], workers: int, every: int = 1) -> None:
    change = CHANGES[name]
    operations, old, new = outcome(change, storage, f"{root}/undisturbed", small)
    assert len(operations) > 5 and old != new
    table = list(itertools.product(faults, range(len(operations))))[::every]

    def one(entry):
        fault, at = entry
        place = f"{root}/{secrets.token_hex(4)}"
        try:
            case(change, fault, at, storage, place, small, old, new)
        except Exception as error:
            return f"{name} {fault} operation {at} of {len(operations)} ({operations[at]}): {error!r}"
        finally:
            readonly.remove(storage, place)

    with ThreadPoolExecutor(workers) as cases:
        wrong = [line for line in cases.map(one, table) if line]
    assert not wrong, f"{len(wrong)} of {len(table)} cases:\n" + "\n".join(wrong[:20])


# The others are run with the slow tests.
QUICKLY = [("a promotion", Fault.DIES_AFTER)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        pytest.param(*entry, marks=[] if entry in QUICKLY else pytest.mark.slow, id="-".join(entry).replace(" ", "-"))
        for entry in itertools.product(CHANGES, Fault)
    ],
)
def test_in_a_local_folder(change, fault, tmp_path, small):
    root = tmp_path / "root"
    run_table(LocalStorage(), str(root), small, change, [fault], workers=8 if fault is Fault.HANG else 2)
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda name: name.replace(" ", "-"))
def test_on_hdfs(change, webhdfs, small):
    root = f"/tmp/faults-{secrets.token_hex(4)}"
    try:
        run_table(
            webhdfs, root, small, change, list(Fault), workers=12, every=1 if os.environ.get("EVERY_FAULT") else 30
        )
    finally:
        readonly.remove(webhdfs, root)
