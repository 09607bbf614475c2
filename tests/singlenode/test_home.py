import pytest

from dkeras_core.errors import ClusterError
from dkeras_core.singlenode.home import Home, Started, State
from dkeras_core.singlenode.processes import Process
from dkeras_core.singlenode.status import observe, started


def test_state_survives_a_round_trip(tmp_path):
    state = State(2, {"namenode.rpc": 20001}, {"namenode": Started(4711, 99, 1.5)})
    state.save(tmp_path / "state.json")
    assert State.load(tmp_path / "state.json") == state
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]


def test_state_that_was_never_written_is_empty(tmp_path):
    assert State.load(tmp_path / "state.json") == State()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nodes": 1}', '{"nodes": 1, "ports": {}, "daemons": {"a": {}}}'])
def test_damaged_state_is_named(tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(ClusterError, match=r"state\.json is damaged"):
        State.load(tmp_path / "state.json")


def test_daemon_that_is_noted_but_does_not_run_has_crashed(tmp_path):
    home = Home(tmp_path)
    State(1, {"namenode.http": 20002}, {"namenode": Started(4711, 99, 1.5)}).save(home.state)
    status = observe(home)
    assert status.down and not status.ready
    assert status.daemon("namenode").condition == "crashed (was process 4711)"
    assert status.daemon("datanode").condition == "stopped"
    assert status.daemon("namenode").web == "http://127.0.0.1:20002"


def test_start_of_another_process_with_the_same_number_does_not_count():
    state = State(1, {}, {"namenode": Started(4711, 99, 1.5)})
    assert started(state, {"namenode": Process(4711, 99)})["namenode"].time == 1.5
    assert started(state, {"namenode": Process(4711, 100)})["namenode"].time == 0.0
