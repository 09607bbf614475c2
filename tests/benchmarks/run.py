"""``make bench``: runs the benchmarks, each in a process of its own; prints a table, writes build/bench/<name>.json."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(HERE))

DEADLINE = 1800  # seconds for one benchmark


def names() -> list[str]:
    """The benchmarks: files bench_<name>.py beside this one."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def machine() -> dict:
    """What the figures were taken on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def measure_here(name: str, target: Path) -> None:
    """Run one benchmark in this process and write its outcomes."""
    import importlib

    module = importlib.import_module(f"bench_{name}")
    target.write_text(json.dumps([dataclasses.asdict(outcome) for outcome in module.measure()]))


def measure(name: str) -> list[dict] | None:
    """Run one benchmark in a process of its own; its outcomes, or None when it failed (it has said why)."""
    with tempfile.NamedTemporaryFile(suffix=".json") as target:
        process = subprocess.Popen([sys.executable, __file__, "--here", target.name, name], start_new_session=True)
        try:
            code = process.wait(DEADLINE)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)
            if isinstance(error, subprocess.TimeoutExpired):
                print(f"{name}: stopped after {DEADLINE} s", file=sys.stderr)
                return None
            raise
        return json.loads(Path(target.name).read_text()) if code == 0 else None


def main() -> int:
    parser = argparse.ArgumentParser(description="measure ratios side by side; see docs/benchmarks.md")
    parser.add_argument("name", nargs="*", help=f"one or more of: {', '.join(names())} (default: all)")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted(set(options.name) - set(names()))
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]}; there are {', '.join(names())}")
    if options.here:
        measure_here(options.name[0], options.here)
        return 0
    from rich.console import Console
    from rich.table import Table

    folder = ROOT / "build" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    table = Table("benchmark", "ratio", "spread", "bar", "runs", "")
    failed = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave through measure(), which ends what it started
    for name in options.name or names():
        print(f"{name} ...", flush=True)
        here, begun = machine(), time.monotonic()
        outcomes = measure(name)
        if outcomes is None:
            failed = True
            table.add_row(name, "failed", "", "", "", "")
            continue
        for outcome in outcomes:
            holds = outcome["ratio"] >= outcome["bar"]
            low, high = outcome["spread"]
            table.add_row(
                outcome["name"],
                f"{outcome['ratio']:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{outcome['bar']:.2f}",
                str(outcome["runs"]),
                "[green]holds" if holds else "[red]below the bar",
            )
            entry = {**outcome, "holds": holds, "machine": here, "command": f"make bench ONLY={name}"}
            (folder / f"{outcome['name']}.json").write_text(json.dumps(entry, indent=2) + "\n")
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    print("ratios: higher is better; each was taken side by side in one run. Details: build/bench/*.json")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
