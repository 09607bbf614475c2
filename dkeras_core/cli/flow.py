"""From a pipeline file to an accepted application: what has to stand ready, side by side where it can."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dkeras_core.cli import earlier, place, sending
from dkeras_core.cli.cleaning import cleaned_up
from dkeras_core.cli.console import Step, Steps
from dkeras_core.cli.place import BUILD, Place
from dkeras_core.cli.request import Request
from dkeras_core.errors import ClusterError, ConfigError, DataError, DkerasError
from dkeras_core.paths import Layout
from dkeras_core.yarn import doctor
from dkeras_core.yarn.adoption import adopt
from dkeras_core.yarn.answers import LIVE_STATES, Application
from dkeras_core.yarn.package import package
from dkeras_core.yarn.sizing import containers
from dkeras_core.yarn.submission import SparkSubmission, run_tag
from dkeras_core.yarn.submit import submit


@dataclass(frozen=True)
class Launched:
    """An accepted application: where, for which request (with its run), and whether somebody else submitted it."""

    place: Place
    app: Application
    request: Request
    adopted: bool = False


def launch(request: Request, steps: Steps) -> Launched:
    """Make everything ready, submit, and return the accepted application.

    A request with a tag takes over a live application with that tag, also one that comes up during the submission.

    Raises
    ------
    DkerasError
        With cause and next step; nothing of the run is left in HDFS then.
    """
    own = own_files(request)
    found, archive, digest = prepare(request, steps)
    request, carried = earlier.resolve(found.storage, request)
    if request.tag and (there := adopt(found.rm, request.tag)):
        return Launched(found, there, request, adopted=True)
    refuse_second(found, request)
    # Tagged work may have other submitters, and its run holds what they made: only what this one submits is ended.
    alone = cleaned_up(found, request.pipeline.root, request.run_id)
    with contextlib.nullcontext() if request.tag else alone:
        uris = upload(found, request, archive, digest, steps)
        for name, content in carried.files.items():
            found.storage.write_atomic(f"{request.run_folder}/{name}", content)
        with steps.step("submit") as step:

            def say(text: str) -> None:
                step.detail = text

            say("starting spark-submit")
            submission = describe(found, request, own, *uris)
            log = BUILD / "runs" / request.run_id / f"spark-submit-{os.getpid()}.log"
            app, adopted = _submit(found, request, submission, log, say)
            step.detail = app.id
    return Launched(found, app, request, adopted)


def _submit(found: Place, request: Request, submission, log: Path, say) -> tuple[Application, bool]:
    """Submit, and return the application that does the work, and whether it is another's."""
    if not request.tag:
        return submit(submission, found.rm, log, progress=say), False
    try:
        app = submit(submission, found.rm, log, progress=say)
    except ClusterError:
        # Another submitter may have ended it, as the later of two, while spark-submit still waited for it
        with contextlib.suppress(ClusterError):
            if there := adopt(found.rm, request.tag, say=say):
                return there, True
        raise
    kept = adopt(found.rm, request.tag, say=say) or app
    return kept, kept.id != app.id


def prepare(request: Request, steps: Steps):
    """Return the cluster, the environment's archive and the digest of the data; they are made side by side."""
    named = place.is_named()
    if not named:
        from dkeras_core.singlenode.java import find_java

        find_java()  # said before minutes are spent on building
    with ThreadPoolExecutor(2) as pool:
        cluster = pool.submit(steps.run, "cluster", lambda step: _cluster(request, step))
        digest = pool.submit(sending.digest, request.data) if request.data else None
        if named:
            cluster.result()  # a moment; a cluster that refuses is no reason to build an environment
        # In this thread, for only this one can be interrupted.
        archive = steps.run("environment", sending.built_environment)
        return cluster.result(), archive, digest.result() if digest else None


