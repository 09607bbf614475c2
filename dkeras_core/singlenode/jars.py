"""Hadoop's jars, downloaded once by Maven and shared by all clusters of a checkout.

The folder is named by the hash of deploy/hadoop/pom.xml and appears by rename when it is whole, so that neither a
killed download nor a changed pom can be mistaken for it, and running daemons keep the jars they started with.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import threading
import zipfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.java import find_java, find_maven
from dkeras_core.singlenode.locks import locked

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DEPLOY = PROJECT_ROOT / "deploy" / "hadoop"
POM = DEPLOY / "pom.xml"
SHARED = PROJECT_ROOT / "build" / "hadoop"
DOWNLOAD_SECONDS = 1800.0
#: How Maven goes on after it has named the cause.
_ADVICE = ("[Help", "To see the full", "Re-run Maven", "For more information", "After correcting")
_ADDRESS = re.compile(r"\w+://[^\s)]+|(?<=Connect to )\S+( \[[^\]]*\])?|(?<=nknown host )[\w.-]+")


@dataclass(frozen=True)
class Jars:
    """A complete set: ``folder``/jars/*.jar and ``folder``/webapps/{hdfs,datanode,...}."""

    folder: Path

    @property
    def classpath(self) -> str:
        return f"{self.folder}{os.pathsep}{self.folder / 'jars'}/*"


def ensure_jars(progress: Callable[[str], None] = lambda line: None, *, shared: Path = SHARED) -> Jars:
    """Return the jars, downloading them first where this checkout does not have them yet (about 110 MB).

    Parameters
    ----------
    progress : callable
        Told what happens, one line at a time.
    shared : Path
        The folder that holds the sets.

    Raises
    ------
    ClusterError
        Java or Maven is missing, or the download failed.
    """
    if not POM.is_file():
        raise ClusterError(
            f"{POM} is missing", "run from a checkout of the repository; the package alone has no daemons"
        )
    shared = shared.resolve()  # Maven takes a relative folder from where the pom stands
    folder = shared / f"jars-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return Jars(folder)
    java, maven = find_java(), find_maven()
    with locked(shared / "lock", what="the download of Hadoop's jars", timeout=DOWNLOAD_SECONDS, progress=progress):
        if not folder.is_dir():
            for left in shared.glob("partial-*"):  # of a process that was killed: the lock is ours now
                shutil.rmtree(left, ignore_errors=True)
            partial = shared / f"partial-{os.getpid()}"
            try:
                partial.mkdir()
                _download(maven, java.home, partial / "jars", progress)
                _unpack_webapps(partial)
                _check(partial / "jars")
                partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            progress(f"{len(list((folder / 'jars').iterdir()))} jars are in {folder}")
    return Jars(folder)


def _download(maven: str, java_home: Path, target: Path, progress: Callable[[str], None]) -> None:
    progress("downloading Hadoop's jars by Maven (once, about 110 MB)")
    command = [
        maven, "--batch-mode", "--strict-checksums", "-f", str(POM),
        "validate", f"-DoutputDirectory={target}",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=os.environ | {"JAVA_HOME": str(java_home)}, start_new_session=True,
    )  # fmt: skip
    timer = threading.Timer(DOWNLOAD_SECONDS, process.kill)
    timer.start()
    last: deque[str] = deque(maxlen=200)
    files = 0
    try:
        for line in process.stdout:
            last.append(line.rstrip())
            if match := re.match(r"(?:\[INFO\] )?Downloaded from \S+ \S*/(\S+\.jar) \(([^ ]+ [kMG]?B)", line):
                files += 1
                progress(f"downloaded {files} jars: {match[1]} ({match[2]})")
        code = process.wait()
    finally:
        timer.cancel()
        process.kill()
        process.wait()
    if code != 0:
        raise ClusterError(
            f"Maven could not download Hadoop's jars (exit code {code}):\n{_summary(last)}",
            "see that this host reaches a Maven repository (~/.m2/settings.xml names mirrors and proxies), then try "
            f"again; mvn -f {POM.relative_to(PROJECT_ROOT)} dependency:resolve shows all that Maven says",
        )


def _summary(lines: deque[str]) -> str:
    """Keep what explains a failure; addresses of repositories (which may hold passwords) are left out."""
    errors = [line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR] ")]
    causes = [line.partition(" -> [Help")[0] for line in errors if not line.startswith(_ADVICE)]
    text = "\n".join(f"  {line}" for line in (causes or list(lines))[:4])
    return _ADDRESS.sub("<repository>", text) or "  (it printed nothing)"


def _unpack_webapps(folder: Path) -> None:
    """Move HDFS's web pages from the test jar to ``folder``/webapps, and drop the jar: its test classes and settings
    have no place on the class path of a daemon."""
    (archive,) = (folder / "jars").glob("hadoop-hdfs-*-tests.jar")
    with zipfile.ZipFile(archive) as jar:
        pages = [name for name in jar.namelist() if name.startswith("webapps/")]
        jar.extractall(folder, pages)
    if not (folder / "webapps" / "hdfs").is_dir():
        raise ClusterError(f"{archive.name} holds no webapps/hdfs", f"check the versions in {POM}")
    archive.unlink()


def _check(folder: Path) -> None:
    for jar in folder.iterdir():
        if not zipfile.is_zipfile(jar):
            raise ClusterError(
                f"{jar.name} is damaged in Maven's local repository",
                f"remove it there (find ~/.m2 -name {jar.name} -delete) and try again",
            )
