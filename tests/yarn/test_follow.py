"""Following a run: what is believed when driver, HDFS and ResourceManager disagree, are silent, or say nothing."""

import json
import time

import pytest

from dkeras_core.errors import ClusterError, DataError
from dkeras_core.storage.local import LocalStorage
from dkeras_core.yarn import follow
from dkeras_core.yarn.answers import application
from dkeras_core.yarn.follow import View, Watch, conclude, recorded_error
from dkeras_core.yarn.resource_manager import ResourceManager
from dkeras_core.yarn.waiting import why_waiting

ID = "application_1_0001"
ONE = f"GET /ws/v1/cluster/apps/{ID}"
METRICS = (200, {}, {"clusterMetrics": {"activeNodes": 1, "totalMB": 8000, "availableMB": 100, "appsRunning": 3}})
ALL = {"GET /ws/v1/cluster/metrics": [METRICS]}


def app(state, final="UNDEFINED", **more):
    return (200, {}, {"app": {"id": ID, "state": state, "finalStatus": final, "queue": "root.default", **more}})


def write(folder, name, **values):
    (folder / name).write_text(json.dumps({"application": ID, **values}))


def views(rm, folder, **more):
    return list(Watch(ResourceManager([rm.url], timeout=0.5), ID, LocalStorage(), str(folder), **more).views(poll=0.01))


def test_the_last_view_holds_the_result(scripted_rm, tmp_path):
    write(tmp_path, "progress.json", phase="done", updated="1")
    write(tmp_path, "result.json", status="succeeded", published="/m/1")
    with scripted_rm({ONE: [app("ACCEPTED"), app("RUNNING"), app("FINISHED", "SUCCEEDED")]}) as rm:
        seen = views(rm, tmp_path)
    assert [view.app.state for view in seen] == ["ACCEPTED", "RUNNING", "FINISHED"]
    assert conclude(seen[-1], ID)["published"] == "/m/1"


def test_files_of_an_earlier_application_of_the_run_are_not_believed(scripted_rm, tmp_path):
    write(tmp_path, "progress.json", phase="train", updated="1", application="application_1_0000")
    write(tmp_path, "result.json", status="succeeded", application="application_1_0000")
    with scripted_rm({ONE: [app("FINISHED", "FAILED", diagnostics="it broke")]}) as rm:
        (view,) = views(rm, tmp_path)
    assert view.progress is None
    with pytest.raises(ClusterError, match="it broke"):
        conclude(view, ID)


def test_the_result_is_the_truth_also_when_yarn_says_failed():
    failed = application({"id": ID, "state": "FINISHED", "finalStatus": "FAILED"})
    assert conclude(View(failed, None, {"status": "succeeded"}), ID)["status"] == "succeeded"


def test_success_in_yarn_without_a_result_is_a_failure():
    ended = application({"id": ID, "state": "FINISHED", "finalStatus": "SUCCEEDED"})
    with pytest.raises(ClusterError, match="without a result"):
        conclude(View(ended, None, None), ID)


def test_a_recorded_error_comes_back_as_itself():
    error = recorded_error({"type": "DataError", "what": "no column x", "next": "add it", "exit_code": 3})
    assert isinstance(error, DataError) and error.exit_code == 3 and error.next_step == "add it"
    other = recorded_error({"type": "KeyError", "what": "'x'", "next": None, "exit_code": 1})
    assert isinstance(other, ClusterError) and "KeyError" in other.what and other.exit_code == 1


def test_a_silent_resource_manager_is_said_and_waited_for(scripted_rm, tmp_path, monkeypatch):
    monkeypatch.setattr(follow.time, "monotonic", iter(range(0, 10000, 2)).__next__)
    monkeypatch.setattr(follow.time, "sleep", lambda _: None)
    broken = (500, {}, "broken")
    with scripted_rm({ONE: [app("RUNNING"), broken, broken, broken, app("FINISHED")]}) as rm:
        seen = views(rm, tmp_path)
    assert seen[-1].app.state == "FINISHED" and seen[-1].notes == ()
    assert any("ResourceManager has not answered" in note and "500" in note for view in seen for note in view.notes)


def test_when_nothing_answers_for_long_following_ends(scripted_rm, tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "SILENCE_DEADLINE", 0.2)

    class Silent(LocalStorage):
        def read_bytes(self, path):
            raise follow.StorageError("NameNode is gone")

    with scripted_rm({ONE: [(500, {}, "broken")]}) as rm:
        watch = Watch(ResourceManager([rm.url]), ID, Silent(), str(tmp_path))
        with pytest.raises(ClusterError, match="has not answered for") as caught:
            list(watch.views(poll=0.05))
    assert "NameNode is gone" in caught.value.what and "may still run" in caught.value.next_step


def test_a_forgotten_application_ends_the_following(scripted_rm, tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "_FORGOTTEN", 0.1)
    with scripted_rm({}) as rm:
        seen = views(rm, tmp_path)
    with pytest.raises(ClusterError, match="does not know"):
        conclude(seen[-1], ID)


def test_a_driver_without_a_sign_of_life_is_noted(scripted_rm, tmp_path, monkeypatch):
    monkeypatch.setattr(follow, "_STALLED", 0.05)
    write(tmp_path, "progress.json", phase="train", updated="1")
    with scripted_rm({ONE: [app("RUNNING")] * 20 + [app("FINISHED")]}) as rm:
        seen = views(rm, tmp_path)
    assert any("no sign of life" in note for view in seen for note in view.notes)
    assert not seen[0].notes


@pytest.mark.parametrize(
    ("diagnostics", "words"),
    [
        ("[Sun Nov 22] Application is added ... Queue's AM resource limit exceeded.  Details", "application masters"),
        ("[Sun] Skipping AM assignment as cluster resources are empty.", "no NodeManager is active"),
        ("[Sun Nov 22 19:00:00 +0000 2026] something new", "something new"),
        ("", "no reason is given"),
    ],
)
def test_waiting_in_the_queue_says_why(scripted_rm, diagnostics, words):
    raw = {
        "id": ID,
        "state": "ACCEPTED",
        "diagnostics": diagnostics,
        "queue": "q",
        "startedTime": (time.time() - 60) * 1e3,
    }
    with scripted_rm(ALL) as rm:
        (note,) = why_waiting(application(raw), None, ResourceManager([rm.url]))
    assert words in note and "100 of 8000 MB are free" in note and "[Sun" not in note


def test_no_executor_is_said_before_work_begins(scripted_rm):
    raw = {"id": ID, "state": "RUNNING", "runningContainers": 1, "startedTime": (time.time() - 60) * 1e3}
    with scripted_rm(ALL) as rm:
        client = ResourceManager([rm.url])
        assert "no executor" in next(iter(why_waiting(application(raw), None, client)))
        assert list(why_waiting(application({**raw, "runningContainers": 3}), None, client)) == []
        assert list(why_waiting(application(raw), {"phase": "train"}, client)) == []
