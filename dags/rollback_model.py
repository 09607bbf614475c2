"""Lets an alias name the version again that it named before: for when production misbehaves.

Trigger it with the form. **look** shows where it would go back to; **approve** waits under Required Actions;
**rollback** moves the alias and checks only that every file of the version is as it was published.

- *To version* empty: the one before. Twice in a row goes two promotions back.
- **rollback** is red: the version is damaged (choose another one), or somebody else moved the alias meanwhile.
- Without Airflow: `dkeras models rollback MODEL@ALIAS`.
"""

from pathlib import Path

from airflow.sdk import Param, task

from dkeras_core.airflow import factory, pipelines, promotion
from dkeras_core.airflow.pipelines import Plan

NAME = "^[a-z0-9][a-z0-9_.-]{0,63}$"
roots = {one.pipeline.registry.model: one.pipeline.root for one in pipelines.find(Path(__file__).parent)[0]}
params = {
    "model": Param(next(iter(roots), "model"), type="string", pattern=NAME, examples=[*roots], title="Model"),
    "alias": Param("production", type="string", pattern=NAME, title="Alias"),
    "to": Param(None, type=["null", "integer"], minimum=1, title="To version", description="Empty: the one before."),
    "reason": Param("", type="string", title="Why", description="Kept in the audit."),
}


@task
def look(params):
    return promotion.way_back(roots.get(params["model"], "/dkeras"), params["model"], params["alias"], params["to"])


@task
def rollback(shown, answer, params, **context):
    root = roots.get(params["model"], "/dkeras")
    return promotion.rollback(root, shown, promotion.why(answer, context, params["reason"]))


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
