"""Publishers, promoters and collectors at once, under the eyes of a reader: an alias never names what is gone."""

import random
import threading
from datetime import timedelta

import pytest

from dkeras_core.errors import RegistryError
from dkeras_core.registry import Registry, collect

NOW = timedelta(0)
VERSIONS = 12


@pytest.mark.slow
def test_collectors_do_not_take_what_promoters_need(place, folder):
    errors, refused, deleted, looks = [], [], [], []
    published = threading.Event()

    def registry():
        return Registry(place.storage, place.root)

    def publish(worker):
        for i in range(VERSIONS // 3):
            registry().publish("higgs", folder, run_id=f"run-{worker}-{i}")

    def promote(worker):
        dice, mine = random.Random(worker), registry()
        while not published.is_set():
            for number in dice.sample(mine.versions("higgs"), 1):
                try:
                    mine.promote("higgs", number, dice.choice(["production", "staging"]))
                except RegistryError as error:  # it was deleted, or somebody else was faster
                    refused.append(error)

    def gather(worker):
        mine = registry()
        while not published.is_set():
            outcome = collect.carry_out(mine, collect.plan(mine, "higgs", keep=1, older_than=NOW))
            deleted.extend(outcome.deleted)
            assert all(isinstance(error, RegistryError) for _, error in outcome.failed), outcome.failed

    def read(worker):
        mine = registry()
        while not published.is_set():
            for alias in ("production", "staging"):
                before = mine.pointer("higgs", alias)
                if before is None:
                    continue
                there = place.storage.exists(f"{mine.at('higgs', before.number).path}/manifest.json")
                looks.append(before.number)
                assert there or mine.pointer("higgs", alias) != before, f"{alias} names {before.number}, which is gone"

    def run(action, worker):
        try:
            action(worker)
        except BaseException as error:
            errors.append(error)

    place.registry.publish("higgs", folder, run_id="first")
    threads = [
        threading.Thread(target=run, args=(action, worker))
        for action, crowd in ((promote, 3), (gather, 2), (read, 1))
        for worker in range(crowd)
    ]
    publishers = [threading.Thread(target=run, args=(publish, worker)) for worker in range(3)]
    for thread in publishers + threads:
        thread.start()
    for thread in publishers:
        thread.join(200)
    published.set()
    for thread in threads:
        thread.join(100)
    assert not errors, errors
    there = place.registry.versions("higgs")
    assert deleted and len(set(looks)) > 1
    assert set(place.registry.aliases("higgs").values()) <= set(there)
    assert sorted({*there, *(int(name.partition("@")[2]) for name in deleted)}) == list(range(1, VERSIONS + 2))
    assert all(place.registry.version("higgs", number).verify() == [] for number in there)
    events = place.registry.history("higgs")
    gone = {event.entry.version for event in events if event.entry.action == "delete" and event.applied}
    assert gone == set(range(1, VERSIONS + 2)) - set(there)
    collect.carry_out(place.registry, collect.plan(place.registry, "higgs", keep=100, stale_after=NOW))
    names = [status.name for status in place.storage.list(place.registry.layout.versions("higgs"))]
    assert names == sorted(map(str, there))
