"""Which files of tests go to one worker of pytest-xdist, and which begin first.

A worker makes what is expensive once: a cluster, an Airflow, the environment that YARN unpacks. So files that share one
of these stay together. And what takes long begins first, so that at the end no worker waits for another.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from pathlib import Path

from xdist.scheduler import LoadFileScheduling

SHARED = {
    "an Airflow on Hadoop": re.compile(r"\bairflow_on_hadoop\b"),
    "an Airflow": re.compile(r"(?<![.\w])airflow\.(rest|local|dags)\b"),
    "an unpacked environment": re.compile(r'^ROOT = "/chain"', re.MULTILINE),
    "a local Spark": re.compile(r"\Atests/(data|evaluation)/.*\b(run_in|spark)\b[,)]", re.DOTALL),
}
"""What is shared -> how a file, its path put first, says that it uses it."""

FIRST = (
    "an unpacked environment",
    "an Airflow on Hadoop",
    "an Airflow",
    "tests/singlenode/test_cluster.py",
    "tests/registry/test_faults.py",
    "tests/cli/test_runs_on_yarn.py",
    "tests/registry/test_crowd.py",
    "tests/cli/test_score_command.py",
    "tests/cli/test_tagged_on_yarn.py",
    "tests/yarn/test_applications.py",
    "tests/singlenode/test_containers.py",
    "tests/convergence/test_simulated.py",
    "tests/learning/test_on_jax.py",
    # of the unit tests
    "a local Spark",
    "tests/training/test_driver.py",
    "tests/learning/test_model_io.py",
    "tests/learning/test_local.py",
    "tests/training/test_monitor.py",
    "tests/registry/promotion/test_verdict.py",
    "tests/defects/test_prior_systems.py",
)
"""What takes longest, in this order; `make test` says at its end how long each took. Then: what has the most tests."""


@functools.cache
def unit_of(file: str, root: Path) -> str:
    """Return what a file of tests is handed out with: what it shares with others, else itself."""
    text = f"{file}\n{(root / file).read_text()}"
    return next((what for what, uses in SHARED.items() if uses.search(text)), file)


class LongestFirst(LoadFileScheduling):
    """Hands out files as ``--dist loadfile`` does, but together and in an order as said above."""

    def _split_scope(self, nodeid):
        return unit_of(super()._split_scope(nodeid), self.config.rootpath)

    def _assign_work_unit(self, node):
        def rank(unit):
            return FIRST.index(unit) if unit in FIRST else len(FIRST)

        self.workqueue.move_to_end(min(self.workqueue, key=rank), last=False)
        super()._assign_work_unit(node)


def slowest(reports, root: Path, count: int = 12) -> list[str]:
    """Return a line for each unit that took longest, set-up included, of the reports of a session."""
    seconds = Counter()
    for report in reports:
        seconds[unit_of(report.nodeid.partition("::")[0], root)] += report.duration
    return [f"{took:6.0f} s  {unit}" for unit, took in seconds.most_common(count)]
