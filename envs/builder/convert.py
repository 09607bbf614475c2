"""One wheel becomes one conda package with the wheel's own dependencies, platform floor and console scripts."""

from __future__ import annotations

import base64
import configparser
import csv
import hashlib
import io
import os
import re
import sys
import tempfile
import zipfile
from datetime import UTC, datetime
from email.parser import Parser
from pathlib import Path, PurePosixPath

from dkeras_core.errors import EnvironmentBuildError
from envs.builder.specs import PYTHON, SITE_PACKAGES, excluded

TIMESTAMP = datetime(2020, 1, 1, tzinfo=UTC)
COMPRESSION = 1  # these packages never leave the machine

# Finds its interpreter beside itself: `exec` is for the shell, and a harmless string for Python.
CONSOLE_SCRIPT = """#!/bin/sh
'''exec' "$(dirname "$(readlink -f "$0")")/python{python}" "$0" "$@"
' '''
import sys
from {module} import {attribute}
sys.exit({function}())
"""

MARKER_ENVIRONMENT = {
    "python_version": PYTHON,
    "python_full_version": f"{PYTHON}.0",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "extra": "",
}


def wheel_to_conda(wheel: Path, digest: str, channel: Path) -> Path:
    """Repack a wheel as ``<channel>/linux-64/<name>-<version>-<build>.conda`` and return that path.

    Parameters
    ----------
    wheel : Path
        A wheel for CPython 3.11 on linux x86_64, or a pure one.
    digest : str
        Identity of the wheel and of the recipe: becomes the build string, so that a changed one is never mixed up.
    channel : Path
        Folder of the local channel. A package that stands there already is taken as it is.
    """
    from rattler_build import FileEntry, assemble_package

    with tempfile.TemporaryDirectory(prefix=".convert-", dir=channel) as folder:
        stage = Path(folder)
        files = stage / "files"
        with zipfile.ZipFile(wheel) as archive:
            info = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
            info = info.removesuffix("/METADATA")
            metadata = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
            tags = Parser().parsestr(archive.read(f"{info}/WHEEL").decode()).get_all("Tag", [])
            name, version = canonical(metadata["Name"]), metadata["Version"]
            package = channel / "linux-64" / f"{name}-{version}-py311_{digest}.conda"
            if package.exists():
                return package
            moved = _unpack(archive, files, PurePosixPath(info).name, name)
        scripts = _write_console_scripts(files / SITE_PACKAGES / info)
        _finish_record(files / SITE_PACKAGES / info, moved, [*scripts, f"{SITE_PACKAGES}/{info}/INSTALLER"])
        out = stage / "out"
        # Explicit entries instead of a folder: only these are in the package, in this order.
        entries = [
            FileEntry.from_paths(path, path.relative_to(files).as_posix())
            for path in sorted(files.rglob("*"))
            if path.is_file()
        ]
        made = assemble_package(
            name=name, version=version, target_platform="linux-64", build_string=f"py311_{digest}", output_dir=out,
            files=entries, depends=dependencies(metadata.get_all("Requires-Dist", []), tags),
            license=None, summary=metadata["Summary"], compression_level=COMPRESSION, compression_threads=2,
            timestamp=TIMESTAMP, detect_prefix=False,
        )  # fmt: skip
        package.parent.mkdir(parents=True, exist_ok=True)
        Path(made.path).rename(package)
        return package


