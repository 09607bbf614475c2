"""What goes into the environment: specifications, hash lock, what is left out, and the key of it all."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dkeras_core.errors import EnvironmentBuildError

ENVS = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
SITE_PACKAGES = f"lib/python{PYTHON}/site-packages"

# Raise this when the builder makes other bytes from the same inputs: it is part of the key.
RECIPE = 2

# Never needed at run time (C++ headers, static libraries, tests of libraries, the clang bindings of TensorFlow).
EXCLUDES = (
    f"{SITE_PACKAGES}/tensorflow/include/*",
    f"{SITE_PACKAGES}/clang/*",
    f"{SITE_PACKAGES}/numpy/*/tests/*",
    f"{SITE_PACKAGES}/pandas/tests/*",
    f"{SITE_PACKAGES}/pyarrow/tests/*",
    f"{SITE_PACKAGES}/pyarrow/include/*",
    "*.a",
)

# PyPI and conda-forge disagree about these names only.
CONDA_FORGE_NAMES = {"hdfs": "python-hdfs"}


@dataclass(frozen=True)
class LockedPackage:
    """One line of a hash lock: canonical name, exact version, the accepted SHA-256 sums (wheels and source)."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def requirement(self) -> str:
        """Return the line as pip reads it in hash-checking mode."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in self.hashes)])

    def digest(self) -> str:
        """Return a short identity of name, version and hashes."""
        return hashlib.sha256(self.requirement().encode()).hexdigest()[:12]


def read_lock(path: Path) -> list[LockedPackage]:
    """Read a hash lock made by ``envs/lock.sh``.

    Raises
    ------
    EnvironmentBuildError
        When a package has no hash or no exact version.
    """
    packages = []
    text = path.read_text().replace("\\\n", " ")
    for line in text.splitlines():
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = re.match(r"([a-z0-9][a-z0-9._-]*)==(\S+)\s", line + " ")
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        if not match or not hashes:
            raise EnvironmentBuildError(
                f"{path}: '{line.split('--hash')[0].strip()}' is not pinned with hashes",
                "re-make the locks with envs/lock.sh",
            )
        packages.append(LockedPackage(match[1], match[2], hashes))
    return packages


def read_specs(path: Path) -> list[str]:
    """Return the top-level specifications of a ``*.in`` file."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def conda_forge_specs(path: Path) -> list[str]:
    """Return the same specifications under conda-forge's names, Python included."""
    specs = [f"python {PYTHON}.*"]
    for line in read_specs(path):
        name, constraint = re.fullmatch(r"([A-Za-z0-9._-]+)(.*)", line).groups()
        specs.append(f"{CONDA_FORGE_NAMES.get(name, name)} {constraint}".strip())
    return specs


def excluded(path: str) -> bool:
    """Tell whether a path relative to the environment's prefix is left out of the archive."""
    return any(fnmatchcase(path, pattern) for pattern in EXCLUDES)


def archive_key(inputs: dict) -> str:
    """Return the 16 hex digits that name an archive: a hash of what it is made from, never of its bytes."""
    canonical = json.dumps({"recipe": RECIPE, "excludes": EXCLUDES, **inputs}, sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
