"""Lets an alias name another version, once its checks have passed and a person has approved it.

Trigger it with the form. **look** makes the checks and shows them beside the figures of the version that would be
replaced; **approve** waits under Required Actions; **promote** makes the checks again and moves the alias.

- **look** or **promote** is red: a check failed, or there is no such version; the log says which. Nothing was changed.
  To promote all the same fill in *Force*: the audit keeps the reason.
- "somebody else moved it": the alias is not what it was when the approver saw it. Look, then trigger again.
- To go back: `rollback_model`.
"""

from pathlib import Path

from airflow.sdk import Param, task

from dkeras_core.airflow import factory, pipelines, promotion
from dkeras_core.airflow.pipelines import Plan

NAME = "^[a-z0-9][a-z0-9_.-]{0,63}$"
roots = {one.pipeline.registry.model: one.pipeline.root for one in pipelines.find(Path(__file__).parent)[0]}
params = {
    "model": Param(next(iter(roots), "model"), type="string", pattern=NAME, examples=[*roots], title="Model"),
    "version": Param(1, type="integer", minimum=1, title="Version"),
    "alias": Param("production", type="string", pattern=NAME, title="Alias"),
    "reason": Param("", type="string", title="Why", description="Kept in the audit."),
    "force": Param(None, type=["null", "string"], title="Force", description="Why, although a check fails."),
}


@task
def look(params):
    root = roots.get(params["model"], "/dkeras")
    return promotion.candidate(root, params["model"], params["version"], params["alias"])


@task
def promote(shown, answer, params, **context):
    root = roots.get(params["model"], "/dkeras")
    reason = promotion.why(answer, context, params["reason"])
    return promotion.promote(root, shown, reason, params["force"])


with factory.dag("promote_model", __doc__, plan=Plan(), params=params, schedule=None, description="Move an alias on"):
    shown = look()
    approve = promotion.Approval(
        task_id="approve",
        subject="Promote {{ params.model }}@{{ params.version }} to {{ params.alias }}?",
        body="{{ ti.xcom_pull('look')['text'] }}",
        hours=Plan().approval_hours,
    )
    shown >> approve >> promote(shown, approve.output)
