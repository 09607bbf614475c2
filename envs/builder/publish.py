"""Brings the archive, and Spark's own jars, to ``<root>/envs`` once; running applications are never disturbed.

Both are uploaded under a temporary name and renamed into place without overwriting. They are readable by everybody:
only then does YARN unpack them once per node instead of once per application.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import secrets
import tempfile
import zipfile
from pathlib import Path

from dkeras_core.errors import ConfigError, PathExists, StorageError
from dkeras_core.paths import Layout
from dkeras_core.storage import Storage
from envs.builder.archive import BUILD, Archive, explain_full_disk
from envs.builder.progress import Progress, silent, stage


def upload(storage: Storage, layout: Layout, archive: Archive, progress: Progress = silent) -> str:
    """Upload an archive unless it is there already, and return its path.

    The name holds the hash of what the archive is made from, so what stands there under this name with another size
    is the same environment packed elsewhere (another zlib): it is used as it is, for applications may be using it.
    """
    return _upload_once(storage, archive.path, layout.env_archive(archive.key), progress)


def upload_spark_jars(storage: Storage, layout: Layout, spark_home: Path, progress: Progress = silent) -> str:
    """Upload the jars of a Spark as one archive for ``spark.yarn.archive`` unless it is there, and return its path.

    Parameters
    ----------
    spark_home : Path
        Folder of a Spark distribution or of an installed pyspark; its ``jars/`` is taken.

    Raises
    ------
    ConfigError
        When there is no ``jars/`` with Spark in it.
    """
    jars = sorted((spark_home / "jars").glob("*.jar"))
    core = next((jar for jar in jars if jar.name.startswith("spark-core_")), None)
    if core is None:
        raise ConfigError(
            f"{spark_home}/jars holds no spark-core jar", "set SPARK_HOME to a Spark distribution, or unset it"
        )
    # A site's Spark may differ from the public one of the same version.
    listing = "\n".join(f"{jar.name} {jar.stat().st_size}" for jar in jars)
    version = f"{core.stem.rpartition('-')[2]}-{hashlib.sha256(listing.encode()).hexdigest()[:8]}"
    target = layout.spark_archive(version)
    if storage.status(target):
        progress("Spark's jars", None, "")
        progress("Spark's jars", 1.0, "there already")
        return target
    (BUILD / "envs").mkdir(parents=True, exist_ok=True)
    with explain_full_disk(BUILD), tempfile.TemporaryDirectory(prefix=".work-", dir=BUILD / "envs") as folder:
        packed = Path(folder) / posixpath.basename(target)
        with stage(progress, "collect Spark's jars"), zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for jar in jars:
                archive.write(jar, jar.name)
        return _upload_once(storage, packed, target, progress)


def _upload_once(storage: Storage, local: Path, target: str, progress: Progress) -> str:
    size = local.stat().st_size
    with stage(progress, f"upload {local.name}") as report:
        if found := storage.status(target):
            report(1.0, "there already" if found.size == size else "there already, packed elsewhere")
            return target
        folder, name = posixpath.split(target)
        storage.mkdirs(folder, mode=0o755)
        temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.tmp"
        sent = 0

        def count(chunk: int) -> None:
            nonlocal sent
            sent += chunk
            report(sent / size, f"{sent / 1e6:.0f} of {size / 1e6:.0f} MB")

        try:
            storage.upload(local, temporary, mode=0o644, progress=count)
            storage.rename(temporary, target)
        except PathExists:
            report(1.0, "somebody else was faster")
            _discard(storage, temporary)
        except BaseException:
            _discard(storage, temporary)
            raise
    return target


def _discard(storage: Storage, path: str) -> None:
    with contextlib.suppress(StorageError):
        storage.delete(path)
