"""The REST client against a scripted ResourceManager: fail-over, standby answers, ignored kills, three schedulers."""

import socket
import time

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.yarn import resource_manager
from dkeras_core.yarn.resource_manager import ResourceManager

APP = {"id": "application_1_0001", "state": "RUNNING", "finalStatus": "UNDEFINED", "name": "n", "user": "u"}
INFO = "GET /ws/v1/cluster/info"
ONE = "GET /ws/v1/cluster/apps/application_1_0001"
KILL = "PUT /ws/v1/cluster/apps/application_1_0001/state"
ACTIVE = {
    "clusterInfo": {"state": "STARTED", "haState": "ACTIVE", "resourceManagerVersion": "3.5.0", "startedOn": 1000}
}


def refused_url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_dead_address_and_a_failing_one_are_passed_over_and_the_active_one_is_remembered(scripted_rm):
    with (
        scripted_rm({INFO: [(500, {}, "broken")]}) as broken,
        scripted_rm({INFO: [(200, {}, ACTIVE)]}) as active,
    ):
        rm = ResourceManager([refused_url(), broken.url, active.url])
        assert rm.info().version == "3.5.0"
        assert rm.info().started == 1.0
        assert len(broken.requests) == 1
        assert len(active.requests) == 2


@pytest.mark.parametrize("header", ["Location", "Refresh"])
def test_a_standby_points_to_the_active_one(header, scripted_rm):
    with scripted_rm({INFO: [(200, {}, ACTIVE)]}) as active:
        target = f"{active.url}/ws/v1/cluster/info"
        answer = (
            (307, {"Location": target}, "") if header == "Location" else (200, {"Refresh": f"3; url={target}"}, "x")
        )
        with scripted_rm({INFO: [answer]}) as standby:
            assert ResourceManager([standby.url]).info().ha_state == "ACTIVE"


def test_two_standbys_pointing_at_each_other_end_in_one_error(scripted_rm):
    with scripted_rm({}) as one, scripted_rm({}) as two:
        one.answers[INFO] = [(307, {"Location": f"{two.url}/x"}, "")]
        two.answers[INFO] = [(307, {"Location": f"{one.url}/x"}, "")]
        with pytest.raises(ClusterError, match="standby") as caught:
            ResourceManager([one.url, two.url]).info()
        assert one.url in str(caught.value) and two.url in str(caught.value)


def test_nobody_there_is_said_at_once_with_address_and_cause():
    url = refused_url()
    start = time.monotonic()
    with pytest.raises(ClusterError, match="connection refused") as caught:
        ResourceManager([url]).info()
    assert url in caught.value.what and "cluster up" in caught.value.next_step
    assert time.monotonic() - start < 2


def test_a_silent_address_costs_one_timeout():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError, match="no answer in time"):
            ResourceManager([url], timeout=0.2).info()


def test_something_that_is_not_a_resource_manager(scripted_rm):
    with (
        scripted_rm({INFO: [(200, {}, "<html>hello</html>")]}) as other,
        pytest.raises(ClusterError, match="not a ResourceManager"),
    ):
        ResourceManager([other.url]).info()


def test_an_environment_proxy_is_not_used(monkeypatch, scripted_rm):
    monkeypatch.setenv("HTTP_PROXY", refused_url())
    monkeypatch.setenv("http_proxy", refused_url())
    with scripted_rm({INFO: [(200, {}, ACTIVE)]}) as active:
        assert ResourceManager([active.url]).info().state == "STARTED"


def test_the_user_is_named(monkeypatch, scripted_rm):
    monkeypatch.setenv("HADOOP_USER_NAME", "alice")
    with scripted_rm({INFO: [(200, {}, ACTIVE)]}) as active:
        ResourceManager([active.url]).info()
        assert "user.name=alice" in active.requests[0][1]


