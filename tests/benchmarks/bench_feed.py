"""Rows a second of one worker from Parquet in the page cache into the spool, out of it as shuffled windows; and memory.

Rows are 30 features and a label, in one file as Spark writes it, read 10,000 at a time on one thread. Three forms:
lists of float, lists of double, 30 columns of double. Every run spools and feeds anew. Resident memory (of files mapped
included) is the peak of a process of its own, over what it held before the first row.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from outcome import Outcome

from dkeras_core.data.columns import Column
from dkeras_core.data.feed import Feed
from dkeras_core.data.spool import Spool

ROOT = Path(__file__).parents[2]
WIDTH = 30
ROWS = 500_000
RUNS = 7
BAR = 500_000  # rows a second
BATCH, PERIOD = 128, 10
SCALARS = tuple(f"f{i}" for i in range(WIDTH))
COLUMNS = {
    "lists of float": Column("features", shape=(WIDTH,)),
    "lists of double": Column("features", shape=(WIDTH,)),
    "columns of double": Column("features", sources=SCALARS),
}
LIMIT = 128 << 20  # bytes that spooling and feeding may take
TIMES_LARGER = 10


def write(folder: Path) -> dict[str, Path]:
    random = np.random.default_rng(0)
    values = random.standard_normal((ROWS, WIDTH))
    label = pa.array(random.integers(0, 2, ROWS).astype(np.float32))
    ends = np.arange(0, (ROWS + 1) * WIDTH, WIDTH, dtype=np.int32)
    tables = {
        "lists of float": {"features": pa.ListArray.from_arrays(ends, values.astype(np.float32).ravel())},
        "lists of double": {"features": pa.ListArray.from_arrays(ends, values.ravel())},
        "columns of double": {name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(SCALARS)},
    }
    paths = {kind: folder / f"{kind.replace(' ', '-')}.parquet" for kind in tables}
    for kind, columns in tables.items():
        pq.write_table(pa.table({**columns, "label": label}), paths[kind])
    return paths


def batches(path: Path | str, column: Column):
    """Batches of Spark's size; a small buffer, for without it whole row groups are in memory."""
    file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16)
    return file.iter_batches(10_000, columns=[*column.reads, "label"], use_threads=False)


def rates(path: Path, column: Column, folder: Path) -> tuple[float, float]:
    """Rows a second into the spool, and out of it in one shuffled epoch."""
    with Spool.create(folder, [column, Column("label")]) as spool:
        begun = time.perf_counter()
        for batch in batches(path, column):
            spool.append(batch)
        spool.seal(ROWS)
        spooled = time.perf_counter()
        rows = sum(window.rows for window in Feed(spool, batch_size=BATCH, communication_period=PERIOD).windows(0))
        return ROWS / (spooled - begun), rows / (time.perf_counter() - spooled)


def peak_growth(path: Path, folder: Path) -> dict[str, float]:
    """Run :func:`grow` in a process of its own."""
    script = "import sys; from bench_feed import grow; grow(*sys.argv[1:])"
    paths = [str(Path(__file__).parent), str(ROOT)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths}; {script}", str(path), str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)


def grow(path: str, folder: str) -> None:
    """Spool the file until the spool is ten times the limit, feed one epoch; print bytes."""

    def resident() -> int:  # the peak
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

    column = COLUMNS["lists of float"]
    before = resident()
    with Spool.create(folder, [column, Column("label")]) as spool:
        while spool.nbytes < TIMES_LARGER * LIMIT:
            for batch in batches(path, column):
                spool.append(batch)
        del batch
        spool.seal()
        spooled = resident()
        feed = Feed(spool, batch_size=BATCH, communication_period=PERIOD, memory=LIMIT // 4)
        rows = sum(window.rows for window in feed.windows(0))
        sizes = {"spooling": spooled - before, "in all": resident() - before, "spool": spool.nbytes, "rows": rows}
        print(json.dumps(sizes))


def measure() -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="bench-feed-", dir=ROOT / "build") as name:
        folder = Path(name)
        paths = write(folder)
        found = {kind: [] for kind in COLUMNS}
        for run in range(RUNS + 1):
            for kind, column in COLUMNS.items():
                pair = rates(paths[kind], column, folder)
                if run:  # the first one brings the file into the page cache
                    found[kind].append(pair)
        memory = [peak_growth(paths["lists of float"], folder) for _ in range(3)]
    outcomes = []
    for kind, pairs in found.items():
        spooled, fed = zip(*pairs, strict=True)
        detail = {"spooled_rows_per_second": round(statistics.median(spooled))}
        detail |= {"fed_rows_per_second": round(statistics.median(fed)), "rows": ROWS, "features": WIDTH}
        name = f"feed-{kind.replace(' ', '-')}"
        outcomes.append(Outcome.of(name, [rate / BAR for rate in spooled], 1.0, **detail))
    worst = max(memory, key=lambda one: one["in all"])
    detail = {f"{key.replace(' ', '_')}_mib": round(worst[key] / 2**20, 1) for key in ("spooling", "in all", "spool")}
    detail |= {"limit_mib": LIMIT >> 20, "rows": worst["rows"]}
    return [*outcomes, Outcome.of("feed-memory", [LIMIT / one["in all"] for one in memory], 1.0, **detail)]
