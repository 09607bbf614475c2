"""The ends of log files, and what they say about a failure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_RECORD = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (\w+)")
_NOISE = re.compile(r"^\s+at |^\s+\.\.\. \d+ more|^/?\*+/?$|SHUTDOWN_MSG|STARTUP_MSG|^\s*$|^java\.lang\.Exception$")


def tail(file: Path, lines: int) -> list[str]:
    """Return the last ``lines`` lines of ``file``; a file that is not there has none."""
    size = 256 * max(lines, 16)
    try:
        with file.open("rb") as stream:
            end = stream.seek(0, 2)
            while True:
                start = max(0, end - size)
                stream.seek(start)
                block = stream.read(end - start)
                if start == 0 or block.count(b"\n") > lines:
                    break
                size *= 4
    except FileNotFoundError:
        return []
    return block.decode(errors="replace").splitlines()[-lines:]


def explain(files: Iterable[Path], lines: int = 10) -> str:
    """Return what the ends of these logs say about a failure, indented: their last ERROR or FATAL record without
    stack frames where there is one, else their last lines."""
    chosen: list[str] = []
    for file in files:
        end = tail(file, 400)
        last = max((i for i, line in enumerate(end) if _level(line) in ("ERROR", "FATAL")), default=None)
        if last is not None:
            stop = next((i for i in range(last + 1, len(end)) if _level(end[i])), len(end))
            chosen += [line for line in end[last:stop] if not _NOISE.search(line)][:lines]
        else:
            chosen += [line for line in end if not _NOISE.search(line)][-lines:]
    shown = dict.fromkeys(f"  {line[:300]}" for line in chosen)  # the same cause is often logged twice
    return "\n".join(shown) or "  (nothing was logged)"


def _level(line: str) -> str | None:
    match = _RECORD.match(line)
    return match[1] if match else None
