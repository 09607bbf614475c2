"""`dkeras score`: rows in, the same rows with scores out, by a published version."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from dkeras_core.cli import cleaning, place, score_flow
from dkeras_core.cli.console import Steps, stderr, stdout
from dkeras_core.cli.interruption import terminable
from dkeras_core.cli.models import completion
from dkeras_core.cli.models.arguments import DEFAULT_ROOT, Root
from dkeras_core.cli.submit import finish
from dkeras_core.cli.watch import watch
from dkeras_core.errors import ConfigError, DkerasError, Interrupted
from dkeras_core.scoring import PHASES
from dkeras_core.scoring.request import Format, new_scoring_id

app = typer.Typer()


@app.command(
    epilog="Exit codes: 0 done; 2 wrong arguments; 3 the rows cannot be scored; 4 HDFS refused, or OUTPUT is taken; "
    "5 YARN; 7 no such version, or it is damaged; 130 interrupted. OUTPUT is then as it was before."
)
def score(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="File or folder of raw rows in HDFS: Parquet, or CSV with a header.")
    ],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="New folder in HDFS: whole or not at all.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="NAME@ALIAS or NAME@NUMBER; NAME alone is its newest version.",
            autocompletion=completion.models,
        ),
    ],
    root: Root = DEFAULT_ROOT,
    local: Annotated[
        bool, typer.Option("--local", help="Without YARN: on this machine, INPUT and OUTPUT are files of it.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier scoring at OUTPUT.")] = False,
    column: Annotated[str, typer.Option(help="Name of the new column.")] = "score",
    format_: Annotated[Format | None, typer.Option("--format", help="Of the output. [default: the input's]")] = None,
    py_files: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Python module of the model's custom layers; repeatable.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="YARN queue, instead of that of the version's pipeline.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Such as --set resources.executors=8.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return once the application is accepted.")] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print what _dkeras.json says; with --detach the run and its application."),
    ] = False,
) -> None:
    """Score raw rows with a published version: its own features are applied, all columns are kept, `score` is added.

    The version is resolved once and verified before use; _dkeras.json in OUTPUT says which one it was.
    The last line is `scored <path>`. Ctrl-C asks whether to kill the application.

    Example: dkeras score --model higgs@production /data/new.parquet /data/scored
    """
    run_id = new_scoring_id(model.partition("@")[0])
    given = {"output": output, "overwrite": overwrite, "column": column, "format": format_ and str(format_)}
    given |= {"input": source, "modules": tuple(path.stem for path in py_files or () if path.suffix == ".py")}
    wanted = (*(overrides or ()), *([f"resources.queue={queue}"] if queue else ()))
    asked = score_flow.Asked(root, model, run_id, wanted, tuple(py_files or ()), given)
    if local:
        if wanted or detach:
            raise ConfigError("--set, --queue and --detach are about YARN", "leave them out, or leave --local out")
        from dkeras_core.cli import score_local

        found = score_local.run(asked)
        if as_json:
            typer.echo(json.dumps(found))
        else:
            stdout().print(f"scored {found['output']}", soft_wrap=True, markup=False)
        return
    try:
        with terminable(), Steps() as shown:
            found, application, chosen = score_flow.launch(asked, shown)
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Interrupted):
            raise
        with contextlib.suppress(DkerasError), terminable():  # it may have come just after the submission
            cleaning.withdraw(place.find(root), root, run_id)
        raise Interrupted(f"interrupted before there was an application; nothing was written to {output}") from None
    if detach and as_json:
        typer.echo(json.dumps({"run": run_id, "application": application.id}))
        return
    if detach:
        stdout().print(f"run {run_id} is {application.id}", soft_wrap=True)
        stderr().print(f"follow it with `dkeras follow {run_id}`, end it with `dkeras kill {run_id}`", soft_wrap=True)
        return
    result = watch(found, application.id, run_id, root, PHASES)
    rows = result["score"]["rows"]["out"]
    stderr().print(f"{rows:,} rows scored with {chosen}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(json.dumps(result["score"]))
        return
    finish(result, found, root)
