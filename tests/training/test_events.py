"""Event files: TensorFlow's own reader finds in them what was put in, and a bad file system ends nothing."""

import time

import pytest

from dkeras_core.errors import StorageError
from dkeras_core.training.events import EventLog, file_name


@pytest.fixture
def clock(monkeypatch):
    """A monotonic clock that stands still until the test moves it: a list with the time."""
    from dkeras_core.training import events

    now = [1000.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    return now


def read_back(path):
    from tensorflow.core.util import event_pb2
    from tensorflow.python.lib.io import tf_record

    return [event_pb2.Event.FromString(record) for record in tf_record.tf_record_iterator(str(path))]


def test_tensorflow_reads_what_was_written(tmp_path):
    path = tmp_path / file_name()
    log = EventLog(path.write_bytes)
    before = time.time()
    log.add({"loss/mean": 0.25, "loss/worker 0": 1e-7, "rate/rows_per_second": None}, step=5)
    log.add({"validation/val_loss": 3.5, "ä" * 200: -1.0}, step=2**40 + 129)
    log.add({"left out": None}, step=7)
    log.close()
    version, first, second = read_back(path)
    assert version.file_version == "brain.Event:2"
    assert (first.step, second.step) == (5, 2**40 + 129)
    assert before <= first.wall_time <= time.time()
    assert {v.tag: v.simple_value for v in first.summary.value} == pytest.approx(
        {"loss/mean": 0.25, "loss/worker 0": 1e-7}
    )
    assert {v.tag: v.simple_value for v in second.summary.value} == {"validation/val_loss": 3.5, "ä" * 200: -1.0}


def test_samples_are_spread_over_a_long_run(tmp_path, clock):
    path = tmp_path / "events"
    log = EventLog(path.write_bytes, interval=1e9)
    for _ in range(20_000):  # a tick every half a second: nearly three hours
        clock[0] += 0.5
        log.sample({"loss": 1.0}, step=1)
    log.close()
    assert 1000 < len(read_back(path)) < 2200


def test_a_file_system_that_fails_is_tried_again(tmp_path, capsys):
    path = tmp_path / "events"
    calls = []

    def write(data):
        calls.append(len(data))
        if len(calls) < 3:
            raise StorageError("the NameNode is in safe mode")
        path.write_bytes(data)

    log = EventLog(write, interval=0.01)
    log.add({"loss": 1.0}, step=1)
    while not path.exists():
        time.sleep(0.01)
    log.close()
    log.close()
    assert len(read_back(path)) == 2
    assert capsys.readouterr().err.count("safe mode") == 2
    assert len(calls) == 3, "an unchanged file was written again"
