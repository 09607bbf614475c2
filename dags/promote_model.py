"""Lets an alias name another version, once its checks have passed and a person has approved it.

Trigger it with the form. **look** makes the checks and shows them beside the figures of the version that would be
replaced; **approve** waits under Required Actions; **promote** moves the alias, and makes the checks again when they
are more than an hour old or anything has changed.

- **look**, **promote** are red: a check failed, or there is no such version; the log says which. Nothing was changed.
  To promote all the same start a run with *Force* filled in: the audit keeps the reason.
- **promote** is red, "somebody else moved it": the alias is not what it was when the approver saw it. Start a new run.
- **approve** waits (yellow): a person is awaited, under *Required Actions*. No answer in time counts as no.

To go back: `rollback_model`.
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
    "version": Param(1, type="integer", minimum=1, title="Version", description="See: dkeras models show."),
    "alias": Param("production", type="string", pattern=NAME, title="Alias"),
    "reason": Param(None, type=["null", "string"], title="Why", description="Kept in the audit."),
    "force": Param(None, type=["null", "string"], title="Force", description="Promote although a check fails: why."),
    "root": registries.field(roots),
}


@task
def look(params):
    root = registries.holding(roots, params["model"], params["root"])
    return promotion.candidate(root, params["model"], params["version"], params["alias"])


@task
def promote(shown, answer, params, **context):
    return promotion.promote(shown, promotion.why(answer, context, params["reason"]), params["force"])


with factory.dag("promote_model", __doc__, plan=Plan(), params=params, schedule=None, description="Move an alias on"):
    shown = look()
    approve = promotion.Approval(
        task_id="approve",
        subject="Promote {{ params.model }}@{{ params.version }} to {{ params.alias }}?",
        body="{{ ti.xcom_pull('look')['text'] }}",
        hours=Plan().approval_hours,
    )
    shown >> approve >> promote(shown, approve.output)