def canonical(name: str) -> str:
    """Return the normalised name of a distribution (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def dependencies(requires: list[str], tags: list[str]) -> list[str]:
    """Translate ``Requires-Dist`` lines and platform tags into conda match specifications.

    ``manylinux_2_28`` becomes ``__glibc >=2.28``: the solver then refuses a machine that is too old.
    """
    from packaging.requirements import Requirement

    depends = [f"python {PYTHON}.*"]
    for line in requires:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate(MARKER_ENVIRONMENT):
            continue
        constraint = ",".join(sorted(_conda_constraint(s.operator, s.version) for s in requirement.specifier))
        depends.append(f"{canonical(requirement.name)} {constraint}".strip())
    floor = glibc_floor(tags)
    return [*depends, f"__glibc >={floor[0]}.{floor[1]}"] if floor else depends


def glibc_floor(tags: list[str]) -> tuple[int, int] | None:
    """Return the oldest glibc that the platform tags of a wheel promise to run on; None for a pure wheel."""
    legacy = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}
    floors = []
    for tag in tags:
        for platform in tag.split("-")[-1].split("."):
            if match := re.match(r"manylinux_(\d+)_(\d+)_", platform):
                floors.append((int(match[1]), int(match[2])))
            elif (old := platform.split("_")[0]) in legacy:
                floors.append(legacy[old])
    return min(floors, default=None)


def _conda_constraint(operator: str, version: str) -> str:
    if operator == "===":
        return f"=={version}"
    if operator == "==" and version.endswith(".*"):
        return version
    return f"{operator}{version}"


def _unpack(archive: zipfile.ZipFile, files: Path, info: str, name: str) -> dict[str, str]:
    """Unpack to where conda puts things; return the moved paths {path in the wheel: path below the prefix}."""
    data = info.replace(".dist-info", ".data")
    schemes = {
        "purelib": SITE_PACKAGES,
        "platlib": SITE_PACKAGES,
        "scripts": "bin",
        "data": "",
        "headers": f"include/python{PYTHON}/{name}",
    }
    moved = {}
    for member in archive.infolist():
        if member.is_dir():
            continue
        parts = PurePosixPath(member.filename).parts
        if ".." in parts or PurePosixPath(member.filename).is_absolute():
            raise EnvironmentBuildError(f"{archive.filename}: unsafe path {member.filename!r} in the wheel")
        if parts[0] == data:
            target = PurePosixPath(schemes[parts[1]], *parts[2:])
            moved[member.filename] = str(target)
        else:
            target = PurePosixPath(SITE_PACKAGES, *parts)
        if excluded(str(target)) or target.name in ("INSTALLER", "REQUESTED", "direct_url.json"):
            continue
        content = archive.read(member)
        executable = (member.external_attr >> 16) & 0o111 or target.parts[0] == "bin"
        if target.parts[0] == "bin":
            content = re.sub(rb"\A#!python\w*", f"#!/usr/bin/env python{PYTHON}".encode(), content)
        path = files / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)
    (files / SITE_PACKAGES / info / "INSTALLER").write_text("conda\n")
    return moved


def _write_console_scripts(info: Path) -> list[str]:
    entry_points = configparser.ConfigParser(delimiters=("=",))
    entry_points.optionxform = str
    if (info / "entry_points.txt").exists():
        entry_points.read_string((info / "entry_points.txt").read_text())
    scripts = []
    prefix = info.parents[len(PurePosixPath(SITE_PACKAGES).parts)]
    for section in ("console_scripts", "gui_scripts"):
        for name, target in entry_points[section].items() if section in entry_points else ():
            module, _, function = target.split("[")[0].strip().partition(":")
            path = prefix / "bin" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(
                CONSOLE_SCRIPT.format(python=PYTHON, module=module, attribute=function.split(".")[0], function=function)
            )
            path.chmod(0o755)
            scripts.append(f"bin/{name}")
    return scripts


def _finish_record(info: Path, moved: dict[str, str], added: list[str]) -> None:
    """Rewrite RECORD for the files that stand elsewhere than in the wheel, and for the added ones."""
    prefix = info.parents[len(PurePosixPath(SITE_PACKAGES).parts)]
    rows = {}
    for row in csv.reader(io.StringIO((info / "RECORD").read_text())):
        if row and not row[0].endswith(("/INSTALLER", "/REQUESTED", "/direct_url.json")):
            path = moved.get(row[0])
            row[0] = os.path.relpath(path, SITE_PACKAGES) if path else row[0]
            rows[row[0]] = row
    for path in [*added, *(p for p in moved.values() if p.startswith("bin/") and (prefix / p).exists())]:
        content = (prefix / path).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        relative = os.path.relpath(path, SITE_PACKAGES)
        rows[relative] = [relative, f"sha256={digest}", str(len(content))]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows[key] for key in sorted(rows))
    (info / "RECORD").write_text(text.getvalue())


def main() -> None:
    """Convert one wheel in a process of its own: ``python -m envs.builder.convert WHEEL DIGEST CHANNEL``."""
    print(wheel_to_conda(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))


if __name__ == "__main__":
    main()
