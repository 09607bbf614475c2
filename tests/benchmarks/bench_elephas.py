"""The same work in Elephas: its asynchronous mode per batch (tau = 1), and its synchronous mode.

Both sides train the 380,402-parameter model with SGD, batch 32, two workers on ``local[2]`` of the same Spark, pinned
to the same two cores. Elephas runs in an environment of its own (envs/elephas.lock) with its default HTTP server, the
faster of its two here. The rate is marginal: rows of the further epochs over the further seconds, so that neither
side's start-up counts.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path

from outcome import Outcome

HERE = Path(__file__).parent / "elephas"
ROOT = Path(__file__).parents[2]
THEIRS = ROOT / "build" / "elephas"
RUNS = 3
ROWS = 16_000
# epochs of the short and the long run: the long one takes some tens of seconds on either side
EPOCHS = {
    ("asynchronous", "theirs"): (1, 9),
    ("asynchronous", "ours"): (1, 11),
    ("synchronous", "theirs"): (1, 4),
    ("synchronous", "ours"): (1, 31),
}
BARS = {"asynchronous": 10.0, "synchronous": 2.0}


def environment() -> Path:
    """Elephas' Python; installed from its lock when it is not there yet."""
    python, packages = THEIRS / "bin" / "python", THEIRS / "lib" / "python3.11" / "site-packages"
    lock, stamp = ROOT / "envs" / "elephas.lock", THEIRS / "lock"
    if stamp.exists() and stamp.read_text() == lock.read_text():
        return python
    print("elephas: installing its environment", flush=True)
    uv = str(Path(sys.executable).parent / "uv")
    settings = subprocess.run(
        [sys.executable, ROOT / "envs" / "pip_settings.py"], check=True, capture_output=True, text=True
    )
    shell = f"{settings.stdout}\nexec env"
    seen = subprocess.run(["bash", "-c", shell], check=True, capture_output=True, text=True).stdout
    env = dict(line.split("=", 1) for line in seen.splitlines() if "=" in line)
    env |= {"UV_CACHE_DIR": str(ROOT / "build" / "cache" / "uv"), "VIRTUAL_ENV": str(THEIRS)}
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, THEIRS], check=True, env=env)
    subprocess.run([uv, "pip", "sync", "--quiet", "--require-hashes", lock], check=True, env=env)
    import pyspark

    (packages / "pyspark").symlink_to(Path(pyspark.__file__).parent)
    stamp.write_text(lock.read_text())
    return python


def seconds(side: str, mode: str, epochs: int) -> float:
    """One whole run in processes of its own on two cores."""
    if side == "theirs":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        python, arguments = environment(), [HERE / "theirs.py", mode, ROWS, epochs, "http", port]
    else:
        python, arguments = sys.executable, [HERE / "ours.py", mode, ROWS, epochs]
    env = {**os.environ, "PYSPARK_PYTHON": str(python), "SPARK_LOCAL_IP": "127.0.0.1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))[:2]))
    command = ["taskset", "-c", cores, str(python), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{side}, {mode}: {done.stderr[-2000:]}")
    return json.loads(lines[-1])["seconds"]


def rate(side: str, mode: str) -> float:
    """Rows a second of all epochs but the first ones."""
    short, long = EPOCHS[mode, side]
    return ROWS * (long - short) / (seconds(side, mode, long) - seconds(side, mode, short))


def measure() -> list[Outcome]:
    outcomes = []
    for mode, bar in BARS.items():
        pairs = [(rate("ours", mode), rate("theirs", mode)) for _ in range(RUNS)]
        outcomes.append(
            Outcome.of(
                f"elephas_{mode}",
                [ours / theirs for ours, theirs in pairs],
                bar,
                ours_rows_per_second=round(statistics.median(ours for ours, _ in pairs)),
                elephas_rows_per_second=round(statistics.median(theirs for _, theirs in pairs)),
            )
        )
    return outcomes
