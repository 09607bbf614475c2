"""A tagged submission that is ended as the later of two, or fails while another does the work."""

from types import SimpleNamespace

import pytest

from dkeras_core.cli import flow
from dkeras_core.errors import ClusterError
from dkeras_core.yarn.resource_manager import ResourceManager

APPS = "GET /ws/v1/cluster/apps"
ELDER = {"id": "application_7_0017", "state": "ACCEPTED", "startedTime": 1, "finalStatus": "UNDEFINED"}


@pytest.fixture
def attempt(monkeypatch, scripted_rm, tmp_path):
    """Submit where spark-submit fails, with these live applications of the same tag."""

    def failing(*_, **__):
        raise ClusterError("spark-submit failed: application_7_0018 was killed by user root")

    monkeypatch.setattr(flow, "submit", failing)

    def run(*apps, tag="t"):
        with scripted_rm({APPS: [(200, {}, {"apps": {"app": list(apps)}})]}) as rm:
            found = SimpleNamespace(rm=ResourceManager([rm.url]))
            return flow._submit(found, SimpleNamespace(tag=tag), None, tmp_path / "log", lambda text: None)

    return run


def test_the_application_that_another_has_submitted_is_taken_over(attempt):
    app, adopted = attempt(ELDER)
    assert (app.id, adopted) == ("application_7_0017", True)


@pytest.mark.parametrize(("apps", "tag"), [((), "t"), ((ELDER,), None)])
def test_without_another_or_without_a_tag_it_is_a_failure(attempt, apps, tag):
    with pytest.raises(ClusterError, match="application_7_0018 was killed"):
        attempt(*apps, tag=tag)
