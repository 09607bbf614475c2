"""From an installed prefix to the archive: staged by conda-pack, compiled, written as a deterministic tar.gz."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.gzipped import ParallelGzip
from envs.builder.specs import EXCLUDES, PYTHON

LEVEL = 4  # measured: 9 takes five times as long for 5 % less
MTIME = 1577836800  # 2020-01-01: any constant after 1980 does
DEADLINE = 900  # seconds for compiling


def stage(prefix: Path, staged: Path) -> None:
    """Let conda-pack lay out the movable copy of a prefix (hard links), without the excluded files.

    conda-pack's parts are driven one by one: its own loop for folders swallows every exception, a full disk and
    Ctrl-C included, and adds scripts (activate, conda-unpack) that nothing runs in a container.
    """
    from conda_pack.core import CondaEnv, CondaPackException, Packer
    from conda_pack.formats import NoArchive

    staged.mkdir()
    try:
        environment = CondaEnv.from_prefix(str(prefix))
        for pattern in EXCLUDES:
            environment = environment.exclude(pattern)
        packer = Packer(environment.prefix, NoArchive(str(staged), ""))
        for file in environment.files:
            if file.target != "CACHEDIR.TAG":
                packer.add(file)
    except CondaPackException as error:
        raise EnvironmentBuildError(f"conda-pack refused the environment: {' '.join(str(error).split())}") from error
    for path in (staged / "conda-meta").glob("*.json"):
        record = json.loads(path.read_text())
        for key in ("url", "channel"):
            if record.get(key, "").startswith("file:"):  # a folder of the build host means nothing elsewhere
                record[key] = "file:local/" + record[key].rstrip("/").rpartition("/")[2]
        path.unlink()
        path.write_text(json.dumps(record, indent=1, sort_keys=True))


def compile_all(staged: Path, workers: int) -> None:
    """Compile every module: YARN's cache is read-only, so containers could never keep what they compile.

    Unchecked hashes (PEP 552) instead of times, and paths relative to the prefix: the same bytes wherever it is built.
    """
    python = staged / "bin" / f"python{PYTHON}"
    command = [python, "-IB", "-m", "compileall", "-q", "-q", "-f", "-j", str(workers), "-s", staged,
               "--invalidation-mode", "unchecked-hash", staged / "lib" / f"python{PYTHON}"]  # fmt: skip
    environment = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    # Its exit status tells of files that are no Python (templates, tests of syntax errors): they do no harm.
    subprocess.run(command, capture_output=True, timeout=DEADLINE, env=environment)
    if not any((staged / "lib" / f"python{PYTHON}" / "__pycache__").glob("os.*.pyc")):
        raise EnvironmentBuildError(
            f"compiling the modules below {staged} made nothing", "see that the disk is not full"
        )


def write_archive(staged: Path, file: BinaryIO, workers: int, report: Callable[[float, str], None]) -> None:
    """Write the folder's content to ``file`` as tar.gz; the same content gives the same bytes.

    Names are sorted, owners and times constant, modes 755 or 644.
    """
    paths = sorted(staged.rglob("*"), key=lambda path: path.relative_to(staged).as_posix())
    total = sum(path.lstat().st_size for path in paths)
    done = 0
    zipped = ParallelGzip(file, LEVEL, workers)
    try:
        with tarfile.open(fileobj=zipped, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as tar:
            for path in paths:
                done += _add(tar, path, path.relative_to(staged).as_posix())
                report(done / total, f"{total / 1e6:.0f} MB to {file.tell() / 1e6:.0f} MB")
        zipped.close()
    except BaseException:
        zipped.abandon()
        raise


def _add(tar: tarfile.TarFile, path: Path, name: str) -> int:
    member = tarfile.TarInfo(name)
    member.mtime = MTIME
    status = path.lstat()
    if path.is_symlink():
        member.type = tarfile.SYMTYPE
        member.linkname = os.readlink(path)
        member.mode = 0o777
    elif path.is_dir():
        member.type = tarfile.DIRTYPE
        member.mode = 0o755
    else:
        member.mode = 0o755 if status.st_mode & 0o111 else 0o644
        member.size = status.st_size
        with path.open("rb") as content:
            tar.addfile(member, content)
        return status.st_size
    tar.addfile(member)
    return 0
