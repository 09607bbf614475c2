"""Which pipelines there are, and when and how Airflow runs them: dags/pipelines/*.yaml and dags/schedules.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from dkeras_core import config_file
from dkeras_core.airflow.tags import run_id
from dkeras_core.config import Name, Pipeline
from dkeras_core.config_file import Section
from dkeras_core.errors import ConfigError, DkerasError
from dkeras_core.paths import Layout

BY_DATA = "data"
"""A schedule: whenever there are new data."""
_PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "@once", "@continuous")


class Plan(Section):
    """When a pipeline is trained anew, who decides, and who is told."""

    schedule: str | None = Field(None, description="cron expression, @daily, or data; null: only when triggered")
    flag: str | None = Field("_SUCCESS", description="file that says that an input folder is complete")
    newer: bool = Field(False, description="wait for data that came after the last successful run began")
    wait_hours: float = Field(6, gt=0, description="how long data are waited for")
    alias: Name = Field("production", description="what an approved version is promoted to")
    approval: Literal["person", "checks"] = Field("person", description="who decides on a version that passes")
    approval_hours: float = Field(12, gt=0, description="no answer by then: not promoted; it can be, later")
    timeout_hours: float = Field(6, gt=0, description="of one application")
    deadline_hours: float = Field(12, gt=0, description="mail and webhook when a run is not over by then")
    retries: int = Field(2, ge=1, le=10)
    pool: str = Field("default_pool", min_length=1, description="Airflow's pool of the tasks; it must be there")
    trials: int = Field(2, ge=1, description="applications of a sweep or a cross-validation at a time")
    mail: tuple[str, ...] = Field((), description="told of failures and missed deadlines, by smtp_default")
    webhook: str | None = Field(None, description="Airflow connection whose address is told too")

    @field_validator("schedule")
    @classmethod
    def _time(cls, schedule: str | None) -> str | None:
        """Airflow itself would refuse it while it reads the file of all pipelines, and take their DAGs away."""
        if schedule is None or schedule == BY_DATA or schedule in _PRESETS:
            return schedule
        if 5 <= len(schedule.split()) <= 7 and _is_cron(schedule):
            return schedule
        raise ValueError(f"is no cron expression such as '0 2 * * *', none of {', '.join(_PRESETS)}, and not {BY_DATA}")


class Schedules(Section):
    """dags/schedules.yaml: what holds for every pipeline, and what is different for one."""

    roots: tuple[str, ...] = Field(
        (), description="further registries, for promote_model, rollback_model, housekeeping"
    )
    every: dict[str, Any] = Field({})
    pipelines: dict[str, dict[str, Any]] = Field({})


@dataclass(frozen=True)
class Scheduled:
    """A pipeline with its plan; ``file`` is what tasks submit."""

    file: Path
    pipeline: Pipeline
    plan: Plan

    @property
    def name(self) -> str:
        return self.pipeline.name


def find(folder: Path) -> tuple[list[Scheduled], list[DkerasError]]:
    """Return the pipelines of a folder of DAGs, and what is wrong with the others.

    One broken file must not take the DAGs of all others away, so nothing is raised.
    """
    found, wrong = [], []
    try:
        schedules = _schedules(folder / "schedules.yaml")
    except DkerasError as error:
        schedules, wrong = Schedules(), [error]
    for file in sorted((folder / "pipelines").glob("*.yaml")):
        try:
            pipeline = Pipeline.load(file)
            found.append(Scheduled(file, pipeline, _plan(schedules, pipeline.name, folder / "schedules.yaml")))
        except DkerasError as error:
            wrong.append(error)
    strangers = schedules.pipelines.keys() - {one.name for one in found}
    if strangers and not wrong:
        wrong.append(_error(folder / "schedules.yaml", f"no pipeline is named {', '.join(sorted(strangers))}"))
    return found, wrong


def roots(folder: Path) -> list[str]:
    """Return the root folders that the DAGs may work on: those of the pipelines, and ``roots`` of schedules.yaml."""
    try:
        further = _schedules(folder / "schedules.yaml").roots
    except DkerasError:
        further = ()  # `find` tells of it
    return sorted({Layout(root).root for root in (*(one.pipeline.root for one in find(folder)[0]), *further)})


def namer(pipeline: str) -> Callable[[Any], str]:
    """Return the function that templates call for the id of the work of a DAG run: ``{{ run_name(dag_run) }}``."""
    return lambda run: run_id(pipeline, run.dag_id, run.run_id, run.logical_date or run.run_after)


def _schedules(file: Path) -> Schedules:
    if not file.exists():
        return Schedules()
    data, lines = config_file.read(file.read_text(encoding="utf-8"), str(file))
    try:
        return Schedules.model_validate(data)
    except ValidationError as error:
        raise config_file.refusal(Schedules, error, data, lines, str(file)) from None


def _plan(schedules: Schedules, name: str, file: Path) -> Plan:
    values = schedules.every | schedules.pipelines.get(name, {})
    try:
        return Plan.model_validate(values)
    except ValidationError as error:
        raise config_file.refusal(Plan, error, values, {}, f"{file}: {name}") from None


def _is_cron(text: str) -> bool:
    """Return whether Airflow would take it; its parser of cron expressions stands only in Airflow's environment."""
    try:
        from croniter import croniter
    except ImportError:
        return True
    return croniter.is_valid(text)


def _error(file: Path, what: str) -> DkerasError:
    return ConfigError(f"{file}: {what}", "correct the name, or remove the entry")
