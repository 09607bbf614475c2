"""A real pair of NameNodes, the active one of which is killed while everybody works: nobody even sees an error."""

import threading
import time

import pytest
from pair import pair
from sound import explained, tidy

from dkeras_core.registry import Registry
from dkeras_core.storage import open_storage
from dkeras_core.yarn.hadoop_config import HadoopConfig

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_the_active_namenode_is_killed_while_versions_are_published_promoted_and_read(tmp_path, folder):
    with pair(tmp_path / "pair") as namenodes:
        hadoop = HadoopConfig.load(namenodes.conf_dir)

        def registry():
            return Registry(open_storage("/dkeras", hadoop=hadoop), "/dkeras")

        for run in ("a", "b"):
            registry().publish("higgs", folder, run_id=run)
        for alias in ("production", "staging"):
            registry().promote("higgs", 1, alias)
        stopped, errors, made, longest = threading.Event(), [], [], []

        def work(action):
            count, mine = 0, registry()
            while not stopped.is_set():
                begun = time.monotonic()
                try:
                    # Half of them as a process that has just begun, and asks the first NameNode first.
                    action(mine if count % 2 else registry(), count)
                except BaseException as error:
                    errors.append(error)
                longest.append(time.monotonic() - begun)
                count += 1

        def publish(mine, count):
            made.append(mine.publish("higgs", folder, run_id=f"run-{count}").number)

        def promote(alias):
            return lambda mine, count: mine.promote("higgs", 1 + (count + 1) % 2, alias)

        def read(mine, count):
            pointer = mine.pointer("higgs", "production")
            assert pointer.number in mine.versions("higgs")

        workers = [
            threading.Thread(target=work, args=(a,)) for a in (publish, read, *map(promote, ("production", "staging")))
        ]
        for worker in workers:
            worker.start()
        time.sleep(3)
        before = len(made)
        namenodes.kill("nn1")
        time.sleep(2)
        namenodes.activate("nn2")
        time.sleep(5)
        stopped.set()
        for worker in workers:
            worker.join(90)
        assert errors == [] and 0 < before < len(made) and max(longest) > 2
        found = registry()
        assert found.versions("higgs") == list(range(1, len(made) + 3))
        assert all(found.version("higgs", number).verify() == [] for number in found.versions("higgs"))
        explained(found)
        assert all(event.applied for event in found.history("higgs"))
        tidy(found)
