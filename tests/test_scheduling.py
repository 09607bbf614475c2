"""The order in which files of tests are handed out, and that the names in it are those of files."""

from types import SimpleNamespace

from scheduling import FIRST, SHARED, LongestFirst, slowest, unit_of


def test_every_name_in_the_order_is_there(project_root):
    files = [str(file.relative_to(project_root)) for file in project_root.glob("tests/**/test_*.py")]
    units = {unit_of(file, project_root) for file in files}
    assert set(FIRST) <= units and set(SHARED) <= units
    chain = [file for file in files if file.startswith("tests/chain/")]
    assert len(chain) > 3 and {unit_of(file, project_root) for file in chain} == {"an unpacked environment"}
    assert unit_of("tests/airflow/test_retrain.py", project_root) == "an Airflow on Hadoop"


class Worker:
    """A worker that runs nothing, and keeps what it was handed."""

    shutting_down = False

    def __init__(self, name, tests):
        self.gateway, self.tests, self.handed = SimpleNamespace(id=name), tests, []

    def send_runtest_some(self, numbers):
        self.handed.append([self.tests[number] for number in numbers])

    def shutdown(self):
        self.shutting_down = True


def test_what_shares_stays_together_and_the_longest_begins(project_root, pytestconfig):
    many = [f"tests/test_config.py::test_{i}" for i in range(9)]
    few = [f"tests/rules/test_easgd.py::test_{i}" for i in range(3)]
    chain = ["tests/chain/test_chain.py::test_a", "tests/chain/test_score.py::test_b"]
    faults = ["tests/registry/test_faults.py::test_a", "tests/registry/test_faults.py::test_b"]
    tests = [*many, *few, *chain, *faults]
    option = SimpleNamespace(tx=["2*popen"], maxprocesses=None, loadscopereorder=True)
    config = SimpleNamespace(option=option, rootpath=project_root, getvalue=lambda name: getattr(option, name))
    scheduler = LongestFirst(config)
    workers = [Worker("one", tests), Worker("two", tests)]
    for worker in workers:
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    assert [worker.handed[0] for worker in workers] == [chain, faults]
    assert sorted(workers[0].handed[1:] + workers[1].handed[1:]) == sorted([many, few])
    assert workers[0].handed[1] == many, "of the others, those with many tests go first"


def test_the_seconds_of_a_session_are_added_up(project_root):
    reports = [
        SimpleNamespace(nodeid=f"tests/chain/test_{name}.py::test_it[a::b]", duration=seconds)
        for name, seconds in [("chain", 40.0), ("score", 20.0), ("chain", 1.0)]
    ] + [SimpleNamespace(nodeid="tests/test_config.py::test_it", duration=2.0)]
    assert slowest(reports, project_root) == ["    61 s  an unpacked environment", "     2 s  tests/test_config.py"]
