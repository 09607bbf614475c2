"""What is to be scored, with which version, to where; the version is resolved once, here, and stays the same."""

from __future__ import annotations

import dataclasses
import enum
import json
from dataclasses import dataclass
from typing import Any

from dkeras_core.errors import ConfigError, RegistryError
from dkeras_core.paths import NAME, new_run_id
from dkeras_core.registry import Registry, Version, names
from dkeras_core.registry.cache import checked_digest
from dkeras_core.registry.load import resolve
from dkeras_core.registry.manifest import Manifest
from dkeras_core.scoring import RUNS

Format = enum.StrEnum("Format", ["parquet", "csv"])
_LONGEST_NAME = 36  # of a model within a run id of 64 characters


@dataclass(frozen=True)
class Chosen:
    """The version that a text like ``higgs@production`` named at this moment; ``digest`` is that of its manifest."""

    version: Version
    alias: str | None
    digest: str
    manifest: Manifest

    def __str__(self) -> str:
        return f"{self.version} ({self.alias})" if self.alias else str(self.version)


def choose(registry: Registry, text: str) -> Chosen:
    """Resolve ``name``, ``name@number`` or ``name@alias``; a name alone is its newest version.

    Raises
    ------
    RegistryError
        There is no such model, version or alias, or its manifest is missing, damaged, of a format to come, or not the
        one that was promoted.
    """
    name, at, which = text.partition("@")
    version, promoted = resolve(registry, name, which) if at else (registry.latest(name), None)
    if version is None:
        there = ", ".join(registry.models()) or "none"
        raise RegistryError(f"{name} has no version below {registry.layout.root}/models", f"Models there: {there}.")
    alias = which if at and names.version_number(which) is None else None
    return Chosen(version, alias, checked_digest(version, promoted), version.manifest())


@dataclass(frozen=True)
class ScoreRequest:
    """One scoring.

    Parameters
    ----------
    model, version, alias, digest
        The version, how it was named, and the SHA-256 of its manifest: what the job must find.
    input, output : str
        A file or folder of raw rows, and the folder to make: plain paths of the cluster, or URIs.
    overwrite : bool
        Whether an earlier scoring at ``output`` is replaced.
    column : str
        Name of the score's column; a model of k outputs makes ``<column>_0`` to ``<column>_<k-1>``.
    format : str, optional
        "parquet" or "csv"; the input's own when None.
    environment : str, optional
        Key of the packed environment it runs in.
    modules : tuple of str
        Python modules to import before the model is loaded: they register its custom layers.
    """

    model: str
    version: int
    digest: str
    input: str
    output: str
    alias: str | None = None
    overwrite: bool = False
    column: str = "score"
    format: str | None = None
    environment: str | None = None
    modules: tuple[str, ...] = ()

    def __post_init__(self):
        if self.format not in (None, *Format):
            raise ConfigError(f"--format {self.format!r} is not a format of the output", f"use {' or '.join(Format)}")
        if not self.column.strip() or any(sign in self.column for sign in ".`"):
            raise ConfigError(f"--column {self.column!r} cannot name a column", "use a name without '.' and '`'")

    @classmethod
    def of(cls, chosen: Chosen, **given: Any) -> ScoreRequest:
        version = chosen.version
        return cls(version.name, version.number, chosen.digest, alias=chosen.alias, **given)

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> ScoreRequest:
        given = json.loads(data)
        return cls(**given | {"modules": tuple(given["modules"])})


def new_scoring_id(model: str) -> str:
    """Return a run id for a scoring with a model: ``score-<model>-<UTC>-<hex>``, the name cut where it is too long."""
    run = new_run_id(f"{RUNS}{model[:_LONGEST_NAME].rstrip('-_.')}")
    if not NAME.fullmatch(run.lower()):
        raise ConfigError(f"{run!r} is not a run id")
    return run
