"""One application for a tag: which stays, which is ended, what the driver does; a scripted ResourceManager."""

import pytest

from dkeras_core.errors import ClusterError, ConfigError
from dkeras_core.jobs.elder import refuses_to_double
from dkeras_core.yarn import adoption
from dkeras_core.yarn.resource_manager import ResourceManager

APPS = "GET /ws/v1/cluster/apps"


def app(number, started, state="RUNNING"):
    return {"id": f"application_7_{number:04}", "state": state, "startedTime": started, "finalStatus": "UNDEFINED"}


def script(*apps, after="KILLED"):
    """The listing, and for every application of it a kill that is obeyed."""
    answers = {APPS: [(200, {}, {"apps": {"app": list(apps)}})]}
    for one in apps:
        path = f"/ws/v1/cluster/apps/{one['id']}"
        answers[f"PUT {path}/state"] = [(202, {}, {"state": "ACCEPTED"})]
        answers[f"GET {path}"] = [(200, {}, {"app": {**one, "state": after}})]
    return answers


def killed(scripted):
    return [key.split("/")[-2] for key, _, _ in scripted.requests if key.startswith("PUT")]


def test_the_first_submitted_stays_not_the_one_with_the_lowest_id(scripted_rm):
    """Application 2 got its id after 1, and was submitted before it."""
    with scripted_rm(script(app(3, 9000), app(1, 5000), app(2, 4000))) as rm:
        assert adoption.adopt(ResourceManager([rm.url]), "t").id == "application_7_0002"
        assert killed(rm) == ["application_7_0001", "application_7_0003"]
        assert "applicationTags=t" in rm.requests[0][1] and "RUNNING" in rm.requests[0][1]


def test_of_two_in_one_millisecond_the_lower_id_stays(scripted_rm):
    with scripted_rm(script(app(10, 4000), app(9, 4000))) as rm:
        assert adoption.adopt(ResourceManager([rm.url]), "t").id == "application_7_0009"


def test_none_alive(scripted_rm):
    with scripted_rm({APPS: [(200, {}, {"apps": None})]}) as rm:
        assert adoption.adopt(ResourceManager([rm.url]), "t") is None
        assert adoption.end_all(ResourceManager([rm.url]), "t") == []


def test_a_kill_that_is_refused_is_said_after_the_others_were_ended(scripted_rm):
    answers = script(app(1, 4000), app(2, 5000))
    answers["PUT /ws/v1/cluster/apps/application_7_0001/state"] = [(401, {}, "no ticket")]
    with scripted_rm(answers) as rm:
        with pytest.raises(ClusterError, match="may not kill application_7_0001"):
            adoption.end_all(ResourceManager([rm.url]), "t")
        assert killed(rm) == ["application_7_0001", "application_7_0002"]


def test_a_kill_that_is_ignored_is_said(scripted_rm):
    ignoring = script(app(1, 4000), after="RUNNING")
    with scripted_rm(ignoring) as rm, pytest.raises(ClusterError, match="is still RUNNING"):
        adoption.end_all(ResourceManager([rm.url]), "t", timeout=0.5)


@pytest.mark.parametrize(
    ("mine", "yields"), [("application_7_0002", False), ("application_7_0001", True), ("application_7_0008", False)]
)
def test_the_driver_yields_to_an_elder_only(scripted_rm, tmp_path, mine, yields):
    with scripted_rm(script(app(1, 5000), app(2, 4000))) as rm:
        for name, keys in (
            ("core-site.xml", {"fs.defaultFS": "hdfs://127.0.0.1:1"}),
            ("hdfs-site.xml", {}),
            ("yarn-site.xml", {"yarn.resourcemanager.webapp.address": rm.url.removeprefix("http://")}),
        ):
            rows = "".join(f"<property><name>{k}</name><value>{v}</value></property>" for k, v in keys.items())
            (tmp_path / name).write_text(f"<configuration>{rows}</configuration>")
        assert refuses_to_double("t", mine, tmp_path) is yields


def test_a_driver_that_cannot_ask_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HADOOP_CONF_DIR", raising=False)
    monkeypatch.delenv("YARN_CONF_DIR", raising=False)
    assert refuses_to_double("t", "application_7_0001", tmp_path / "none") is False
    assert "not known" in capsys.readouterr().err


@pytest.mark.parametrize("tag", ["", "Tag", "a,b", "a" * 101, "a b"])
def test_tags_that_yarn_would_change_are_refused(tag):
    with pytest.raises(ConfigError):
        adoption.checked(tag)
    assert adoption.checked("dkeras-task-0f") == "dkeras-task-0f"
