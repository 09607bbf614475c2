"""``make convergence``: runs what is missing, side by side, and writes docs/convergence.md from all that is there."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from simulated import experiments, runs  # noqa: E402

# One thread a process: runs are independent, so that is the fastest use of the cores, and results repeat
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NPROC": "1", "JAX_PLATFORMS": "cpu"}
SINGLE |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}


def main() -> int:
    parser = argparse.ArgumentParser(description="how the algorithms hold as workers grow; see docs/convergence.md")
    parser.add_argument("--only", default="", help="runs whose description has all of these words, e.g. 'higgs slowmo'")
    parser.add_argument("--quick", action="store_true", help="one seed, up to 16 workers, the Higgs events")
    parser.add_argument("--processes", type=int, default=max(1, len(os.sched_getaffinity(0)) // 2))
    parser.add_argument("--table", action="store_true", help="run nothing, write the table")
    parser.add_argument("--list", action="store_true", help="say what would be run")
    options = parser.parse_args()
    results = runs.Results(ROOT / "build" / "convergence")
    wanted = experiments.everything(quick=options.quick)
    words = options.only.split()
    wanted = [run for run in wanted if all(word in experiments.describe(run).split() for word in words)]
    missing = [] if options.table else results.missing(wanted)
    print(f"{len(wanted)} runs, {len(missing)} of them missing", flush=True)
    if options.list:
        print("\n".join(map(experiments.describe, missing)))
        return 0
    unavailable = _carry_out(missing, results, options.processes)
    for name, reason in unavailable.items():
        print(f"skipped {name}: {reason}")
    from simulated import table

    table.write(results, ROOT / "docs" / "convergence.md")
    return 0


def _carry_out(missing: list[runs.Run], results: runs.Results, processes: int) -> dict[str, str]:
    """Run what is missing; return the data sets that cannot be had here, with the reason."""
    unavailable = {}
    for name in sorted({run.data for run in missing}):
        try:
            from simulated import data

            data.load(name)
        except data.Unavailable as error:
            unavailable[name] = str(error)
    todo = [run for run in missing if run.data not in unavailable]
    if not todo:
        return unavailable
    os.environ.update(SINGLE)
    begun = time.monotonic()
    # Of each run its compiled functions stay, tens of MB; a process that has done ten makes room for a fresh one
    with multiprocessing.get_context("spawn").Pool(min(processes, len(todo)), maxtasksperchild=10) as pool:
        for done, record in enumerate(pool.imap_unordered(runs.execute, todo), 1):
            results.add(record)
            scores = ", ".join(f"{k} {v}" for k, v in record["scores"].items())
            left = (time.monotonic() - begun) / done * (len(todo) - done)
            print(
                f"{done}/{len(todo)} {experiments.describe(record['run'])}: {scores}; {left / 60:.0f} min left",
                flush=True,
            )
    return unavailable


if __name__ == "__main__":
    sys.exit(main())
