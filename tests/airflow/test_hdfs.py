"""What a sensor looks at: a path, a folder with its flag, and how old they are."""

import os
from datetime import UTC, datetime

import pytest

from dkeras_core.airflow.hdfs import look, moment, read_json
from dkeras_core.errors import ConfigError, StorageError
from dkeras_core.storage.local import LocalStorage


def test_a_file_counts_and_a_folder_only_with_its_flag(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n")
    folder = tmp_path / "day"
    folder.mkdir()
    uri = tmp_path.as_uri()
    assert look(f"{uri}/none") is None
    assert look(f"{uri}/rows.csv", "_SUCCESS")["size"] == 4
    assert look(f"{uri}/day", "_SUCCESS") is None
    assert look(f"{uri}/day") is not None
    (folder / "_SUCCESS").touch()
    assert look(f"{uri}/day/", "_SUCCESS")["path"].endswith("/day/_SUCCESS")


def test_only_what_is_newer_counts(tmp_path):
    file = tmp_path / "rows.csv"
    file.touch()
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC)
    os.utime(file, (noon.timestamp(), noon.timestamp()))
    uri = file.as_uri()
    assert look(uri, newer_than=moment("2026-11-23T11:59:59Z"))["modified"] == "2026-11-23T12:00:00+00:00"
    assert look(uri, newer_than=moment("2026-11-23T12:00:00")) is None
    assert look(uri, newer_than=moment("2026-11-23 14:30:00+02:00")) is None


def test_moments():
    assert moment(None) is moment("") is moment(" ") is moment("None") is None
    assert moment("2026-11-23T12:00:00") == datetime(2026, 11, 23, 12, tzinfo=UTC)
    with pytest.raises(ConfigError, match="no ISO date"):
        moment("yesterday")


def test_json_that_is_missing_or_damaged(tmp_path):
    storage = LocalStorage()
    assert read_json(storage, f"{tmp_path}/none.json") is None
    (tmp_path / "half.json").write_text('{"a": ')
    with pytest.raises(StorageError, match=r"half\.json: is not JSON"):
        read_json(storage, f"{tmp_path}/half.json")
