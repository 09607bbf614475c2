"""The operator and its trigger against a ResourceManager that plays what a real one cannot be made to show."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from played import TAG, Played, Stage

from dkeras_core.airflow.tags import run_id, task_tag

pytestmark = pytest.mark.slow  # Airflow takes seconds to import


@pytest.fixture
def rm():
    played = Played()
    yield played
    played.close()


@pytest.fixture(scope="module")
def player(airflow_python, tmp_path_factory):
    """One process for all calls: Airflow takes seconds to import."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/none.db"}
    with subprocess.Popen(
        [airflow_python, Path(__file__).with_name("play_job.py")],
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture
def stage(tmp_path, player, rm):
    return Stage(tmp_path, player, rm)


def test_the_first_try_submits_and_stores_the_id_before_it_waits(stage, rm):
    other = rm.has(1, tag="somebody-else")
    answer = stage.execute(timeout=100)
    assert answer["deferred"]["application"] == "application_7_0009" == answer["pushed"]["application"]
    assert answer["pushed"]["links"]["YARN"].endswith("/cluster/app/application_7_0009")
    assert answer["pushed"]["_link_YarnLink"] == answer["pushed"]["links"]["YARN"]
    assert 90 < answer["deferred"]["deadline"] - time.time() <= 100 < answer["timeout"]
    (call,) = stage.calls
    assert f"--run the-run --tag {TAG} --detach --json --step train" in call
    assert rm.killed == [] and rm.apps[other]["state"] == "RUNNING"
    owner = json.loads((stage.run / f"tasks/{TAG}.json").read_text())
    assert owner.pop("airflow")
    assert owner == {"dag": "retrain", "run": "manual", "task": "train", "index": -1}


def test_the_first_try_after_a_clear_ends_what_lives_and_forgets_what_was_done(stage, rm):
    old = rm.has(1)
    stage.result(old)
    answer = stage.execute(**{"try": 3}, max_tries=4)
    assert rm.killed == [old] and answer["deferred"]["application"] == "application_7_0009"
    assert not (stage.run / "result.json").exists()


def test_a_later_try_takes_over_the_elder_of_two_and_ends_the_other(stage, rm):
    late, first = rm.has(1, started=2000), rm.has(2, started=1000)
    answer = stage.execute(**{"try": 2})
    assert answer["deferred"]["application"] == first and answer["deferred"]["adopted"] is True
    assert rm.killed == [late] and stage.calls == []


def test_a_later_try_takes_over_a_result(stage, rm):
    stage.result("application_7_0001", published="/m/1", version=1)
    answer = stage.execute(**{"try": 2})
    assert answer["returned"]["application"] == "application_7_0001" and answer["returned"]["version"] == 1
    assert stage.calls == []


@pytest.mark.parametrize("other", [{"tag": "another"}, {"status": "failed"}])
def test_the_result_of_another_task_and_a_failed_one_are_not_taken_over(stage, other):
    stage.result("application_7_0001", **other)
    assert "deferred" in stage.execute(**{"try": 2}) and len(stage.calls) == 1


@pytest.mark.parametrize("again", [False, "True"])
def test_a_published_run_is_done_for_good_unless_asked(stage, again):
    (stage.run / "publish.json").write_text(json.dumps({"path": "/m/versions/3", "version": 3}))
    answer = stage.execute(again=again)
    assert ("deferred" in answer) is bool(again)
    assert again or answer["returned"]["version"] == 3


@pytest.mark.parametrize("state", ["failed", "success", "restarting", None])
def test_what_was_acted_on_during_the_submission_is_not_waited_for(stage, rm, state):
    there = rm.has(1)
    answer = stage.execute(**{"try": 2}, state=state)
    assert rm.killed == [there] and "not running" in answer["raised"][1]


def test_a_list_of_resource_managers_is_gone_through(stage, rm):
    standby = Played()
    standby.standby_of = f"http://{rm.address}"
    try:
        stage.cluster("127.0.0.1:1", standby.address, rm.address)
        there = rm.has(1)
        assert stage.execute(**{"try": 2})["deferred"]["application"] == there
    finally:
        standby.close()


@pytest.mark.parametrize(("code", "kind"), [(2, "AirflowFailException"), (5, "AirflowException")])
def test_a_refused_submission_says_why_and_only_a_hopeless_one_is_final(stage, code, kind):
    stage.answers(code=code, says="error queue q does not exist\\n next choose another\\n")
    raised = stage.execute()["raised"]
    assert raised[0] == kind and "queue q does not exist" in raised[1] and "choose another" in raised[1]


def test_silence_of_the_resource_manager_submits_nothing(stage):
    stage.cluster("127.0.0.1:1")
    assert "no ResourceManager answers" in stage.execute(**{"try": 2})["raised"][1]
    assert stage.calls == []


def test_a_purged_application_is_judged_by_its_result(stage):
    stage.result("application_7_0001", metrics={"auc": 0.9})
    assert stage.complete("application_7_0001")["returned"]["metrics"] == {"auc": 0.9}


def test_a_purged_application_without_a_result_has_failed(stage):
    raised = stage.complete("application_7_0001")["raised"]
    assert raised[0] == "AirflowException" and "does not know application_7_0001" in raised[1]


def test_a_final_status_without_a_result_is_no_success(stage, rm):
    raised = stage.complete(rm.has(1, "FINISHED"))["raised"]
    assert raised[0] == "AirflowException" and "without a result" in raised[1]


def test_a_recorded_error_is_the_cause(stage, rm):
    error = {"type": "DataError", "what": "column x is missing", "next": "correct it", "exit_code": 3}
    stage.result(rm.has(1, "FAILED"), status="failed", error=error)
    raised = stage.complete("application_7_0001")["raised"]
    assert raised == ["AirflowFailException", "DataError: column x is missing\n  next: correct it"]


def test_one_that_yielded_hands_over_to_the_one_that_works(stage, rm):
    elder, mine = rm.has(2, started=900), rm.has(1, "FAILED", started=1000)
    assert stage.complete(mine)["deferred"]["application"] == elder


def test_one_that_an_earlier_try_ended_is_submitted_anew(stage, rm):
    gone = rm.has(1, "KILLED")
    assert stage.complete(gone, adopted=True)["deferred"]["application"] == "application_7_0009"
    assert "was killed" in stage.complete(gone, adopted=False)["raised"][1]
    assert len(stage.calls) == 1


@pytest.mark.parametrize(("number", "killed"), [(2, False), (3, True)])
def test_after_the_last_try_nothing_lives(stage, rm, number, killed):
    there = rm.has(1)
    assert "raised" in stage.complete(there, end="silent", **{"try": number})
    assert rm.killed == ([there] if killed else [])


def test_a_time_out_ends_the_application_though_the_trigger_could_not(stage, rm):
    there = rm.has(1)
    assert stage.complete(there, end="timeout", timeout=5)["raised"][0] == "AirflowTaskTimeout"
    assert rm.killed == [there]


@pytest.mark.parametrize(
    ("error", "number", "killed"),
    [("Trigger timeout", 1, True), ("Trigger failure", 1, False), ("Trigger failure", 3, True)],
)
def test_without_a_trigger(stage, rm, error, number, killed):
    there = rm.has(1)
    assert stage.play("operator", "resume", error=error, **{"try": number})["raised"][0].startswith("TaskDeferral")
    assert rm.killed == ([there] if killed else [])


def test_a_kill_that_is_refused_is_said_in_time(stage, rm):
    there = rm.has(1)
    rm.refuses_kill = True
    stage.play("operator", "kill")
    assert f"may not kill {there}" in stage.said and "may still run" in stage.said


def test_the_trigger_goes_on_when_the_resource_manager_comes_back(stage, rm):
    there = rm.has(1)
    rm.silent_until, rm.ends_after = time.monotonic() + 6, 3
    assert stage.follow(there)["event"] == {"application": there, "end": "ended", "message": ""}
    assert rm.killed == [] and "is FINISHED" in stage.said


def test_the_trigger_holds_its_event_back_until_the_scheduler_has_read_that_the_process_exited(stage, rm):
    there = rm.has(1)
    rm.ends_after = 1
    before = time.monotonic()
    assert stage.follow(there, settled=2.5)["event"]["end"] == "ended"
    assert time.monotonic() >= before + 2.5


def test_the_trigger_ends_what_takes_too_long(stage, rm):
    there = rm.has(1)
    event = stage.follow(there, deadline=time.time() + 1)["event"]
    assert (event["end"], event["message"]) == ("timeout", f"{there} is KILLED")
    assert rm.killed[0] == there


def test_a_pause_ends_the_application_and_the_try_submits_anew_with_its_whole_time(stage, rm):
    there = rm.has(1)
    event = stage.follow(there, paused=[False, False, True])["event"]
    assert (event["end"], event["message"]) == ("paused", f"{there} is KILLED") and rm.killed == [there]
    before = time.time()
    answer = stage.complete(there, end="paused", timeout=100, since=before - 1000)
    assert answer["deferred"]["application"] == "application_7_0009" and len(stage.calls) == 1
    assert answer["deferred"]["since"] >= before and answer["deferred"]["deadline"] >= before + 100


def test_a_pause_is_remembered_though_the_dag_goes_on_before_the_application_has_ended(stage, rm):
    there = rm.has(1)
    rm.refuses_kill, rm.ends_after = True, 3
    event = stage.follow(there, paused=[True, False], kill_deadline=3)["event"]
    assert event["end"] == "paused" and "may still run" in event["message"]


def test_a_pause_leaves_the_application_where_the_task_says_so(stage, rm):
    there = rm.has(1)
    rm.ends_after = 3
    assert stage.follow(there, paused=[True], on_pause="leave")["event"]["end"] == "ended" and rm.killed == []
    deferred = stage.execute(**{"try": 2}, on_pause="leave", paused=True)["deferred"]
    assert deferred["on_pause"] == "leave"
    assert stage.execute(on_pause="Kill")["raised"][0] == "ConfigError"


def test_what_is_done_when_the_dag_is_paused_stays_done(stage, rm):
    there = rm.has(1, "FINISHED")
    stage.result(there)
    assert stage.complete(there, end="paused")["returned"]["application"] == there and stage.calls == []
    (stage.run / "result.json").unlink()  # killed between the version and the result
    (stage.run / "publish.json").write_text(json.dumps({"path": "/m/versions/3", "version": 3}))
    assert stage.complete(rm.has(2, "KILLED"), end="paused")["returned"]["version"] == 3 and stage.calls == []


def test_a_pause_during_the_submission_takes_it_back_and_costs_no_try(stage, rm):
    there = rm.has(1)
    assert stage.execute(paused=True)["raised"][0] == "AirflowRescheduleException"
    assert rm.killed == [there]


@pytest.mark.parametrize(("state", "killed"), [("failed", True), (None, True), ("running", True), ("deferred", False)])
def test_the_trigger_ends_the_application_only_of_a_task_that_was_acted_on(stage, rm, state, killed):
    there = rm.has(1)
    stage.follow(there, call="kill", state=state)
    assert rm.killed == ([there] if killed else [])


def test_names_follow_from_the_task_alone():
    from datetime import UTC, datetime

    when = datetime(2026, 11, 23, 2, 0, 1, tzinfo=UTC)
    assert run_id("higgs", "retrain", "manual", when).startswith("higgs-20261123t020001-")
    assert len(run_id("h" * 64, "retrain", "manual", when)) == 64
    assert run_id("higgs", "a", "bc", when) != run_id("higgs", "ab", "c", when)
    tags = {task_tag("d", "r", "t"), task_tag("d", "r", "t", 0), task_tag("d", "r", "t", 1), task_tag("d", "rt", "")}
    assert len(tags) == 4 and all(len(tag) == 36 and tag == tag.lower() for tag in tags)
