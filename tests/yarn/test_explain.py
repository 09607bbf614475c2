"""Root causes from recorded output of Spark 4.3 on Hadoop 3.5."""

from pathlib import Path

import pytest

from dkeras_core.yarn.answers import application
from dkeras_core.yarn.container_logs import ContainerLogs
from dkeras_core.yarn.exit_status import meaning
from dkeras_core.yarn.explain import am_exit_status, explain, last_lines, lost_executors, python_error

RECORDED = Path(__file__).parent / "recorded"


def recorded(name):
    return (RECORDED / name).read_text()


@pytest.fixture
def failed(tmp_path):
    """An application whose driver wrote the given texts, on disk as on the single node."""

    def make(stdout="", stderr="", diagnostics="User application exited with status 1"):
        app = application(
            {
                "id": "application_1795376140167_0001",
                "state": "FINISHED",
                "finalStatus": "FAILED",
                "diagnostics": diagnostics,
                "amHostHttpAddress": "localhost:1",
                "amContainerLogs": "http://localhost:1/node/containerlogs/container_1795376140167_0001_01_000001/root",
            }
        )
        folder = tmp_path / app.id / app.am_container
        folder.mkdir(parents=True)
        (folder / "stdout").write_text(stdout)
        (folder / "stderr").write_text(stderr)
        return app, ContainerLogs(app, tmp_path)

    return make


def test_an_executor_killed_for_memory_names_the_setting(failed):
    app, logs = failed(stderr=recorded("executor_memory.txt"))
    killed = logs.folder / app.id / "container_1795376140167_0001_01_000003"
    killed.mkdir()
    (killed / "stderr").write_text("26/11/22 19:36:09 ERROR CoarseGrainedExecutorBackend: RECEIVED SIGNAL TERM\n")
    found = explain(app, logs)
    assert "executor 2 on localhost" in found.what
    assert "physical memory" in found.what and "-104" in found.what and "1.5 GB of 1.5 GB" in found.what
    assert "resources.memory_overhead" in found.next_step
    assert found.killed and found.container == killed.name and found.where == str(killed)
    assert found.lines == ("26/11/22 19:36:09 ERROR CoarseGrainedExecutorBackend: RECEIVED SIGNAL TERM",)


def test_a_driver_killed_for_memory_names_the_drivers_setting(failed):
    found = explain(*failed(diagnostics=recorded("driver_memory_diagnostics.txt")))
    assert "the driver failed" in found.what and "-104" in found.what
    assert "resources.driver_memory_overhead" in found.next_step
    assert found.killed and found.role == "driver"


def test_an_error_in_a_worker_is_the_workers_error(failed):
    found = explain(*failed(stdout=recorded("worker_error_stdout.txt"), stderr="x ERROR y: Exit status: 0\n"))
    assert found.what == "ValueError: worker cannot read column PRI_jet"
    assert not found.killed
    assert found.lines[-1] == found.what
    assert '  File "fail.py", line 6, in bad' in found.lines


def test_an_error_of_this_package_wins_and_brings_its_next_step(failed):
    text = (
        "Traceback (most recent call last):\n  File x\n"
        "dkeras_core.errors.DataError: column DER_mass is missing\n  next: look at the header\n"
        "During handling of the above exception, another exception occurred:\n"
        "Traceback (most recent call last):\n  File y\nRuntimeError: stopped\n"
    )
    found = explain(*failed(stdout=text))
    assert found.what == "column DER_mass is missing"
    assert found.next_step == "look at the header"


def test_without_any_log_the_resource_managers_words_remain(failed):
    found = explain(*failed(diagnostics="Application was submitted to a queue that is gone"))
    assert "queue that is gone" in found.what


def test_logs_that_are_elsewhere_are_named(failed):
    app, _ = failed()
    where = ContainerLogs(app).where(app.am_container)
    assert where == f"yarn logs -applicationId {app.id} -containerId {app.am_container}"


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("Container marked as failed: container_1_1_01_000002 on host: n1. Exit status: 137. Diagnostics: x", 137),
        ("Container from a bad node: container_1_1_01_000002 on host: n1. Exit status: 143.", 143),
        ("Container container_1_1_01_000002 on host n1 was preempted.", -102),
        ("Container killed by YARN for exceeding virtual memory limits. 9 GB of 8 GB virtual memory used.", -103),
        ("Slave lost", None),
    ],
)
def test_lost_executors(reason, status):
    (lost,) = lost_executors(f"26/11/22 19:36:09 ERROR YarnClusterScheduler: Lost executor 7 on n1: {reason}\n")
    assert (lost.executor, lost.host, lost.status) == ("7", "n1", status)


def test_executors_that_end_with_the_application_are_not_lost():
    assert lost_executors("Lost executor 1 on n1: Executor killed by driver.\n") == []


@pytest.mark.parametrize(
    ("status", "word", "setting"),
    [
        (-100, "lost", "NodeManager"),
        (-102, "preempted", "queue"),
        (-103, "virtual memory", "yarn.nodemanager.vmem-check-enabled"),
        (-104, "physical memory", "resources.memory_overhead"),
        (10, "uncaught", "log"),
        (11, "too many executors", "log"),
        (13, "context", "log"),
        (137, "SIGKILL", "resources.memory_overhead"),
        (143, "SIGTERM", "resources.memory_overhead"),
        (77, "exit status 77", "log"),
    ],
)
def test_exit_statuses_in_words(status, word, setting):
    said = meaning(status)
    assert word in said.what and str(status) in said.what
    assert setting in said.next_step


def test_driver_settings_are_the_drivers():
    assert "resources.driver_memory_overhead" in meaning(-104, driver=True).next_step
    assert am_exit_status(recorded("driver_memory_diagnostics.txt")) == -104
    assert am_exit_status("User application exited with status 3") is None


def test_routine_lines_and_java_stacks_are_left_out():
    text = (
        "WARNING: Using incubator modules: jdk.incubator.vector\n"
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
        "I0000 00:00:1795412692.718312   22524 port.cc:153] oneDNN custom operations are on. You may see slightly\n"
        "26/11/22 19:36:02 INFO Client: \n\t client token: N/A\n"
        "26/11/22 19:36:09 ERROR A: it broke\njava.lang.X: why\n\tat a.b.C(D.java:1)\n"
        "26/11/22 19:36:10 INFO B: routine\n"
    )
    assert last_lines(text) == ("26/11/22 19:36:09 ERROR A: it broke", "java.lang.X: why")
    assert last_lines("\n".join(map(str, range(50))), 3) == ("47", "48", "49")


def test_a_line_that_looks_like_an_error_outside_a_traceback_is_none():
    assert python_error("ValueError: printed by the program\n") is None
