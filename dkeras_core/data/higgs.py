"""Synthetic events in the exact schema of the 2014 ATLAS Higgs challenge, for a fresh clone that has no real data.

The events are *synthetic*: drawn by :mod:`dkeras_core.data.higgs_processes`, never copied from the challenge. Columns,
order, spelling, the marker -999.0 and the rules for where it stands are those of the challenge's file, so the real
file takes their place without a change.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dkeras_core.data.higgs_features import features
from dkeras_core.data.higgs_processes import BACKGROUND, SIGNAL, Objects, Process, generate
from dkeras_core.errors import DataError

VERSION = 1
FIRST_EVENT = 100_000
SIGNAL_FRACTION = 0.3427
SIGNAL_WEIGHT, BACKGROUND_WEIGHT = 691.0, 411_000.0
CHUNK = 50_000


@dataclass(frozen=True)
class Events:
    """A block of events: ``columns`` name -> [n] as in the file, without the text columns; ``signal`` [n] bool."""

    columns: dict[str, np.ndarray]
    signal: np.ndarray


def _draw(rows: int, total: int, first: int, rng: np.random.Generator) -> Events:
    """Draw ``rows`` events numbered from ``first``; weights are normalised for a file of ``total`` rows."""
    processes: list[tuple[Process, float, float]] = [
        (p, share * p.rows, expected * p.weight)
        for group, share, expected in (
            (SIGNAL, SIGNAL_FRACTION, SIGNAL_WEIGHT),
            (BACKGROUND, 1 - SIGNAL_FRACTION, BACKGROUND_WEIGHT),
        )
        for p in group
    ]
    kind = rng.choice(len(processes), size=rows, p=[share for _, share, _ in processes])
    weight = np.empty(rows)
    parts, places = [], []
    for index, (process, share, expected) in enumerate(processes):
        place = np.flatnonzero(kind == index)
        parts.append(generate(process, place.size, rng))
        places.append(place)
        spread = process.weight_spread
        varied = np.exp(spread * rng.normal(size=place.size) - 0.5 * spread**2)
        weight[place] = expected / (total * share) * varied
    order = np.argsort(np.concatenate(places))
    columns = {"EventId": np.arange(first, first + rows), **features(Objects.concatenate(parts).take(order))}
    columns["Weight"] = np.array([float(f"{w:.12g}") for w in weight])
    return Events(columns, kind < len(SIGNAL))


def events(rows: int, seed: int) -> Iterator[Events]:
    """Yield ``rows`` synthetic events in blocks; the same rows and seed give the same values.

    Each block has its own random stream, so memory stays that of one block whatever ``rows`` is.
    """
    for block, start in enumerate(range(0, rows, CHUNK)):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, VERSION, block])))
        yield _draw(min(CHUNK, rows - start), rows, FIRST_EVENT + start, rng)


def _table(block: Events):
    """Return the block as an Arrow table of text columns, floats written as in the challenge (138.47, -999.0)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {}
    for name, values in block.columns.items():
        text = pc.cast(pa.array(values), pa.string())
        if values.dtype.kind == "f" and name != "Weight":
            # Arrow leaves out the fraction of whole numbers, of which -999.0 is by far the most frequent.
            whole = pa.array(values == np.rint(values))
            text = pc.if_else(whole, pc.binary_join_element_wise(text, ".0", ""), text)
        columns[name] = text
    columns["Label"] = pc.if_else(pa.array(block.signal), "s", "b")
    return pa.table(columns)


def write_events(
    path: str | os.PathLike,
    rows: int = 250_000,
    seed: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write ``rows`` synthetic events as CSV and ``<name>.json`` beside it, which says that they are synthetic.

    The files appear at once under their names (temporary file, then rename). Equal arguments give equal bytes.

    Parameters
    ----------
    path : path of the CSV file; its folder is made if needed.
    rows : number of events, at least 1.
    seed : seed of the random streams, at least 0.
    progress : called with the number of rows written so far.

    Raises
    ------
    DataError : rows or seed out of range, or the folder cannot be written.
    """
    import pyarrow.csv

    if rows < 1 or seed < 0:
        raise DataError(
            f"cannot write {rows} synthetic events with seed {seed}: rows must be at least 1, seed at least 0",
            "give another --rows or --seed",
        )
    path = Path(path)
    if path.suffix == ".json":
        raise DataError(
            f"{path}: this name is needed for the facts that stand beside the events",
            f"name the CSV file otherwise, for example {path.with_suffix('.csv').name}",
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            done = 0
            for block in events(rows, seed):
                table = _table(block)
                if not done:
                    file.write((",".join(table.column_names) + "\n").encode())
                pyarrow.csv.write_csv(table, file, options)
                done += table.num_rows
                if progress:
                    progress(done)
        facts = {"synthetic": True, "seed": seed, "rows": rows, "version": VERSION}
        side_car(path).write_text(json.dumps(facts) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(
            f"cannot write synthetic events to {path}: {error.strerror or error}",
            "choose a folder that exists, is writable and has room (about 220 bytes a row)",
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return path


def side_car(path: str | os.PathLike) -> Path:
    """Return where the facts about a file of synthetic events stand: ``training.csv`` -> ``training.json``."""
    return Path(path).with_suffix(".json")
