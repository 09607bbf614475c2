"""`dkeras env`: build, show and upload the training environment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from dkeras_core.cli.console import Steps, duration, stdout
from dkeras_core.errors import ConfigError
from dkeras_core.paths import Layout
from envs.builder import Archive, ensure_archive, publish
from envs.builder.archive import find_archive, find_inputs

if TYPE_CHECKING:
    from envs.builder.progress import Progress

app = typer.Typer(
    no_args_is_help=True,
    help="The training environment: one archive that YARN unpacks in every container.",
)


@app.command()
def build() -> None:
    """Build the archive unless it is there.

    ENV_CHANNEL=conda-forge (or the address or folder of another channel) takes the packages from there instead of
    from the hash-locked wheels.
    """
    with drawn() as progress:
        archive = ensure_archive(progress)
    stdout().print(f"environment {archive.key}: {archive.path} ({archive.size / 1e6:.0f} MB)", soft_wrap=True)


@app.command()
def show() -> None:
    """Show key, place, size and content of the archive. Exit code 1 when it is not built yet."""
    with drawn() as progress:
        inputs = find_inputs(progress=progress)
    archive = find_archive(inputs.key)
    facts = {"key": inputs.key, "channel": inputs.channel}
    if archive is None:
        _print_facts(facts | {"archive": "not built yet (dkeras env build)"})
        raise typer.Exit(1)
    inside = archive.description()
    facts["archive"] = str(archive.path)
    facts["size"] = f"{archive.size / 1e6:.0f} MB"
    facts["built in"] = duration(inside["seconds"])
    facts["python"] = inside["python"]
    facts["nodes need"] = f"glibc {inside['glibc']} or newer, x86_64"
    _print_facts(facts)
    packages = Table(box=None, pad_edge=False, header_style="bold")
    packages.add_column("package")
    packages.add_column("version")
    for name, version in sorted(inside["packages"].items()):
        packages.add_row(name, version)
    stdout().print()
    stdout().print(packages)


def _print_facts(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        stdout().print(f"{name:<12}{value}", soft_wrap=True, markup=False)


@app.command()
def upload(
    root: Annotated[str, typer.Option(help="Root folder of the bundle in HDFS.")] = "/dkeras",
    spark_jars: Annotated[
        bool, typer.Option("--spark-jars", help="Spark's jars too, for spark.yarn.archive ($SPARK_HOME or pyspark).")
    ] = False,
) -> None:
    """Build the archive if need be and upload it to the cluster of HADOOP_CONF_DIR (or the single node), once."""
    from dkeras_core.storage import open_storage
    from dkeras_core.yarn.hadoop_config import HadoopConfig

    storage = open_storage(root, hadoop=HadoopConfig.load(_conf_dir()))
    layout = Layout(storage.clean(root))
    with drawn() as progress:
        archive: Archive = ensure_archive(progress)
        paths = [publish.upload(storage, layout, archive, progress)]
        if spark_jars:
            paths.append(publish.upload_spark_jars(storage, layout, _spark_home(), progress))
    for path in paths:
        stdout().print(path, soft_wrap=True)


def _conf_dir() -> Path | None:
    """Return the configuration of the single node when the user names no cluster and one is there."""
    if os.environ.get("HADOOP_CONF_DIR") or os.environ.get("YARN_CONF_DIR"):
        return None
    from dkeras_core.singlenode import DEFAULT_HOME, SingleNode

    conf_dir = SingleNode(DEFAULT_HOME).conf_dir
    if not (conf_dir / "core-site.xml").exists():
        raise ConfigError(
            "there is no cluster to upload to: HADOOP_CONF_DIR is not set and the single node was never started",
            "set HADOOP_CONF_DIR, or start the single node: dkeras cluster up",
        )
    return conf_dir


def _spark_home() -> Path:
    if home := os.environ.get("SPARK_HOME"):
        return Path(home)
    import pyspark

    return Path(pyspark.__file__).parent


@contextmanager
def drawn() -> Iterator[Progress]:
    """Give a builder's progress callable that shows each stage as a step."""
    with Steps() as steps, ExitStack() as running:
        open_steps = {}
        last_drawn = 0.0

        def progress(name: str, fraction: float | None, detail: str) -> None:
            nonlocal last_drawn
            if fraction is None:
                stack = running.enter_context(ExitStack())
                open_steps[name] = (stack.enter_context(steps.step(name)), stack)
                return
            step, stack = open_steps[name]
            if fraction == 1.0:
                step.detail = detail
                stack.close()
            elif time.monotonic() - last_drawn > 0.1:
                last_drawn = time.monotonic()
                step.detail = f"{fraction:4.0%}  {detail}"

        yield progress
