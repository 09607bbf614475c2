"""`dkeras submit`: run a pipeline as one YARN application, from raw rows to a published version."""

from __future__ import annotations

import contextlib
import enum
import json
from pathlib import Path
from typing import Annotated

import typer

from dkeras_core.cli import cleaning, flow, place
from dkeras_core.cli.console import Steps, stderr, stdout
from dkeras_core.cli.display import STEPS
from dkeras_core.cli.interruption import terminable
from dkeras_core.cli.place import BUILD, Place
from dkeras_core.cli.request import Request
from dkeras_core.cli.watch import watch
from dkeras_core.config import Pipeline
from dkeras_core.errors import ConfigError, DkerasError, Interrupted, StorageError
from dkeras_core.paths import NAME, Layout, new_run_id
from dkeras_core.yarn.adoption import checked

app = typer.Typer()
_SHOWN = ("accuracy", "roc_auc", "f1", "log_loss", "ams")
Step = enum.StrEnum("Step", {name: name for name in STEPS})


@app.command()
def submit(
    pipeline: Annotated[Path, typer.Argument(help="Pipeline file, such as dags/pipelines/higgs.yaml.")],
    step: Annotated[list[Step] | None, typer.Option(help="Only this step; may be repeated. [default: all]")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Local data file: uploaded when it changed, and read as input.")
    ] = None,
    run: Annotated[
        str | None,
        typer.Option(
            help="Run id, to go on with that run. [default: a new one; for a step alone the newest that fits]"
        ),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the application is accepted.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set training.epochs=1.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="YARN queue, instead of the pipeline's.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the application in YARN.")] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="For schedulers: a live application with this YARN tag is taken over, not submitted again."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output: the application, or the run's result.")
    ] = False,
) -> None:
    """Submit a pipeline and follow it; the last line is `published <path of the version>`.

    HADOOP_CONF_DIR names the cluster; without it the bundle's single node is started. Environment and data are
    uploaded when they are not there yet. Ctrl-C asks whether to kill the application.

    With `--tag T` the command may be repeated: of several applications with that tag the first one stays.
    """
    wanted = [*(overrides or []), *([f"resources.queue={queue}"] if queue else [])]
    loaded = Pipeline.load(pipeline, wanted)
    run_id = run or new_run_id(loaded.name)
    if not NAME.fullmatch(run_id.lower()):
        raise ConfigError(f"--run {run_id!r} is not a run id", "use letters, digits, '.', '_' and '-', at most 64")
    steps = tuple(str(one) for one in STEPS if not step or one in step)
    named = run is not None
    request = Request(
        loaded, pipeline.parent, run_id, steps, data, name, named_run=named, tag=checked(tag) if tag else None
    )
    try:
        with terminable(), Steps() as shown:
            launched = flow.launch(request, shown)
            found, application, request = launched.place, launched.app, launched.request
            run_id = request.run_id
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Interrupted):
            raise
        if tag:
            raise Interrupted(
                "interrupted while submitting", "repeat the command: it takes over what was submitted, if anything was"
            ) from None
        with contextlib.suppress(DkerasError), terminable():  # it may have come just after the submission
            cleaning.withdraw(place.find(loaded.root), loaded.root, request.run_id)
        raise Interrupted(
            f"interrupted before there was an application; no application of run {run_id} is left"
        ) from None
    if detach and as_json:
        typer.echo(json.dumps(_described(launched)))
        return
    if detach:
        stdout().print(f"run {run_id} is {application.id}", soft_wrap=True)
        stderr().print(f"follow it with `dkeras follow {run_id}`, end it with `dkeras kill {run_id}`", soft_wrap=True)
        return
    result = watch(found, application.id, run_id, loaded.root, steps)
    if as_json:
        typer.echo(json.dumps(result))
        return
    finish(result, found, loaded.root)


def _described(launched: flow.Launched) -> dict:
    """What a script needs of an accepted application."""
    app = launched.app
    return {
        "run": launched.request.run_id,
        "application": app.id,
        "state": app.state,
        "tracking_url": app.tracking_url,
        "adopted": launched.adopted,
    }


def finish(result: dict, found: Place, root: str) -> None:
    """Print what a run that succeeded has brought; a published version is the last line of standard output."""
    measured = result.get("metrics") or {}
    metrics = [f"{name} {measured[name]:.4f}" for name in _SHOWN if isinstance(measured.get(name), float)]
    if metrics:
        stderr().print(", ".join(metrics), soft_wrap=True)
    report = fetch_report(found, root, result["run"])
    if report:
        stderr().print(f"report {report}", soft_wrap=True)
    if not place.is_named():
        stderr().print("the single node stays up for the next run; `make cluster-down` stops it", soft_wrap=True)
    if result.get("scored"):
        stdout().print(f"scored {result['scored']}", soft_wrap=True, markup=False)
    elif result.get("published"):
        stdout().print(f"published {result['published']}", soft_wrap=True)
    else:
        stdout().print(f"run {result['run']} succeeded", soft_wrap=True)


def fetch_report(found: Place, root: str, run_id: str) -> Path | None:
    """Return a local copy of the run's report, None when it has none or it cannot be copied."""
    source = f"{Layout(root).run(run_id)}/report.html"
    local = BUILD / "runs" / run_id / "report.html"
    try:
        if not found.storage.exists(source):
            return None
        found.storage.download(source, local)
    except (StorageError, OSError):
        return None
    return local
