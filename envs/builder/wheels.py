"""Fetches the locked wheels, each checked against its hash, several at a time, into a cache that only grows."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.specs import LockedPackage

PARALLEL = 6
DEADLINE = 1200  # seconds for one pip process


def fetch_wheels(
    packages: list[LockedPackage], cache: Path, report: Callable[[float, str], None]
) -> dict[LockedPackage, Path]:
    """Return the wheel of every locked package, downloading (or building from a hashed source) what is missing.

    One folder per package stands in ``cache``; it is renamed into place when its wheel is whole, so a killed download
    leaves nothing that looks finished. pip does the work, with the user's own configuration.

    Raises
    ------
    EnvironmentBuildError
        When pip fails; the message carries pip's own last error.
    """
    cache.mkdir(parents=True, exist_ok=True)
    homes = {package: cache / f"{package.name}-{package.version}-{package.digest()}" for package in packages}
    missing = [package for package in packages if not homes[package].is_dir()]
    done = len(packages) - len(missing)
    report(done / len(packages), f"{len(missing)} to fetch")
    with ThreadPoolExecutor(PARALLEL) as pool:
        running = [pool.submit(_fetch, batch, homes, cache) for batch in _batches(missing)]
        try:
            for future in as_completed(running):
                done += future.result()
                report(done / len(packages), f"{len(packages)} wheels, {len(missing)} fetched")
        except BaseException:
            for future in running:
                future.cancel()
            raise
    return {package: next(homes[package].glob("*.whl")) for package in packages}


def _batches(packages: list[LockedPackage]) -> list[list[LockedPackage]]:
    """Split into one list a pip process: the large ones alone and first, so that none runs on at the end."""
    heavy = [[p] for p in packages if p.name in {"tensorflow-cpu", "pyarrow", "libclang", "numpy"}]
    light = [p for p in packages if [p] not in heavy]
    return heavy + [light[i::PARALLEL] for i in range(PARALLEL) if light[i::PARALLEL]]


def _fetch(batch: list[LockedPackage], homes: dict[LockedPackage, Path], cache: Path) -> int:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as folder:
        work = Path(folder)
        requirements = work / "requirements.txt"
        requirements.write_text("\n".join(package.requirement() for package in batch) + "\n")
        command = [
            sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--require-hashes", "--no-cache-dir",
            "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", str(work / "wheels"),
            "--requirement", str(requirements),
        ]  # fmt: skip
        environment = os.environ | {"TMPDIR": folder, "PIP_NO_INPUT": "1"}
        result = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, env=environment)
        if result.returncode:
            raise _failure(batch, result.stderr)
        for wheel in (work / "wheels").glob("*.whl"):
            name = wheel.name.split("-")[0].replace("_", "-").replace(".", "-").lower()
            package = next(p for p in batch if p.name.replace(".", "-") == name)
            home = work / "done" / homes[package].name
            home.mkdir(parents=True)
            shutil.move(wheel, home / wheel.name)
            home.rename(homes[package])
    absent = [p.name for p in batch if not homes[p].is_dir()]
    if absent:
        raise EnvironmentBuildError(f"pip made no wheel of {', '.join(absent)}", "see that envs/train.lock is whole")
    return len(batch)


def _failure(batch: list[LockedPackage], stderr: str) -> Exception:
    errors = [line for line in stderr.splitlines() if "ERROR" in line or "Error" in line] or stderr.splitlines()[-3:]
    text = "; ".join(line.replace("ERROR:", "").strip() for line in errors[:4])
    if "No space left on device" in stderr or "Disk quota exceeded" in stderr:
        return OSError(28, "No space left on device", "pip")
    return EnvironmentBuildError(
        f"pip could not fetch {', '.join(p.name for p in batch[:4])}{'…' if len(batch) > 4 else ''}: {text}",
        "see that the package index is reachable (pip config list); a hash mismatch means a changed file there",
    )
