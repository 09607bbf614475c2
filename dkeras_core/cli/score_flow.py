"""From the name of a version to an accepted application that scores rows with it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from dkeras_core import config_file
from dkeras_core.cli import place, sending
from dkeras_core.cli.cleaning import cleaned_up
from dkeras_core.cli.console import Step, Steps
from dkeras_core.cli.place import BUILD, Place
from dkeras_core.config import Resources
from dkeras_core.config_file import Section
from dkeras_core.errors import ConfigError, DataError, PathMissing
from dkeras_core.paths import Layout
from dkeras_core.registry import Registry
from dkeras_core.scoring import REQUEST
from dkeras_core.scoring.output import Output
from dkeras_core.scoring.request import Chosen, ScoreRequest, choose
from dkeras_core.storage import Storage
from dkeras_core.storage.paths import split_uri
from dkeras_core.yarn import doctor
from dkeras_core.yarn.answers import Application
from dkeras_core.yarn.package import package
from dkeras_core.yarn.sizing import scoring_containers
from dkeras_core.yarn.submission import SparkSubmission, run_tag
from dkeras_core.yarn.submit import submit

_WIDTH = 256  # columns of a row that is not known before the job reads it


@dataclass(frozen=True)
class Asked:
    """What the command line asks for; ``overrides`` are ``resources.key=value``, ``given`` goes to ScoreRequest."""

    root: str
    model: str
    run_id: str
    overrides: tuple[str, ...]
    py_files: tuple[Path, ...]
    given: dict


class _Asked(Section):
    resources: Resources = Resources()


def launch(asked: Asked, steps: Steps) -> tuple[Place, Application, Chosen]:
    """Resolve the version, make everything ready, submit; return the cluster, the application and the version.

    Raises
    ------
    DkerasError
        With cause and next step; nothing of the run is left in HDFS then.
    """
    for name in ("input", "output"):
        _refuse_local(asked.given[name])
    missing = [path for path in asked.py_files if not path.is_file()]
    if missing:
        raise ConfigError(f"the file {missing[0]} does not exist", "correct --py-files")
    layout = Layout(asked.root)
    with steps.step("cluster") as step:
        found = place.find(asked.root, start=True, progress=lambda text: setattr(step, "detail", text))
        step.detail = found.config.default_fs
    with steps.step("model") as step:
        chosen = choose(Registry(found.storage, asked.root), asked.model)
        step.detail = str(chosen)
        resources = _resources(found.storage, chosen, asked.overrides)
        request = ScoreRequest.of(chosen, **{**asked.given, **_cleaned(found.storage, asked.given)})
        check_output(found.storage, found.storage, request, asked.run_id)
    with steps.step("checks") as step:
        work = _work(request, chosen, resources)
        _check(found, work, layout, step)
    with cleaned_up(found, asked.root, asked.run_id):
        archive, jars = _upload(found, layout, chosen, steps)
        request = dataclasses.replace(request, environment=_key(archive))
        found.storage.write_atomic(f"{layout.run(asked.run_id)}/{REQUEST}", request.to_json())
        with steps.step("submit") as step:
            step.detail = "starting spark-submit"
            submission = _submission(found, asked, request, work, archive, jars)
            log = BUILD / "runs" / asked.run_id / "spark-submit.log"
            app = submit(submission, found.rm, log, progress=lambda text: setattr(step, "detail", text))
            step.detail = app.id
    return found, app, chosen


def check_output(inputs: Storage, outputs: Storage, request: ScoreRequest, run_id: str) -> None:
    """Refuse what can be seen without reading rows: an input that is not there, an output that is taken."""
    if not inputs.exists(request.input):
        raise DataError(f"the input {request.input} does not exist", "copy the rows there, or correct the path")
    Output(outputs, request.output, run_id, request.overwrite).check(request.input, inputs)


def _refuse_local(path: str) -> None:
    scheme, _, rest = split_uri(path)
    if scheme == "file":
        raise ConfigError(
            f"{path} is on this machine, where executors cannot read or write it",
            "copy it with `hdfs dfs -put`, or score on this machine with --local",
        )
    if not rest.startswith("/"):
        raise ConfigError(f"{path!r} is no absolute path in HDFS", "begin it with '/', or use --local for files here")


def _cleaned(storage: Storage, given: dict) -> dict:
    return {name: storage.clean(given[name]) for name in ("input", "output")}


def _resources(storage: Storage, chosen: Chosen, overrides: tuple[str, ...]) -> Resources:
    """What the version's own pipeline asked of YARN, the overheads left open (they were for training), and overrides.

    ConfigError for an override that is none.
    """
    base = {}
    try:
        text = storage.read_bytes(f"{chosen.version.path}/pipeline.yaml").decode()
        base = Resources.model_validate(yaml.safe_load(text)["resources"]).model_dump(mode="json")
    except (PathMissing, yaml.YAMLError, ValidationError, KeyError, TypeError, UnicodeDecodeError):
        pass  # a version that was published by hand has none; the defaults will do
    base |= {"memory_overhead": None, "driver_memory_overhead": None}
    source = "--set"
    data, _ = config_file.read(yaml.safe_dump({"resources": base}), source, overrides)
    try:
        return _Asked.model_validate(data).resources
    except ValidationError as error:
        found = config_file.refusal(_Asked, error, data, {}, source)
        raise ConfigError(found.what, "correct --set: it takes resources.KEY=VALUE, docs/pipeline.md") from None


def _work(request: ScoreRequest, chosen: Chosen, resources: Resources) -> doctor.Work:
    held = chosen.manifest.files.get("model.keras")
    containers = scoring_containers(resources, held.size if held else 0, _WIDTH)
    return doctor.Work(request.input, resources, containers)


def _check(found: Place, work: doctor.Work, layout: Layout, step: Step) -> None:
    # Where runs are written: who only scores need not be allowed to write beside them.
    checks = doctor.examine(
        doctor.Surroundings(found.config, found.storage, found.rm, BUILD, work, root=Layout(layout.runs()).root)
    )
    failure = doctor.first_failure(checks)
    if failure:
        raise failure
    step.detail = "; ".join(check.what for check in checks if check.state == "warn")


def _upload(found: Place, layout: Layout, chosen: Chosen, steps: Steps) -> tuple[str, str | None]:
    """Return the paths of the environment and, on a real cluster, of Spark's jars.

    The version's own environment is taken when it stands in HDFS: nothing needs to be built then.
    """
    from envs.builder import publish

    key = chosen.manifest.lineage.environment
    own = layout.env_archive(key) if key else None
    there = bool(own) and found.storage.exists(own)
    archive = None
    with steps.step("environment") as step:
        if there:
            step.state, step.detail = "reused", f"train-{key}, the one that the version was made in"
        else:
            archive = sending.built_environment(step)
            if key and key != archive.key:
                step.detail += f" (the version's own, train-{key}, is not in {layout.root}/envs)"
    with sending.uploading(steps) as sent:
        environment = own if there else publish.upload(found.storage, layout, archive, progress=sent.say)
        jars = sending.upload_jars(found, layout, sent)
    return environment, jars


def _key(archive: str) -> str:
    return archive.rsplit("/", 1)[-1].removeprefix("train-").removesuffix(".tar.gz")


def _submission(
    found: Place, asked: Asked, request: ScoreRequest, work: doctor.Work, archive: str, jars: str | None
) -> SparkSubmission:
    import dkeras_core.jobs

    root = Layout(asked.root).root
    return SparkSubmission(
        name=f"dkeras score {request.model}@{request.version} {asked.run_id}",
        main=Path(dkeras_core.jobs.__file__).parent / "main.py",
        arguments=("--root", root, "--run", asked.run_id, "--score"),
        resources=work.resources,
        memory_overhead=work.containers.executor_overhead,
        driver_memory_overhead=work.containers.driver_overhead,
        conf_dir=found.config.conf_dir,
        archive=sending.uri(found, archive),
        spark_jars=sending.uri(found, jars) if jars else None,
        py_files=(package(BUILD / "py-files"), *(path.absolute() for path in asked.py_files)),
        tags=("dkeras", run_tag(asked.run_id)),
        staging=sending.uri(found, Layout(root).staging(asked.run_id)),
        single_node=found.single_node,
    )
