"""Lets an alias name the version again that it named before: for when production misbehaves.

Trigger it with the form. **look** shows where it would go back to; **approve** waits under Required Actions;
**rollback** moves the alias and checks only that every file of the version is as it was published.

*To version* empty: the one before. Twice in a row goes two promotions back.

- **look** is red: there is no such alias, or nothing that it named before; the log says which.
- **approve** waits (yellow): a person is awaited, under *Required Actions*. No answer in time counts as no.
- **rollback** is red: the version is damaged (choose another one), or somebody else moved the alias meanwhile. Nothing
  was changed; start a new run.

Without Airflow: `dkeras models rollback MODEL@ALIAS`.
"""

from pathlib import Path

from airflow.sdk import Param, task

from dkeras_core.airflow import factory, pipelines, promotion, registries
from dkeras_core.airflow.pipelines import Plan

NAME = "^[a-z0-9][a-z0-9_.-]{0,63}$"
models = list({one.pipeline.registry.model: None for one in pipelines.find(Path(__file__).parent)[0]})
roots = pipelines.roots(Path(__file__).parent)
params = {
    "model": Param(next(iter(models), "model"), type="string", pattern=NAME, examples=models, title="Model"),
    "alias": Param("production", type="string", pattern=NAME, title="Alias"),
    "to": Param(None, type=["null", "integer"], minimum=1, title="To version", description="Empty: the one before."),
    "reason": Param(None, type=["null", "string"], title="Why", description="Kept in the audit."),
    "root": registries.field(roots),
}


@task
def look(params):
    root = registries.holding(roots, params["model"], params["root"])
    return promotion.way_back(root, params["model"], params["alias"], params["to"])


@task
def rollback(shown, answer, params, **context):
    return promotion.rollback(shown, promotion.why(answer, context, params["reason"]))


with factory.dag(
    "rollback_model", __doc__, plan=Plan(), params=params, schedule=None, description="Move an alias back"
):
    shown = look()
    approve = promotion.Approval(
        task_id="approve",
        subject="Roll {{ params.model }}@{{ params.alias }} back?",
        body="{{ ti.xcom_pull('look')['text'] }}",
        hours=Plan().approval_hours,
    )
    shown >> approve >> rollback(shown, approve.output)
