"""What has to stand in HDFS before an application can start: environment, Spark's jars, data; sent once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from dkeras_core.cli.console import Step, Steps
from dkeras_core.cli.place import Place
from dkeras_core.cli.request import Request
from dkeras_core.config import Pipeline
from dkeras_core.errors import DataError, StorageError
from dkeras_core.paths import Layout
from dkeras_core.yarn.submission import spark_home


class Sent:
    """Shows what is on its way, and keeps the names of what was not there already."""

    def __init__(self, step: Step):
        self.step, self.names = step, []

    def say(self, stage: str, fraction: float | None, detail: str) -> None:
        """Progress of ``envs.builder.publish``."""
        if fraction not in (None, 1.0) and not detail.startswith("there already"):
            self.names.append(stage.removeprefix("upload "))
            self.step.detail = f"{self.names[-1]}: {fraction:.0%}"


@contextlib.contextmanager
def uploading(steps: Steps) -> Iterator[Sent]:
    """The step ``upload``, which says at its end what was sent."""
    with steps.step("upload") as step:
        sent = Sent(step)
        yield sent
        step.state = "done" if sent.names else "reused"
        step.detail = ", ".join(dict.fromkeys(sent.names)) or "everything is there already"


def built_environment(step: Step):
    """Return the packed environment's archive on this machine, built when it is not there yet."""
    from envs.builder import ensure_archive

    built = []

    def say(stage: str, fraction: float | None, detail: str) -> None:
        built.append(stage)
        step.detail = stage if fraction in (None, 1.0) else f"{stage}: {fraction:.0%} {detail}"

    archive = ensure_archive(progress=say)
    if not built:
        step.state = "reused"
    step.detail = f"train-{archive.key}, {archive.size / 1e6:.0f} MB"
    return archive


def upload_jars(found: Place, layout: Layout, sent: Sent) -> str | None:
    """Bring Spark's jars to HDFS and return their path; None on the single node, whose containers have them."""
    from envs.builder import publish

    if found.single_node:
        return None
    return publish.upload_spark_jars(found.storage, layout, spark_home(), progress=sent.say)


def digest(path: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file; DataError when it does not exist."""
    if not path.is_file():
        raise DataError(f"the data file {path} does not exist", "check the path given with --data")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def upload_data(found: Place, request: Request, digest: str) -> tuple[Pipeline, bool]:
    """Bring the data file to HDFS under a name that holds its hash, so that the same bytes travel once.

    Returns the pipeline that reads it from there, and whether it was sent.
    """
    target = f"{Layout(request.pipeline.root).raw(request.pipeline.name)}/{digest}/{request.data.name}"
    status = found.storage.status(target)
    fresh = status is None or status.size != request.data.stat().st_size
    if fresh:
        partial = f"{target}.partial-{request.run_id}-{secrets.token_hex(4)}"  # two may upload for one run
        try:
            found.storage.upload(request.data, partial, overwrite=True)
            found.storage.replace(partial, target)
        except BaseException:
            with contextlib.suppress(StorageError):
                found.storage.delete(partial)
            raise
    given = request.pipeline.input
    synthetic = given.synthetic or _is_synthetic(request.data)
    kind = "parquet" if request.data.suffix == ".parquet" else given.format
    changed = given.model_copy(update={"path": target, "synthetic": synthetic, "format": kind})
    return request.pipeline.model_copy(update={"input": changed}), fresh


def _is_synthetic(data: Path) -> bool:
    """Whether the file beside the data says that it was made by `dkeras data`."""
    try:
        return bool(json.loads(data.with_suffix(".json").read_text()).get("synthetic"))
    except (OSError, ValueError, AttributeError):
        return False


def uri(found: Place, path: str) -> str:
    """Return a path of the cluster's file system with its scheme."""
    return path if "://" in path else f"{found.config.default_fs}{path}"
