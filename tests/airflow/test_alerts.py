"""Failed and late runs tell people: a webhook of the test hears it, from real Airflow."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

DAG = """
import time
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import Param, task
from airflow.sdk.exceptions import AirflowFailException
from dkeras_core.airflow import factory
from dkeras_core.airflow.pipelines import Plan
from dkeras_core.airflow.promotion import Approval

@task
def work(params):
    time.sleep(params["seconds"])
    if params["fail"]:
        raise AirflowFailException("the disk is full")

plan = Plan(retries=1, webhook="chat", mail=("nobody@example.org",), deadline_hours=20 / 3600)
params = {"seconds": Param(0, type="integer"), "fail": Param(False, type="boolean")}
with factory.dag("told", "doc", plan=plan, params=params, schedule=None):
    work()

with factory.dag("asks", "doc", plan=Plan(retries=1, webhook="chat"), params={}, schedule=None):
    told = factory.alert("waits for an approval", "asks", plan)
    Approval(task_id="approve", subject="Go on?", hours=1, notifiers=told) >> EmptyOperator(task_id="after")
"""


@pytest.fixture
def heard():
    """(address, what was posted there)."""
    posted = []

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self):
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
            posted.append((self.headers["Authorization"], text))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", posted
    server.shutdown()
    server.server_close()


@pytest.fixture
def told(airflow):
    """``told(address)``: Airflow's REST interface, the DAGs being there and the connection ``chat`` leading there."""
    rest = airflow.rest

    def point(address):
        body = {"connection_id": "chat", "conn_type": "http", "host": address, "password": "token"}
        rest._ask("POST", "/connections", json=body)
        (airflow.dags / "told.py").write_text(DAG)
        deadline = time.monotonic() + 60
        while not {"told", "asks"} <= rest.dags().keys():
            assert time.monotonic() < deadline and rest.import_errors() == []
            time.sleep(0.5)
        return rest

    yield point
    rest._ask("DELETE", "/connections/chat")


def hears(posted, words, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := [one for one in posted if words in one[1]]):
        assert time.monotonic() < deadline, posted
        time.sleep(0.3)
    return found


@pytest.mark.slow
@pytest.mark.cluster
def test_a_failed_and_a_late_run_are_told(told, heard):
    address, posted = heard
    rest = told(address)
    run = rest.trigger("told", {"fail": True})
    assert rest.wait("told", run, seconds=90) == "failed"
    # There is no mail server: that the mail cannot be sent must not keep the chat from hearing.
    [(token, text), *_] = hears(posted, "told failed")
    assert token == "Bearer token" and f"run {run}" in text and f"/dags/told/runs/{run}" in text

    over = len(posted)
    late = rest.trigger("told", {"seconds": 45})
    [(_, text), *_] = hears(posted, f"told is late, run {late}.")
    assert not [text for _, text in posted[over:] if f"is late, run {run}." in text], "it was over by its deadline"
    run = late
    assert f"/dags/told/runs/{run}" in text
    assert rest.wait("told", run, seconds=150) == "success"


@pytest.mark.slow
@pytest.mark.cluster
def test_who_is_waited_for_is_told(told, heard):
    address, posted = heard
    rest = told(address)
    run = rest.trigger("asks")
    rest.wait_for_task("asks", run, "approve", {"awaiting_input"}, seconds=90)
    hears(posted, f"asks waits for an approval, run {run}.")
    rest.answer("asks", run, "approve", ["Reject"], {"reason": "not now"})
    assert rest.wait("asks", run, seconds=90) == "success"
    assert rest.states("asks", run)["after"] == "skipped"


@pytest.mark.slow
@pytest.mark.cluster
def test_a_misspelt_param_is_refused_and_a_run_with_a_deadline_can_be_cleared(told, heard):
    rest = told(heard[0])
    runs = {"told": rest.trigger("told", {"second": 1}), "asks": rest.trigger("asks", {"second": 1})}
    assert {rest.wait(dag, run, seconds=90) for dag, run in runs.items()} == {"failed"}
    assert "no param is named second: did you mean seconds? there are seconds, fail" in rest.log(
        "told", runs["told"], "work"
    )
    rest.clear("asks", runs["asks"], ["approve"])  # Airflow 3.3.2 answers 500 where a deadline is a timedelta
    assert rest.wait("asks", runs["asks"], seconds=90, states={"queued", "running"})