def test_a_kill_is_repeated_until_the_application_is_killed(monkeypatch, scripted_rm):
    monkeypatch.setattr(resource_manager.time, "sleep", lambda _: None)
    running = (200, {}, {"app": APP})
    killed = (200, {}, {"app": {**APP, "state": "KILLED", "finalStatus": "KILLED"}})
    with scripted_rm({KILL: [(202, {}, {"state": "RUNNING"})], ONE: [running] * 15 + [killed]}) as rm:
        assert ResourceManager([rm.url]).kill("application_1_0001").state == "KILLED"
        kills = [body for key, _, body in rm.requests if key == KILL]
        assert len(kills) == 2 and b"KILLED" in kills[0]


def test_a_kill_that_is_ignored_is_an_error(scripted_rm):
    with (
        scripted_rm({KILL: [(202, {}, {})], ONE: [(200, {}, {"app": APP})]}) as rm,
        pytest.raises(ClusterError, match=r"still RUNNING .* after it was told to end"),
    ):
        ResourceManager([rm.url]).kill("application_1_0001", timeout=0.3)


def test_a_kill_that_is_refused_or_unknown(scripted_rm):
    forbidden = (403, {}, {"RemoteException": {"message": "user bob has no right"}})
    with scripted_rm({KILL: [forbidden, (404, {}, {})]}) as rm:
        client = ResourceManager([rm.url])
        with pytest.raises(ClusterError, match="user bob has no right"):
            client.kill("application_1_0001")
        with pytest.raises(ClusterError, match="does not know"):
            client.kill("application_1_0001")


def test_an_unknown_application_is_none(scripted_rm):
    with scripted_rm({}) as rm:
        assert ResourceManager([rm.url]).app("application_1_0001") is None


def test_applications_newest_first_with_tags(scripted_rm):
    two = {**APP, "id": "application_1_0002", "startedTime": 5000, "applicationTags": "a,b"}
    with scripted_rm({"GET /ws/v1/cluster/apps": [(200, {}, {"apps": {"app": [APP, two]}})]}) as rm:
        found = ResourceManager([rm.url]).apps(tags=["A"], states=["RUNNING"])
        assert [app.id for app in found] == ["application_1_0002", "application_1_0001"]
        assert found[0].tags == ("a", "b")
        assert "applicationTags=a&" in rm.requests[0][1] and "states=RUNNING" in rm.requests[0][1]


CAPACITY = {
    "type": "capacityScheduler",
    "queueName": "root",
    "maximumAllocation": {"memory": 8192, "vCores": 4},
    "queues": {
        "queue": [
            {"queueName": "default", "queuePath": "root.default", "state": "RUNNING"},
            {
                "queueName": "science",
                "queuePath": "root.science",
                "state": "RUNNING",
                "queues": {"queue": [{"queueName": "night", "queuePath": "root.science.night", "state": "STOPPED"}]},
            },
        ]
    },
}
FAIR = {
    "type": "fairScheduler",
    "rootQueue": {
        "queueName": "root",
        "maxContainerAllocation": {"memory": 4096, "vCores": 2},
        "childQueues": {"queue": {"queueName": "root.users", "maxContainerAllocation": {"memory": 2048, "vCores": 1}}},
    },
}


@pytest.mark.parametrize(
    ("info", "name", "state", "largest"),
    [
        (CAPACITY, "default", "RUNNING", 8192),
        (CAPACITY, "night", "STOPPED", 8192),
        (CAPACITY, "root.science.night", "STOPPED", 8192),
        (FAIR, "users", "RUNNING", 4096),
    ],
)
def test_queues_of_the_schedulers(info, name, state, largest, scripted_rm):
    answer = (200, {}, {"scheduler": {"schedulerInfo": info}})
    with scripted_rm({"GET /ws/v1/cluster/scheduler": [answer]}) as rm:
        scheduler = ResourceManager([rm.url]).scheduler()
    assert scheduler.queue(name).state == state and scheduler.queue(name).leaf
    assert scheduler.maximum_memory == largest
    assert scheduler.queue("nowhere") is None
