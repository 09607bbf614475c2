"""Runs in Airflow's Python: one execution of an approval for each argument, JSON in and a line of JSON out.

What Airflow's database would hold of the question is given, and what would be written to it is told.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime
from types import SimpleNamespace


def played(asked):
    from airflow.sdk import DAG
    from airflow.sdk.api.datamodels._generated import HITLDetailResponse, HITLUser
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType, TaskAwaitingInput, TaskDeferred
    from airflow.sdk.execution_time.comms import ErrorResponse

    from dkeras_core.airflow import answer, promotion

    def there(ti_id):
        found = asked.get("there")
        if found == "gone":
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.GENERIC_ERROR, detail={"status": 404}))
        given = found and {
            "chosen_options": found,
            "params_input": {"reason": "why"},
            "responded_at": datetime.now(UTC),
        }
        user = HITLUser(id="1", name="ada") if found else None
        empty = {"chosen_options": None, "responded_at": None}
        return HITLDetailResponse(response_received=bool(found), responded_by_user=user, **(given or empty))

    questions = []
    answer.get_hitl_detail_content_detail, answer._PAUSE = there, 0
    sys.modules["airflow.providers.standard.operators.hitl"].upsert_hitl_detail = lambda **new: questions.append(new)
    with DAG("ask", schedule=None):
        task = promotion.Approval(
            task_id="approve", subject="Go on?", hours=1, retries=2, asked=asked.get("asked", True)
        )
    ti = SimpleNamespace(id="1", try_number=asked["try"], max_tries=asked["max"])
    looked = False
    try:
        try:
            found = task.execute({"ti": ti, "task_instance": ti})
        except TaskDeferred as waits:
            looked = True
            found = getattr(task, waits.method_name)({"ti": ti, "task_instance": ti}, asyncio.run(fired(waits.trigger)))
        ended = {"chosen": found["chosen_options"], "by": found["responded_by_user"]}
    except TaskAwaitingInput:
        ended = {"parked": True}
    return ended | {"questions": len(questions), "looked": looked}


async def fired(trigger):
    name, settings = trigger.serialize()
    assert name == "dkeras_core.airflow.answer.GivenAnswer"
    return (await anext(type(trigger)(**settings).run())).payload


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(json.dumps(played(json.loads(argument)), default=str))
