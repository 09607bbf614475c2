"""An approval takes up the answer that Airflow has lost with the try that was given it, and asks anew after a clear."""

import json
import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # Airflow takes seconds to import
CASES = {
    "the first try asks": ({"try": 1, "max": 2}, {"parked": True, "questions": 1}),
    "the next one takes the answer up": (
        {"try": 2, "max": 2, "there": ["Approve"]},
        {"chosen": ["Approve"], "by": {"id": "1", "name": "ada"}, "questions": 0},
    ),
    "a refusal, too": (
        {"try": 3, "max": 2, "there": ["Reject"]},
        {"chosen": ["Reject"], "by": {"id": "1", "name": "ada"}, "questions": 0},
    ),
    "without an answer it asks again": ({"try": 2, "max": 2}, {"parked": True, "questions": 1}),
    "and where there is no question any more": (
        {"try": 2, "max": 2, "there": "gone"},
        {"parked": True, "questions": 1},
    ),
    "after a clear the old answer is none": (
        {"try": 2, "max": 3, "there": ["Approve"]},
        {"parked": True, "questions": 1},
    ),
    "who is not asked approves": (
        {"try": 1, "max": 2, "asked": "False"},
        {"chosen": ["Approve"], "by": None, "questions": 0},
    ),
}


@pytest.fixture(scope="module")
def ended(airflow_python, tmp_path_factory):
    home = tmp_path_factory.mktemp("airflow")
    settings = {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/none.db"}
    done = subprocess.run(
        [
            airflow_python,
            Path(__file__).with_name("play_approval.py"),
            *(json.dumps(asked) for asked, _ in CASES.values()),
        ],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return dict(zip(CASES, lines, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_an_approval(ended, case):
    asked, expected = CASES[case]
    first = asked["try"] == asked["max"] - 1  # of all, or after a clear; two retries are allowed
    assert ended[case] == expected | {"looked": not first}
