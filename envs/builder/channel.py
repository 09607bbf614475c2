"""The local conda channel: every locked wheel and CPython as conda packages, with the index that a solver reads."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.python_package import python_to_conda
from envs.builder.specs import ENVS, EXCLUDES, RECIPE, LockedPackage

DEADLINE = 600  # seconds for one wheel


def make_channel(
    wheels: dict[LockedPackage, Path],
    python_identity: dict[str, str],
    cache: Path,
    channel: Path,
    workers: int,
    report: Callable[[float, str], None],
) -> None:
    """Convert what ``cache`` lacks, then make ``channel``: hard links of exactly these packages, and repodata.json.

    Each wheel is converted in a process of its own (unpacking and hashing hold one core each), the largest first.
    """
    (cache / "linux-64").mkdir(parents=True, exist_ok=True)
    (channel / "linux-64").mkdir(parents=True)
    (channel / "noarch").mkdir()
    queue = sorted(wheels.items(), key=lambda item: -item[1].stat().st_size)
    done = 0
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(_convert, package, wheel, cache) for package, wheel in queue[:1]]
        running.append(pool.submit(python_to_conda, _digest(python_identity), cache))
        running += [pool.submit(_convert, package, wheel, cache) for package, wheel in queue[1:]]
        try:
            for future in as_completed(running):
                package = future.result()
                os.link(package, channel / "linux-64" / package.name)
                done += 1
                report(done / len(running), f"{len(running)} packages")
        except BaseException:
            for future in running:
                future.cancel()
            raise
    write_repodata(channel)


def _digest(identity: object) -> str:
    return hashlib.sha256(json.dumps([identity, RECIPE, EXCLUDES], sort_keys=True).encode()).hexdigest()[:12]


def _convert(package: LockedPackage, wheel: Path, cache: Path) -> Path:
    digest = _digest(package.digest())
    made = cache / "linux-64" / f"{package.name}-{package.version}-py311_{digest}.conda"
    if made.exists():
        return made
    command = [sys.executable, "-m", "envs.builder.convert", str(wheel), digest, str(cache)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ENVS.parent, timeout=DEADLINE)
    if result.returncode:
        if "No space left on device" in result.stderr:
            raise OSError(28, "No space left on device", str(cache))
        last = result.stderr.strip().splitlines()[-1:] or [f"exit status {result.returncode}"]
        raise EnvironmentBuildError(f"{wheel.name} could not be made a conda package: {last[0]}")
    return Path(result.stdout.strip())


def write_repodata(channel: Path) -> None:
    """Write the index of a channel folder: each package's own record with its size and hash."""
    from rattler import IndexJson

    for subdir in ("linux-64", "noarch"):
        records = {}
        for package in sorted((channel / subdir).glob("*.conda")):
            index = IndexJson.from_package_archive(package)
            with package.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            records[package.name] = {
                "name": index.name.normalized,
                "version": str(index.version),
                "build": str(index.build),
                "build_number": index.build_number,
                "depends": index.depends,
                "subdir": subdir,
                "size": package.stat().st_size,
                "sha256": sha256,
            }
        repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": records, "repodata_version": 1}
        (channel / subdir / "repodata.json").write_text(json.dumps(repodata, sort_keys=True))
