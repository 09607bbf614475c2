"""The ends of log files."""

from __future__ import annotations

import re
from pathlib import Path

_NOISE = re.compile(r"^\s+at |^\s+\.\.\. \d+ more|^/?\*+/?$|SHUTDOWN_MSG|STARTUP_MSG|^\s*$")


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
    return block.decode(errors="replace").splitlines()[-lines:] if lines > 0 else []


def explain(log: Path, lines: int = 12) -> str:
    """Return what the end of a daemon's log, and of what it printed (``.out``), says about its failure: without
    stack frames and banners, indented."""
    kept = [line for file in (log, log.with_suffix(".out")) for line in tail(file, 400) if not _NOISE.search(line)]
    errors = [line for line in kept if re.search(r" (ERROR|FATAL) |Exception|Error", line)]
    chosen = (errors or kept)[-lines:]
    return "\n".join(f"  {line[:300]}" for line in chosen) or f"  ({log} is empty)"
