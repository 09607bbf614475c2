"""progress.json and result.json on a real folder, read while they are written."""

import json
import time

import pytest

from dkeras_core.errors import DataError
from dkeras_core.jobs.progress import Progress
from dkeras_core.storage.local import LocalStorage


@pytest.fixture
def progress(tmp_path):
    return Progress(LocalStorage(), str(tmp_path), "r-1", "application_1", interval=0.02)


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_states_reach_the_file_whole(progress, tmp_path):
    progress.start()
    with progress.phase("train") as outcome:
        outcome["detail"] = "fine"
        for rows in range(50):
            progress.update(rows=rows)
            assert read(tmp_path, "progress")["run"] == "r-1"
            time.sleep(0.005)
    progress.close({"published": "/m/1", "version": 1})
    state, result = read(tmp_path, "progress"), read(tmp_path, "result")
    assert (state["phase"], state["rows"]) == ("done", 49)
    assert (result["status"], result["published"], result["error"]) == ("succeeded", "/m/1", None)
    assert result["phases"][0]["state"] == "done"
    assert result["phases"][0]["detail"] == "fine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.json", "result.json"]


def test_a_failure_is_told_with_cause_and_next_step(progress, tmp_path):
    progress.start()
    error = DataError("column x is missing", "name it")
    with pytest.raises(DataError), progress.phase("preprocess"):
        raise error
    progress.close({}, error=error)
    result = read(tmp_path, "result")
    assert result["status"] == "failed"
    assert result["error"] == {"type": "DataError", "what": "column x is missing", "next": "name it", "exit_code": 3}
    assert result["phases"][0]["state"] == "failed"
    assert read(tmp_path, "progress")["phase"] == "failed"


def test_a_file_system_that_fails_for_a_while_does_not_end_the_run(progress, tmp_path, capsys):
    progress.start()
    folder = tmp_path.with_name(tmp_path.name + "-away")
    tmp_path.rename(folder)
    tmp_path.write_text("in the way")
    progress.update(rows=1)
    time.sleep(0.2)
    tmp_path.unlink()
    folder.rename(tmp_path)
    progress.close({})
    assert read(tmp_path, "result")["status"] == "succeeded"
    assert "progress could not be written" in capsys.readouterr().err
