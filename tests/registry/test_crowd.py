"""Many publishers and promoters at once, processes killed at random moments, and a reader that sees through it all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sound import explained, tidy

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.slow,
    pytest.mark.parametrize("place", ["webhdfs"], indirect=True),  # what happens in local folders is a part of this
]
CROWD = Path(__file__).with_name("crowd.py")


@pytest.fixture
def crowd(place, small, project_root):
    """Starts processes of crowd.py; those that a failed test leaves are killed."""
    started = []

    def start(role, first=1, count=1):
        command = [sys.executable, CROWD, role, place.url or "-", place.root, small, str(first), str(count)]
        process = subprocess.Popen(
            command, cwd=project_root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(project_root)
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _environment(project_root):
    return os.environ | {"PYTHONPATH": str(project_root)}


def answer(process, timeout=240):
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0
    return json.loads(output)


def test_fifty_publishers_and_fifty_promoters_at_once(crowd, place):
    reader = crowd("reader")
    promoting = [crowd("promoters", first, 10) for first in range(0, 50, 10)]
    publishing = [crowd("publishers", first, 10) for first in range(1, 51, 10)]
    numbers = [number for process in publishing for number in answer(process)]
    promoted = [entry for process in promoting for entry in answer(process)]
    seen = answer(reader)

    registry = place.registry
    assert sorted(numbers) == registry.versions("higgs") == list(range(1, 51))
    versions = [registry.version("higgs", number) for number in numbers]
    assert {version.manifest().run for version in versions} == {f"run-{run}" for run in range(1, 51)}
    folders = [status.name for status in place.storage.list(registry.layout.versions("higgs"))]
    assert sorted(map(int, folders)) == list(range(1, 51))
    for version in versions:
        assert version.verify() == []  # every file, and none too many: nothing was moved into a version
    assert seen["wrong"] == [] and seen["versions"] == 50 and seen["looks"] > 20
    applied = [event.entry.id for event in registry.history("higgs") if event.applied]
    # A promotion to what the alias names by then gets the entry of who was first.
    assert set(applied) == set(promoted) and len(applied) >= 10
    explained(registry)
    tidy(registry)


def test_killed_at_two_hundred_random_moments(crowd, place, small):
    reader = crowd("reader")
    died = sum(map(answer, [crowd("killed", first, 50) for first in (1, 51, 101, 151)]))
    seen = answer(reader)

    registry = place.registry
    assert died > 100  # of two hundred; the others were faster
    assert seen["wrong"] == [] and seen["looks"] > 20
    before = registry.versions("higgs")
    assert before == list(range(1, len(before) + 1))
    explained(registry)
    published = {registry.publish("higgs", small, run_id=f"run-{run}").number for run in range(1, 201)}
    assert published == set(registry.versions("higgs")) == set(range(1, 201))
    assert set(before) <= published
    registry.promote("higgs", 200, "production", duration=0.5)
    explained(registry)
    tidy(registry)