def _cluster(request: Request, step: Step) -> Place:
    def say(text: str) -> None:
        step.detail = text

    found = place.find(request.pipeline.root, start=True, progress=say)
    say("checking")
    around = doctor.Surroundings(
        found.config,
        found.storage,
        found.rm,
        BUILD,
        doctor.Work.of(request.pipeline),
        Layout(request.pipeline.root).root,
    )
    checks = doctor.examine(around)
    failure = doctor.first_failure(checks) or _missing_input(checks, request)
    if failure:
        raise failure
    warned = [check.what for check in checks if check.state == "warn" and check.name != "input"]
    say("; ".join(warned) or found.config.default_fs)
    return found


def _missing_input(checks, request: Request) -> DkerasError | None:
    wanted = "preprocess" in request.steps and request.data is None
    missing = [check for check in checks if check.name == "input" and check.state == "warn"]
    return DataError(missing[0].what, missing[0].next_step) if wanted and missing else None


def upload(found: Place, request: Request, archive, digest: str | None, steps: Steps) -> tuple[str, str | None]:
    """Bring archive, Spark's jars, data and the pipeline file to HDFS; URIs of the first two."""
    from envs.builder import publish

    layout = Layout(request.pipeline.root)
    with sending.uploading(steps) as sent:
        environment = publish.upload(found.storage, layout, archive, progress=sent.say)
        jars = sending.upload_jars(found, layout, sent)
        pipeline = request.pipeline
        if request.data:
            sent.step.detail = request.data.name
            pipeline, fresh = sending.upload_data(found, request, digest)
            sent.names += [request.data.name] if fresh else []
        found.storage.write_atomic(f"{request.run_folder}/pipeline.yaml", pipeline.to_yaml().encode())
    return sending.uri(found, environment), sending.uri(found, jars) if jars else None


def describe(found: Place, request: Request, own: tuple[Path, ...], archive: str, jars: str | None) -> SparkSubmission:
    """Return the submission of a prepared request."""
    import dkeras_core.jobs

    pipeline = request.pipeline
    asked = containers(pipeline)
    root = Layout(pipeline.root).root
    return SparkSubmission(
        name=request.name or f"dkeras {pipeline.name} {request.run_id}",
        main=Path(dkeras_core.jobs.__file__).parent / "main.py",
        arguments=(
            *("--root", root, "--run", request.run_id, "--steps", ",".join(request.steps), "--archive", archive),
            *(("--tag", request.tag) if request.tag else ()),
        ),
        resources=pipeline.resources,
        memory_overhead=asked.executor_overhead,
        driver_memory_overhead=asked.driver_overhead,
        conf_dir=found.config.conf_dir,
        archive=archive,
        spark_jars=jars,
        py_files=(package(BUILD / "py-files"), *(path for path in own if path.suffix in (".py", ".zip", ".egg"))),
        files=tuple(path for path in own if path.suffix not in (".py", ".zip", ".egg")),
        tags=("dkeras", run_tag(request.run_id), *((request.tag,) if request.tag else ())),
        staging=sending.uri(found, Layout(pipeline.root).staging(request.run_id)),
        single_node=found.single_node,
    )


def own_files(request: Request) -> tuple[Path, ...]:
    """Return the files of the user's model, found beside the pipeline file or in the working directory."""
    model = request.pipeline.model
    return tuple(_own_file(name, request.folder) for name in (*model.files, *filter(None, [model.json_file])))


def _own_file(name: str, folder: Path) -> Path:
    for path in (folder / name, Path(name)):
        if path.is_file():
            return path.absolute()
    raise ConfigError(
        f"the model's file {name} is neither in {folder} nor in {Path.cwd()}", "correct model.files or model.json"
    )


def refuse_second(found: Place, request: Request) -> None:
    """A run is the work of one application at a time; of several with one tag the submission itself leaves one."""
    for app in found.rm.apps(tags=[run_tag(request.run_id)], states=LIVE_STATES):
        if request.tag in app.tags:
            continue
        raise ClusterError(
            f"run {request.run_id} is going on already as {app.id}",
            f"`dkeras follow {request.run_id}` follows it, `dkeras kill {request.run_id}` ends it",
        )
