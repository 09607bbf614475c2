"""Promotion and roll-back as tasks: what the approver is shown, the approval itself, and what is done then.

What was shown is what is acted upon: the version that the alias named when the checks ran goes along to the promotion,
which is refused when somebody moved it meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from dkeras_core.airflow.command import dkeras
from dkeras_core.airflow.hdfs import storage_of
from dkeras_core.airflow.retraining import checks_table, comparison
from dkeras_core.registry import Registry
from dkeras_core.registry.promote import rollback_target

if TYPE_CHECKING:
    from airflow.sdk import Context

GATE_FAILED = 10
log = logging.getLogger(__name__)


class Approval(ApprovalOperator):
    """Ask a person, or nobody: the task parks without a worker slot, under "Required Actions" and over REST.

    Parameters
    ----------
    asked : str or bool
        Whether a person is asked; templated. Otherwise the task approves at once.
    hours : float
        No answer by then counts as a rejection, so that the next run is not held up.
    """

    template_fields = (*ApprovalOperator.template_fields, "asked")

    def __init__(self, *, asked: str | bool = True, hours: float, **kwargs):
        reason = Param("", type="string", title="Reason", description="Kept in the registry's audit.")
        kwargs["params"] = {"reason": reason}  # instead of the DAG's, which the form would repeat
        super().__init__(defaults=self.REJECT, response_timeout=timedelta(hours=hours), **kwargs)
        self.asked = asked

    def execute(self, context: Context):
        if str(self.asked) != "True":
            self.log.info("the checks decide, nobody is asked")
            return {"chosen_options": [self.APPROVE], "params_input": {}, "responded_by_user": None}
        return super().execute(context)


def candidate(root: str, model: str, number: int, alias: str, *, note: str = "") -> dict[str, Any]:
    """Run the checks of a promotion without promoting; return what is shown and what is acted upon.

    {"model", "version", "alias", "expect": what the alias names now or None, "passed", "text": Markdown}
    """
    _, found = dkeras(
        "models", "promote", f"{model}@{number}", alias, "--dry-run", "--json", "--root", root, accept=(GATE_FAILED,)
    )
    registry = Registry(storage_of(root), root)
    was = found["was"]
    said = "All checks passed." if found["passed"] else "**Checks failed: it will not be promoted unless forced.**"
    parts = [
        f"`{model}@{alias}` is {was or 'not there'}; approved, it becomes **{number}**. {said}",
        comparison(registry, model, number, was if was != number else None),
        checks_table(found["checks"]),
        f"Version: `{registry.version(model, number).path}` with `report.html`. {note}".strip(),
    ]
    text = "\n\n".join(parts)
    log.info("%s", text)
    return {
        "model": model, "version": number, "alias": alias, "expect": was, "passed": found["passed"], "text": text,
    }  # fmt: skip


def promote(root: str, shown: Mapping[str, Any], reason: str, force: str | None = None) -> dict[str, Any]:
    """Promote what :func:`candidate` has shown; {"model", "alias", "version", "was"}.

    Promoting what stands there already is a success, so that a second try is one.

    Raises
    ------
    AirflowFailException
        A check failed, or somebody else moved the alias; nothing was changed then.
    """
    model, alias, number = shown["model"], shown["alias"], shown["version"]
    arguments = ["models", "promote", f"{model}@{number}", alias, "--expect", str(shown["expect"] or "none")]
    arguments += ["--reason", reason, "--yes", "--json", "--root", root, *(["--force", force] if force else [])]
    code, found = dkeras(*arguments, accept=(GATE_FAILED,))
    log.info("%s", checks_table(found["checks"]))
    if code == GATE_FAILED:
        failed = "; ".join(f"{one['name']}: {one['message']}" for one in found["checks"] if not one["passed"])
        raise AirflowFailException(f"{model}@{number} was not promoted, checks failed: {failed}")
    return _moved(found, shown)


def way_back(root: str, model: str, alias: str, to: int | None) -> dict[str, Any]:
    """Return what a roll-back would do, as :func:`candidate` does."""
    registry = Registry(storage_of(root), root)
    there = registry.alias(model, alias)
    number = rollback_target(registry, model, alias, to).version
    text = "\n\n".join(
        [
            f"`{model}@{alias}` is {there}; approved, it becomes **{number}** again, which it named before.",
            comparison(registry, model, number, there),
            "Only one check is made, so that it is fast: every file is as it was published.",
        ]
    )
    log.info("%s", text)
    return {"model": model, "version": number, "alias": alias, "expect": there, "text": text}


def rollback(root: str, shown: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Roll back to what :func:`way_back` has shown; a second try finds it done."""
    model, alias, number = shown["model"], shown["alias"], shown["version"]
    _, found = dkeras(
        "models", "rollback", f"{model}@{alias}", "--to", str(number), "--expect", str(shown["expect"]),
        "--reason", reason, "--yes", "--json", "--root", root,
    )  # fmt: skip
    return _moved(found, shown)


def _moved(found: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    # A try that finds it done already reads as the one that has done it.
    return {name: found[name] for name in ("model", "alias", "version")} | {"was": shown["expect"]}


def why(answer: Mapping[str, Any], context: Mapping[str, Any], given: str = "") -> str:
    """Return what the audit keeps: the reasons that were given, who approved, and which run of which DAG."""
    user = answer.get("responded_by_user")
    name = (user.get("name") if isinstance(user, Mapping) else getattr(user, "name", None)) if user else None
    said = [given, (answer.get("params_input") or {}).get("reason"), f"approved by {name}" if name else "by its checks"]
    run = context["dag_run"]
    return "; ".join([one.strip() for one in said if one and one.strip()] + [f"Airflow: {run.dag_id} {run.run_id}"])
