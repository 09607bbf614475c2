"""Processes that use one registry at once: started by test_crowd.py as ``crowd.py ROLE URL ROOT FOLDER FIRST COUNT``.

URL is a NameNode's web address, or ``-`` for a folder of this machine. Each role prints one JSON value at its end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dkeras_core.errors import Conflict, PathMissing
from dkeras_core.registry import Registry
from dkeras_core.registry import publish as publishing
from dkeras_core.storage.local import LocalStorage
from dkeras_core.storage.webhdfs import WebHdfsStorage

NAME, ALIAS = "higgs", "production"
WAIT = 120.0  # seconds for a turn. One lasts as long as anybody's: a busy machine may hold a promoter up for seconds


def registry_at(url: str, root: str) -> Registry:
    return Registry(LocalStorage() if url == "-" else WebHdfsStorage(url), root)


def publishers(url: str, root: str, folder: Path, first: int, count: int) -> list[int]:
    """``count`` publishers, each of a run of its own; the numbers they got."""

    def publish(run: int) -> int:
        return registry_at(url, root).publish(NAME, folder, run_id=f"run-{run}").number

    with ThreadPoolExecutor(count) as crowd:
        return list(crowd.map(publish, range(first, first + count)))


def promoters(url: str, root: str, folder: Path, first: int, count: int) -> list[str]:
    """``count`` promoters, each of whom promotes the newest version that it sees, four times; the entries made."""

    def promote(number: int) -> list[str]:
        registry, made = registry_at(url, root), []
        while len(made) < 4:
            there, newest = registry.pointer(NAME, ALIAS), registry.latest(NAME)
            if newest is None:
                time.sleep(0.05)
                continue
            wanted = newest.number
            if there is not None and there.number == wanted:
                wanted = random.choice(registry.versions(NAME))
            try:
                entry = registry.promote(NAME, wanted, ALIAS, expected=there.number if there else None, wait=WAIT)
            except Conflict:
                entry = None
            # a promotion to what the alias names already makes no entry
            made.append(entry.id if entry and entry.before.entry == (there.entry if there else None) else "")
        return made

    with ThreadPoolExecutor(count) as crowd:
        return [entry for made in crowd.map(promote, range(first, first + count)) for entry in made if entry]


def reader(url: str, root: str, folder: Path, first: int, count: int) -> dict:
    """Look every 10 ms until standard input ends; tell how often, and what was wrong."""
    registry, wrong, looks, seen = registry_at(url, root), [], 0, set()
    expected = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    expected = sorted([*expected, "manifest.json", "manifest.sha256"])
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        looks += 1
        pointer = registry.pointer(NAME, ALIAS)
        numbers = registry.versions(NAME)
        if pointer and pointer.number not in numbers:
            wrong.append(f"{ALIAS} names {pointer.number}, there are {numbers}")
        for number in set(numbers) - seen:
            seen.add(number)
            path = registry.at(NAME, number).path
            files = sorted(status.path[len(path) + 1 :] for status in registry.storage.walk(path))
            if files != expected:
                wrong.append(f"version {number} was seen with the files {files}")
    for number in sorted(seen):
        wrong += registry.version(NAME, number).verify()
    return {"looks": looks, "versions": len(seen), "wrong": wrong}


def killed(url: str, root: str, folder: Path, first: int, count: int) -> int:
    """Publish and promote ``count`` runs in processes that are killed with -9 at random moments; how many were.

    The processes are forked from this one, which has everything imported and no threads.
    """
    publishing.ADOPT = 0.3
    rng, undisturbed, died = random.Random(first), 0.2, 0
    for run in range(first, first + count):
        # A first attempt at a run that is new, or a repetition of one that may be half done.
        chosen = run if rng.random() < 0.7 else rng.randrange(first, run + 1)
        begun, child = time.monotonic(), os.fork()
        if child == 0:
            try:
                registry = registry_at(url, root)
                version = registry.publish(NAME, folder, run_id=f"run-{chosen}")
                registry.promote(NAME, version.number, ALIAS, duration=0.5, wait=60.0)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0, 1.2 * undisturbed))
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            died += 1
        else:
            undisturbed = 0.7 * undisturbed + 0.3 * min(time.monotonic() - begun, 1.0)
    return died


def main() -> None:
    role, url, root, folder, first, count = sys.argv[1:]
    if role == "killed":
        # requests and the hdfs package import lazily; do it once, before the forks
        with contextlib.suppress(PathMissing):
            registry_at(url, root).storage.read_bytes("/there/is/nothing")
    print(json.dumps(globals()[role](url, root, Path(folder), int(first), int(count))), flush=True)


if __name__ == "__main__":
    main()
