"""promote_model and rollback_model over REST on real Airflow, with a registry in a local folder."""

import shutil
import time
from types import SimpleNamespace

import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.registry import Registry
from dkeras_core.registry.readonly import remove
from dkeras_core.storage.local import LocalStorage

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def dags(airflow, project_root, tmp_path_factory):
    """Airflow with the two DAGs and their two roots, which their forms offer from now on."""
    folder = tmp_path_factory.mktemp("roots")
    root, further = (folder / "root").as_uri(), (folder / "other").as_uri()
    text = (project_root / "dags/pipelines/higgs.yaml").read_text()
    (airflow.dags / "pipelines").mkdir(exist_ok=True)
    (airflow.dags / "pipelines/higgs.yaml").write_text(text.replace("root: /dkeras", f"root: {root}"))
    (airflow.dags / "schedules.yaml").write_text(f"roots: ['{further}']")
    for name in ("promote_model.py", "rollback_model.py"):
        shutil.copy(project_root / "dags" / name, airflow.dags)
    deadline = time.monotonic() + 180
    while not {"promote_model", "rollback_model"} <= airflow.rest.dags().keys():
        assert time.monotonic() < deadline and airflow.rest.import_errors() == []
        time.sleep(0.5)
    return SimpleNamespace(rest=airflow.rest, root=root, further=further)


@pytest.fixture
def there(dags, tmp_path):
    """A registry with versions 1 (production) and 2 of higgs; a further one has ``stray``, without a pipeline file."""
    (tmp_path / "weights").write_bytes(b"1")
    storage = LocalStorage()
    registry, other = Registry(storage, dags.root), Registry(storage, dags.further)
    for run in ("one", "two"):
        registry.publish("higgs", tmp_path, run_id=run, metrics={"roc_auc": 0.9})
    registry.promote("higgs", 1, "production")
    other.publish("stray", tmp_path, run_id="one")
    yield SimpleNamespace(registry=registry, other=other, folder=tmp_path, **vars(dags))
    for one in (dags.root, dags.further):
        remove(storage, one)


def answered(rest, dag, params, option, reason=""):
    """Trigger, answer once it waits, and return the run and how it ended."""
    run = rest.trigger(dag, params)
    rest.wait_for_task(dag, run, "approve", {"awaiting_input"}, seconds=400)
    rest.answer(dag, run, "approve", [option], {"reason": reason})
    return run, rest.wait(dag, run, seconds=400)


def test_forward_and_back_and_a_rejection(there):
    rest, registry = there.rest, there.registry
    force = {"model": "higgs", "version": 2, "force": "it has no model, for a test"}
    run, end = answered(rest, "promote_model", force, "Approve", "go on")
    assert end == "success" and registry.alias("higgs", "production") == 2
    assert "scores | **✗ failed**" in rest.xcom("promote_model", run, "look")["text"]
    assert rest.xcom("promote_model", run, "promote") == {
        "model": "higgs", "alias": "production", "version": 2, "was": 1,
    }  # fmt: skip

    run, end = answered(rest, "rollback_model", {"model": "higgs", "reason": "scores drift"}, "Approve")
    assert end == "success" and registry.alias("higgs", "production") == 1
    entry = registry.history("higgs", "production")[0].entry
    assert entry.action == "rollback" and "scores drift; approved by admin; Airflow: rollback_model" in entry.reason

    run, end = answered(rest, "promote_model", force, "Reject", "not tonight")
    assert end == "success" and rest.states("promote_model", run)["promote"] == "skipped"
    assert registry.alias("higgs", "production") == 1


def test_a_version_that_fails_its_checks_is_not_promoted(there):
    run, end = answered(there.rest, "promote_model", {"model": "higgs", "version": 2}, "Approve")
    assert end == "failed" and there.registry.alias("higgs", "production") == 1
    assert "was not promoted, checks failed" in there.rest.log("promote_model", run, "promote")


def test_an_approval_of_what_was_moved_and_moved_back_meanwhile_changes_nothing(there):
    """The approver saw production at 1, with a history that ended there; it is at 1 again because 2 was rolled back."""
    rest, registry = there.rest, there.registry
    run = rest.trigger("promote_model", {"model": "higgs", "version": 2, "force": "it has no model, for a test"})
    rest.wait_for_task("promote_model", run, "approve", {"awaiting_input"}, seconds=400)
    registry.promote("higgs", 2, "production", reason="at night")
    registry.rollback("higgs", "production", reason="2 is no good")
    rest.answer("promote_model", run, "approve", ["Approve"], {"reason": ""})
    assert rest.wait("promote_model", run, seconds=400) == "failed" and registry.alias("higgs", "production") == 1
    assert "rollback by" in rest.log("promote_model", run, "promote")


def test_a_model_without_a_pipeline_is_found_where_the_roots_say(there):
    rest, other = there.rest, there.other
    stray = {"model": "stray", "version": 1, "force": "for a test"}
    run, end = answered(rest, "promote_model", stray, "Approve")
    assert end == "success" and other.alias("stray", "production") == 1

    other.publish("higgs", there.folder, run_id="another")
    for params, said in (
        ({"model": "higgs", "version": 1}, "choose the root folder in the form"),
        ({"model": "nobody", "version": 1}, "there is no nobody in"),
    ):
        run = rest.trigger("promote_model", params)
        assert rest.wait("promote_model", run, seconds=400) == "failed"
        assert said in rest.log("promote_model", run, "look")
    with pytest.raises(ClusterError, match="root"):
        rest.trigger("promote_model", stray | {"root": "file:///tmp"})
    here = {"model": "higgs", "version": 1, "force": "for a test", "root": there.further}
    assert answered(rest, "promote_model", here, "Approve")[1] == "success"
    assert other.alias("higgs", "production") == 1 == there.registry.alias("higgs", "production")
    assert there.registry.history("higgs", "production")[0].entry.reason is None
