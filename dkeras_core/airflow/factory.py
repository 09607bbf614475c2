"""What all DAGs of the bundle have in common, so that a file in dags/ shows its tasks and little else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from airflow.sdk import DAG, Asset, AsyncCallback, DeadlineAlert, DeadlineReference, Param

from dkeras_core.airflow import forms
from dkeras_core.airflow.alerts import LATE, Alert
from dkeras_core.airflow.job import DkerasJobOperator
from dkeras_core.airflow.pipelines import BY_DATA, Plan, Scheduled, namer
from dkeras_core.airflow.text import of_task
from dkeras_core.airflow.watch import watched
from dkeras_core.paths import Layout

GROUP = OWNER = "dkeras"
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
OVERRIDES = Param(
    [],
    type="array",
    items={"type": "string", "pattern": r"^[A-Za-z_][\w.]*=.*$"},
    title="Overrides",
    description="key=value over the pipeline file, one a line: training.epochs=1",
)
QUEUE = Param(None, type=["null", "string"], title="YARN queue", description="Empty: that of the pipeline file.")


@contextmanager
def dag(
    dag_id: str, doc: str, *, plan: Plan, params: Mapping[str, Any], pipeline: str | None = None, **settings
) -> Iterator[DAG]:
    """Make a DAG that obeys the rules of the house (docs/dags.md), of the tasks that are made in its context.

    Parameters
    ----------
    doc : str
        Markdown for the person who sees it at night; ``{name}`` stands for the pipeline. Each task shows those of its
        list's items that name the task in bold before their colon.
    plan : Plan
        Retries, deadline, whom to tell.
    params : mapping of str to Param
        Checked by their JSON schema before a run begins.
    pipeline : str, optional
        Name of the pipeline, for ``{{ run_name(dag_run) }}``.
    settings
        Of airflow.sdk.DAG.
    """
    late = {"what": LATE, "dag": dag_id, "mail": list(plan.mail), "webhook": plan.webhook}
    doc = doc.replace("{name}", pipeline or "")
    made = DAG(
        dag_id,
        doc_md=doc,
        start_date=BEGINNING,
        catchup=False,
        max_active_runs=1,
        params=dict(params),
        tags=["dkeras", *([pipeline] if pipeline else [])],
        user_defined_macros={"run_name": namer(pipeline)} if pipeline else {},
        render_template_as_native_obj=True,  # lists stay lists, None stays None
        owner_links={OWNER: f"mailto:{plan.mail[0]}"} if plan.mail and plan.mail[0] else {},
        on_failure_callback=alert("failed", dag_id, plan),
        deadline=DeadlineAlert(
            reference=DeadlineReference.DAGRUN_QUEUED_AT,
            # In seconds: of a run with a timedelta here Airflow 3.3.2 can clear no task (500, "unsupported type").
            interval=plan.deadline_hours * 3600,
            callback=AsyncCallback(Alert, kwargs=late),
        ),
        default_args={
            "owner": OWNER,
            "pool": plan.pool,
            "retries": plan.retries,
            "retry_delay": timedelta(seconds=20),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(minutes=10),
            "execution_timeout": timedelta(hours=1),
            "pre_execute": forms.refuse_unknown,
        },
        **settings,
    )
    with made:
        yield made
    for task in made.tasks:
        if task.is_mapped:
            task.partial_kwargs["doc_md"] = of_task(doc, task.label)
        else:
            task.doc_md = of_task(doc, task.label)


def alert(what: str, dag_id: str, plan: Plan) -> Alert:
    """Return what tells the people whom the plan names."""
    return Alert(what, dag_id, plan.mail, plan.webhook)


def job_of(scheduled: Scheduled, **settings: Any) -> partial[DkerasJobOperator]:
    """Return the operator of a pipeline's steps, its file, run, overrides, queue and time-out being given."""
    shared = {"run": "{{ run_name(dag_run) }}", "overrides": "{{ params.overrides }}"}
    return partial(DkerasJobOperator, **(_usual(scheduled) | shared | settings))


def jobs_of(scheduled: Scheduled, **settings: Any):
    """Return the same for a mapped task: run and overrides are what it is expanded over."""
    return DkerasJobOperator.partial(**_usual(scheduled), **settings)


def _usual(scheduled: Scheduled) -> dict[str, Any]:
    return {
        "pipeline": str(scheduled.file),
        "queue_name": "{{ params.queue }}",
        "execution_timeout": timedelta(hours=scheduled.plan.timeout_hours),
    }


def assets(scheduled: Scheduled) -> dict[str, Asset]:
    """Return what a pipeline reads and makes: ``raw`` rows, preprocessed ``data``, ``versions``, the ``alias``."""
    pipeline, layout = scheduled.pipeline, Layout(scheduled.pipeline.root)
    model, alias = pipeline.registry.model, scheduled.plan.alias
    raw = _address(pipeline.input_path)
    paths = {
        "data": (f"{pipeline.name}_data", f"{layout.root}/data/{pipeline.name}"),
        "versions": (f"{model}_versions", layout.versions(model)),
        "alias": (f"{model}_{alias}", layout.alias(model, alias)),
    }
    made = {key: Asset(name=name, uri=_address(path), group=GROUP) for key, (name, path) in paths.items()}
    # Airflow knows one asset of an address only, and several pipelines may read the same rows: so their name is the
    # address, and the watcher is the same in all DAGs. It works where a DAG is scheduled by it.
    return made | {"raw": watched(Asset(name=raw, uri=raw, group=GROUP), pipeline.input_path, scheduled.plan.flag)}


def by_data(plan: Plan) -> bool:
    """Return whether new data start a run, and no clock does."""
    return plan.schedule == BY_DATA


def schedule(scheduled: Scheduled, asset: Mapping[str, Asset]) -> str | list[Asset] | None:
    """Return what starts the runs of a pipeline: a cron expression, its raw data, or nothing."""
    return [asset["raw"]] if by_data(scheduled.plan) else scheduled.plan.schedule


def _address(path: str) -> str:
    return path if "://" in path else f"hdfs://{path}"
