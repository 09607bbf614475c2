"""``ensure_archive``: reuses or builds the archive, one builder at a time; leaves a tried archive or nothing."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError, Interrupted
from envs.builder import pack, prefix, trial
from envs.builder.channel import make_channel
from envs.builder.progress import Progress, silent, stage
from envs.builder.python_package import python_identity
from envs.builder.specs import ENVS, PYTHON, archive_key, conda_forge_specs, read_lock, read_specs
from envs.builder.wheels import fetch_wheels

BUILD = ENVS.parent / "build"
ROOM = 5_000_000_000  # bytes that a build holds at its peak: packages, the installed prefix, the archive, the trial
LOCK_DEADLINE = 1800  # seconds to wait for another builder
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Archive:
    """A packed environment: ``path`` of the tar.gz, the 16-digit ``key`` that names it, its ``size`` in bytes."""

    path: Path
    key: str
    size: int

    def description(self) -> dict:
        """Return what is inside: python, glibc floor, packages {name: version}, channel, seconds of the build."""
        return json.loads(self.path.with_name(f"train-{self.key}.json").read_text())


@dataclass(frozen=True)
class Inputs:
    """What an archive is made from. ``solution`` is set when a channel other than the local one was asked for."""

    channel: str
    key: str
    solution: list[dict] | None = None


def ensure_archive(progress: Progress | None = None, build: Path = BUILD) -> Archive:
    """Return the archive of the training environment for the present inputs, building it if it is not there.

    Parameters
    ----------
    progress : callable, optional
        Called as ``progress(stage, fraction, detail)``; fraction is None at first and 1.0 at the end of a stage.
    build : Path
        Folder of everything generated; the archive is ``<build>/envs/train-<key>.tar.gz``.

    Raises
    ------
    EnvironmentBuildError
        When a stage fails; also when the disk is full, with the folder, the bytes needed and the bytes free.
    Interrupted
        On Ctrl-C, after everything half-made was removed.
    """
    progress = progress or silent
    home = build / "envs"
    try:
        with explain_full_disk(build):
            home.mkdir(parents=True, exist_ok=True)
            inputs = find_inputs(build, progress)
            if archive := find_archive(inputs.key, build):
                return archive
            with _only_builder(build, progress):
                # Whoever held the lock before may have made it.
                return find_archive(inputs.key, build) or _build(inputs, build, progress)
    except KeyboardInterrupt as error:
        if isinstance(error, Interrupted):
            raise
        raise Interrupted(
            "building the training environment was interrupted; what was half-made is removed",
            "run it again: what was downloaded and converted is kept",
        ) from None


def find_archive(key: str, build: Path = BUILD) -> Archive | None:
    """Return the archive of that key when it stands there, else None."""
    path = build / "envs" / f"train-{key}.tar.gz"
    return Archive(path, key, path.stat().st_size) if path.is_file() else None


def find_inputs(build: Path = BUILD, progress: Progress = silent) -> Inputs:
    """Return channel and key of the archive that the present specifications ask for.

    With ``ENV_CHANNEL`` the key is that of the solution, which is kept beside the archives: the same specifications
    mean the same environment until that file is deleted.
    """
    channel = os.environ.get("ENV_CHANNEL", "").strip()
    if not channel:
        lock = [package.requirement() for package in read_lock(ENVS / "train.lock")]
        specs = read_specs(ENVS / "train.in")
        return Inputs("local", archive_key({"lock": lock, "specs": specs, "python": python_identity()}))
    if os.path.isdir(channel):
        channel = Path(channel).resolve().as_uri()
    specs = conda_forge_specs(ENVS / "train.in")
    path = build / "envs" / f"solution-{archive_key({'channel': channel, 'specs': specs})}.json"
    if not path.exists():
        with stage(progress, f"solve on {channel}"):
            solution = prefix.solve(channel, specs, build / "cache" / "repodata")
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(solution, indent=1))
        partial.rename(path)
    solution = json.loads(path.read_text())
    identity = [[r["name"], r["version"], r["build"], r.get("sha256")] for r in solution]
    return Inputs(channel, archive_key({"channel": channel, "solution": identity}), solution)


def _build(inputs: Inputs, build: Path, progress: Progress) -> Archive:
    home, cache = build / "envs", build / "cache"
    workers = len(os.sched_getaffinity(0))
    free = shutil.disk_usage(build).free
    if free < ROOM:
        raise OSError(errno.ENOSPC, "too little space", str(build))
    work = home / f".work-{inputs.key}"
    started = time.monotonic()
    try:
        work.mkdir()
        installed, staged, elsewhere = work / "prefix", work / "staged", work / "unpacked" / "elsewhere"
        partial = work / f"train-{inputs.key}.tar.gz"
        solution = inputs.solution
        if solution is None:
            locked = read_lock(ENVS / "train.lock")
            with stage(progress, "fetch the locked wheels") as report:
                wheels = fetch_wheels(locked, cache / "wheels", report)
            with stage(progress, "make the conda channel") as report:
                make_channel(wheels, python_identity(), cache / "conda", work / "channel", workers, report)
            with stage(progress, "solve the specifications") as report:
                specs = [f"python {PYTHON}.*", *read_specs(ENVS / "train.in")]
                solution = prefix.solve((work / "channel").as_uri(), specs, work / "cache")
                absent = {package.name for package in locked} - {record["name"] for record in solution}
                if absent:
                    raise EnvironmentBuildError(
                        f"envs/train.lock holds what no specification needs: {', '.join(sorted(absent))}",
                        "re-make the locks with envs/lock.sh",
                    )
                report(1.0, f"{len(solution)} packages")
        with stage(progress, "install the packages"):
            prefix.install(solution, installed, work / "cache")
        with stage(progress, "lay out and compile"):
            pack.stage(installed, staged)
            pack.compile_all(staged, workers)
        with stage(progress, "pack") as report, partial.open("wb") as file:
            pack.write_archive(staged, file, workers, report)
            file.flush()
            os.fsync(file.fileno())
        with stage(progress, "unpack elsewhere and import"):
            trial.unpack(partial, elsewhere)
            trial.try_environment(elsewhere)
        partial.chmod(0o644)
        description = _describe(inputs, solution, partial, time.monotonic() - started)
        (home / f"train-{inputs.key}.json").write_text(json.dumps(description, indent=1))
        partial.rename(home / partial.name)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    archive = find_archive(inputs.key, build)
    assert archive is not None
    return archive


def _describe(inputs: Inputs, solution: list[dict], archive: Path, seconds: float) -> dict:
    floors = [dep.split(">=")[1] for record in solution for dep in record["depends"] if dep.startswith("__glibc >=")]
    packages = {record["name"]: record["version"] for record in solution}
    return {
        "key": inputs.key,
        "channel": inputs.channel,
        "python": packages["python"],
        "glibc": max((f.split(",")[0] for f in floors), key=lambda f: [*map(int, f.split("."))], default="unknown"),
        "size": archive.stat().st_size,
        "seconds": round(seconds, 1),
        "packages": packages,
    }


@contextmanager
def _only_builder(build: Path, progress: Progress) -> Iterator[None]:
    """Hold the builders' lock; under it, whatever an earlier builder left behind belongs to nobody."""
    home = build / "envs"
    with (home / ".lock").open("a+") as lock:
        deadline = time.monotonic() + LOCK_DEADLINE
        waited = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                if time.monotonic() > deadline:
                    raise EnvironmentBuildError(
                        f"another builder (process {holder}) has held {home}/.lock for {LOCK_DEADLINE // 60} minutes",
                        f"see what process {holder} does, end it if it hangs, and run this again",
                    ) from None
                if not waited:
                    progress(f"wait for the builder {holder}", None, "")
                waited = True
                time.sleep(0.5)
        if waited:
            progress(f"wait for the builder {holder}", 1.0, "it has ended")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        cache = build / "cache"
        for left in (*home.glob(".work-*"), *(cache / "wheels").glob(".fetch-*"), *(cache / "conda").glob(".*-*")):
            shutil.rmtree(left, ignore_errors=True)
        yield


@contextmanager
def explain_full_disk(folder: Path) -> Iterator[None]:
    """Turn "no space left" into an error that names the folder, the bytes needed and the bytes free."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or isinstance(error, EnvironmentBuildError):
            raise
        place = folder
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        raise EnvironmentBuildError(
            f"the disk is full: building the environment needs about {ROOM:,} bytes in {folder}, {free:,} are free "
            f"({error.strerror}); nothing half-written is left",
            "free the space, or put build/ on a larger disk (a symbolic link does)",
        ) from error
