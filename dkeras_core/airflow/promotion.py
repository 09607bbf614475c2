"""Promotion and roll-back as tasks: what the approver is shown, the approval itself, and what is done then.

What was shown is what is acted upon: the entry of the audit that the alias held when the checks ran goes along to the
promotion, which is refused when somebody moved it meanwhile, away and back included. The outcome of the checks goes
along too, so that they are not made twice while nothing has changed (registry/verdict.py).
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Param
from airflow.sdk.exceptions import AirflowFailException

from dkeras_core.airflow.answer import GivenAnswer
from dkeras_core.airflow.command import dkeras
from dkeras_core.airflow.hdfs import storage_of
from dkeras_core.airflow.links import report_of
from dkeras_core.airflow.retraining import checks_shown, checks_table, comparison
from dkeras_core.registry import Registry
from dkeras_core.registry.promote import rollback_target
from dkeras_core.storage.paths import split_uri

if TYPE_CHECKING:
    from airflow.sdk import Context

GATE_FAILED = 10
_ELSE = "**Reject**, or no answer in time: nothing changes."
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
        reason = Param(None, type=["null", "string"], title="Reason", description="Kept in the registry's audit.")
        kwargs["params"] = {"reason": reason}  # instead of the DAG's, which the form would repeat
        kwargs.setdefault("retry_delay", timedelta(seconds=1))  # after a lost answer; nothing else fails
        super().__init__(defaults=self.REJECT, response_timeout=timedelta(hours=hours), **kwargs)
        self.asked = asked

    def execute(self, context: Context):
        if str(self.asked) != "True":
            self.log.info("the checks decide, nobody is asked")
            return {"chosen_options": [self.APPROVE], "params_input": {}, "responded_by_user": None}
        ti = context["ti"]
        if ti.try_number > ti.max_tries - self.retries + 1:  # not the first try of all, nor the first after a clear
            self.defer(trigger=GivenAnswer(str(ti.id)), method_name=self.ask_unless_answered.__name__)
        return super().execute(context)

    def ask_unless_answered(self, context: Context, event: dict[str, Any]):
        """Go on with the answer that an earlier try was given.

        Airflow 3.3 takes a task for lost that is answered before its scheduler has seen it wait, and tries it again;
        asked anew, the person's answer would be gone.
        """
        if event["given"]:
            self.log.info("the answer that an earlier try was given holds")
            return self.execute_complete(context, event["given"])
        return super().execute(context)


def candidate(root: str, model: str, number: int, alias: str, *, note: str = "") -> dict[str, Any]:
    """Run the checks of a promotion without promoting; return what is shown and what is acted upon.

    {"root", "model", "version", "alias", "was": what the alias names now or None, "expect": what the promotion expects
    to find, "verdict": the outcome of the checks, "passed", "text": Markdown}
    """
    _, found = dkeras(
        "models", "promote", f"{model}@{number}", alias, "--dry-run", "--json", "--root", root, accept=(GATE_FAILED,)
    )
    registry = Registry(storage_of(root), root)
    was = found["was"]
    log.info("%s", checks_table(found["checks"]))
    version = registry.version(model, number)
    path, manifest = version.path, version.manifest()
    scheme, authority, _ = split_uri(root)
    address = report_of(f"{scheme}://{authority}{path}" if scheme else path)
    report = f"[Report]({address}) of " if address else ""
    change = f"goes from {was} to" if was else "is made, and names"
    parts = [
        f"**Approve**: `{model}@{alias}` {change} **{number}**. {_ELSE}",
        "" if found["passed"] else "**Checks failed: approved or not, it is promoted only with *Force*.**",
        comparison(registry, model, number, was if was != number else None),
        checks_shown(found["checks"]),
        f"{report}`{path}`, published {manifest.created:%Y-%m-%d %H:%M} UTC by {manifest.user}. {note}".strip(),
    ]
    text = "\n\n".join(filter(None, parts))
    kept = {key: found[key] for key in ("model", "version", "alias", "was", "expect", "verdict", "passed")}
    return {"root": root, **kept, "text": text}


def promote(shown: Mapping[str, Any], reason: str, force: str | None = None) -> dict[str, Any]:
    """Promote what :func:`candidate` has shown; a second try finds it done.

    Raises
    ------
    AirflowFailException
        A check failed, or somebody else moved the alias; nothing was changed then.
    """
    model, alias, number = shown["model"], shown["alias"], shown["version"]
    with tempfile.NamedTemporaryFile("w", prefix="dkeras-verdict-", suffix=".json") as file:
        json.dump({"verdict": shown["verdict"]}, file)
        file.flush()
        arguments = ["models", "promote", f"{model}@{number}", alias, "--expect", shown["expect"]]
        arguments += ["--verdict", file.name, "--reason", reason, "--yes", "--json", "--root", shown["root"]]
        code, found = dkeras(*arguments, *(["--force", force] if force else []), accept=(GATE_FAILED,))
    log.info("%s", checks_table(found["checks"]))
    if code == GATE_FAILED:
        failed = "; ".join(f"{one['name']}: {one['message']}" for one in found["checks"] if not one["passed"])
        raise AirflowFailException(f"{model}@{number} was not promoted, checks failed: {failed}")
    return _moved(found, shown)


def way_back(root: str, model: str, alias: str, to: int | None) -> dict[str, Any]:
    """Return what a roll-back would do, as :func:`candidate` does."""
    registry = Registry(storage_of(root), root)
    there = registry.pointer(model, alias)
    number = rollback_target(registry, model, alias, to).version
    text = "\n\n".join(
        [
            f"**Approve**: `{model}@{alias}` goes back from {there.number} to **{number}**. {_ELSE}",
            comparison(registry, model, number, there.number),
            "One check is made when it is done, so that it is fast: every file is as it was published.",
        ]
    )
    log.info("%s", text)
    acted = {"root": root, "model": model, "version": number, "alias": alias, "was": there.number}
    return {**acted, "expect": there.entry, "text": text}


def rollback(shown: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Roll back to what :func:`way_back` has shown; a second try finds it done."""
    model, alias, number = shown["model"], shown["alias"], shown["version"]
    _, found = dkeras(
        "models", "rollback", f"{model}@{alias}", "--to", str(number), "--expect", shown["expect"],
        "--reason", reason, "--yes", "--json", "--root", shown["root"],
    )  # fmt: skip
    return _moved(found, shown)


def _moved(found: Mapping[str, Any], shown: Mapping[str, Any]) -> dict[str, Any]:
    # A try that finds it done already reads as the one that has done it.
    return {name: found[name] for name in ("model", "alias", "version")} | {"was": shown["was"]}


def why(answer: Mapping[str, Any], context: Mapping[str, Any], given: str | None = None) -> str:
    """Return what the audit keeps: the reasons that were given, who approved, and which run of which DAG."""
    user = answer.get("responded_by_user")
    name = (user.get("name") if isinstance(user, Mapping) else getattr(user, "name", None)) if user else None
    said = [given, (answer.get("params_input") or {}).get("reason"), f"approved by {name}" if name else "by its checks"]
    run = context["dag_run"]
    return "; ".join([one.strip() for one in said if one and one.strip()] + [f"Airflow: {run.dag_id} {run.run_id}"])
