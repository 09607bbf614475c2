"""Solves the specifications against a channel and installs the solution into a prefix, both by rattler.

Runs as a process of its own (``python -m envs.builder.prefix``): rattler's threads survive neither an interrupt nor
the end of the interpreter reliably, and a process can always be ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.specs import ENVS

DEADLINE = 1800  # seconds: a channel on the network may be slow


def solve(channel: str, specs: list[str], cache: Path) -> list[dict]:
    """Return the solution as records (name, version, build, url, sha256, depends…), sorted by name."""
    return _run({"do": "solve", "channel": channel, "specs": specs, "cache": str(cache)})


def install(records: list[dict], prefix: Path, cache: Path) -> None:
    """Install the records of a solution into a new prefix; packages are unpacked below ``cache``."""
    _run({"do": "install", "records": records, "prefix": str(prefix), "cache": str(cache)})


def _run(request: dict):
    process = subprocess.Popen(
        [sys.executable, "-m", "envs.builder.prefix"], cwd=ENVS.parent, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        output, errors = process.communicate(json.dumps(request), timeout=DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        if "No space left on device" in errors or "os error 28" in errors:
            raise OSError(28, "No space left on device", request["cache"])
        reason = errors.strip().splitlines()[-1] if errors.strip() else f"exit status {process.returncode}"
        what = "the specifications cannot be met" if request["do"] == "solve" else "installing the packages failed"
        raise EnvironmentBuildError(
            f"{what} ({request.get('channel', 'solution')}): {reason}",
            "see envs/train.in and, for a channel on the network, that it is reachable (ENV_CHANNEL)",
        )
    return json.loads(output)


async def _solve(request: dict) -> list[dict]:
    from rattler import Gateway, VirtualPackage
    from rattler import solve as rattler_solve

    # The build host's processor is left out: the archive must run on every node.
    machine = [package for package in VirtualPackage.detect() if "Archspec" not in repr(package)]
    records = await rattler_solve(
        sources=[request["channel"]],
        specs=request["specs"],
        gateway=Gateway(cache_dir=Path(request["cache"])),
        platforms=["linux-64", "noarch"],
        virtual_packages=machine,
    )
    return sorted((json.loads(record.to_json()) for record in records), key=lambda record: record["name"])


async def _install(request: dict) -> None:
    from rattler import PackageRecord, RepoDataRecord
    from rattler import install as rattler_install

    cache = Path(request["cache"])
    cache.mkdir(parents=True, exist_ok=True)
    records = []
    for record in request["records"]:
        index = cache / "index.json"  # rattler reads a record from a file only
        index.write_text(json.dumps(record))
        package = PackageRecord.from_index_json(index, record["size"], record["sha256"], record.get("md5"))
        records.append(RepoDataRecord(package, record["fn"], record["url"], record["channel"]))
    index.unlink()
    await rattler_install(records, target_prefix=request["prefix"], cache_dir=cache, show_progress=False)


def main() -> None:
    request = json.load(sys.stdin)
    status = 0
    try:
        json.dump(asyncio.run({"solve": _solve, "install": _install}[request["do"]](request)), sys.stdout)
    except Exception as error:
        traceback.print_exc()
        print(" ".join(str(error).split()), file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # the interpreter may crash while rattler's threads still run


if __name__ == "__main__":
    main()
