"""What is looked at before an alias may name a version: is it whole, does it score, is it good enough, does it fit?

======================  =============================================================================================
integrity               every file is read back and hashed
scores                  the model loads and gives its sample the scores it was published with, in its own environment
signature               callers of the current version can be served: no further columns, same types, same outputs
thresholds              the bounds ``min`` and ``max`` of the version's own pipeline file hold for its metrics
comparison              on the same rows of its test split it is not worse than the current version by more than allowed
significance            nor is it significantly worse, by a paired bootstrap
======================  =============================================================================================

A check that cannot be made has failed, and says why.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dkeras_core.config import Pipeline, Promotion
from dkeras_core.errors import DkerasError, RegistryError
from dkeras_core.evaluation.gates import gates
from dkeras_core.registry import environments, heldout, judgement, trial
from dkeras_core.registry.manifest import MANIFEST, Manifest
from dkeras_core.registry.registry import Registry, Version
from dkeras_core.registry.signature import Signature, incompatibilities
from dkeras_core.registry.verify import problems, read_manifest, seal
from dkeras_core.storage.local import LocalStorage
from dkeras_core.yarn import package as yarn_package

NAMES = ("integrity", "scores", "signature", "thresholds", "comparison", "significance")
PIPELINE = "pipeline.yaml"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Check:
    """The outcome of one check: a sentence for people, and the numbers behind it."""

    name: str
    passed: bool
    message: str
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def run(
    registry: Registry,
    version: Version,
    current: int | None,
    settings: Promotion | None = None,
    progress: Progress | None = None,
) -> list[Check]:
    """Make all checks of a version, in the order of ``NAMES``.

    Parameters
    ----------
    current : int, optional
        The version that it would take the place of; None where there is none, then it is compared with nothing.
    settings : Promotion, optional
        Default: section ``registry.promotion`` of the version's own pipeline file.

    Returns
    -------
    list of Check
        The first has the key "digest" in its detail: the SHA-256 (hex) of the manifest that was checked.
    """
    with tempfile.TemporaryDirectory(prefix="dkeras-promotion-") as temporary:
        return _Examination(registry, version, current, settings, progress or (lambda _: None), Path(temporary)).run()


def integrity(registry: Registry, version: Version, progress: Progress) -> Check:
    """Make the first of the checks alone."""
    with tempfile.TemporaryDirectory(prefix="dkeras-promotion-") as temporary:
        examination = _Examination(registry, version, None, None, progress, Path(temporary))
        progress(f"reading and hashing {version}")
        return examination.integrity()


class _Examination:
    """The checks of one version, and what they share: its files on this machine, and the scores of both versions."""

    def __init__(self, registry, version, current, settings, progress, temporary):
        self.registry, self.version, self.settings, self.progress = registry, version, settings, progress
        self.temporary = temporary
        self.current = None if current in (None, version.number) else registry.at(version.name, current)
        self.folder, self.other = temporary / "version", temporary / "current"
        self.cancelled = threading.Event()

    def run(self) -> list[Check]:
        self.progress(f"reading and hashing {self.version}")
        integrity = self.integrity()
        if not integrity.passed:
            return [integrity, *(Check(name, False, "not tried: the version is damaged") for name in NAMES[1:])]
        manifest = read_manifest(LocalStorage(), str(self.folder))
        pipeline = self._pipeline()
        settings = self.settings or (pipeline.registry.promotion if isinstance(pipeline, Pipeline) else Promotion())
        damaged = self._fetch_current()
        rows = self._held_out(manifest, settings) if damaged is None and isinstance(pipeline, Pipeline) else None
        scores, mine, theirs = self._score(manifest, settings, rows)
        return [
            integrity,
            scores,
            self._signature(damaged),
            _thresholds(pipeline, manifest),
            *self._compared(pipeline, settings, manifest, (damaged, pipeline, rows, mine, theirs)),
        ]

    def integrity(self) -> Check:
        found = _fetched(self.version, self.folder)
        if found:
            return Check("integrity", False, "; ".join(found), {"problems": found})
        manifest = read_manifest(LocalStorage(), str(self.folder))
        size = sum(entry.size for entry in manifest.files.values())
        digest = seal((self.folder / MANIFEST).read_bytes()).decode().split()[0]
        message = f"{len(manifest.files)} files, {size / 1e6:,.1f} MB, as in the manifest"
        return Check("integrity", True, message, {"digest": digest})

    def _pipeline(self) -> Pipeline | DkerasError:
        """Return the version's own pipeline file, or why it cannot be used."""
        try:
            return Pipeline.parse((self.folder / PIPELINE).read_text("utf-8"), source=f"{self.version}/{PIPELINE}")
        except OSError:
            return RegistryError(f"{self.version} holds no {PIPELINE}, which says what is asked of it")
        except DkerasError as error:
            return error

    def _fetch_current(self) -> DkerasError | None:
        """Fetch the current version; return why it cannot be compared with."""
        if self.current is None:
            return None
        found = _fetched(self.current, self.other)
        return RegistryError(f"the current version {self.current} is damaged: {'; '.join(found)}") if found else None

    def _held_out(self, manifest: Manifest, settings: Promotion) -> heldout.HeldOut | DkerasError | None:
        if self.current is None:
            return None
        self.progress("reading the test split")
        try:
            return heldout.read(self.registry, manifest, self.temporary, settings.rows)
        except (DkerasError, OSError) as error:
            return error if isinstance(error, DkerasError) else RegistryError(str(error))

    def _score(self, manifest: Manifest, settings: Promotion, rows) -> tuple[Check, Any, Any]:
        """Score the sample, and the test split with both versions, each in its own environment, side by side."""
        file = rows.write(self.temporary / "rows.arrow") if isinstance(rows, heldout.HeldOut) else None
        said = f" and {rows.rows} of the test split with it and {self.current}" if file else ""
        self.progress(f"loading {self.version}, scoring its sample{said}")
        package = yarn_package.package(self.temporary)
        with ThreadPoolExecutor(2) as pool:
            try:
                mine = pool.submit(self._tried, self.folder, manifest, settings, package, file)
                theirs = pool.submit(self._their_scores, settings, package, file) if file else None
                found, scores = mine.result()
                return found, scores, theirs.result() if theirs else None
            except BaseException:  # Ctrl-C: the pool waits for its threads
                self.cancelled.set()
                raise

    def _tried(self, folder: Path, manifest: Manifest, settings: Promotion, package: Path, file: Path | None):
        """Return the check ``scores`` of a version and the scores of the rows, or why there are none."""
        target = folder.with_suffix(".npy")
        try:
            environment = environments.find(
                self.registry,
                manifest.lineage.environment,
                packaged=settings.environment == "packaged",
                progress=self.progress,
            )
            outcome = trial.run(folder, environment, package, file, target, self.cancelled)
        except (DkerasError, OSError) as error:
            error = error if isinstance(error, DkerasError) else RegistryError(str(error))
            return Check("scores", False, error.what), error
        detail = {**asdict(outcome), "environment": environment.said}
        scores = np.load(target) if file else None
        if not outcome.rows:
            said = "it loads; it was published without a sample to score"
            return Check("scores", True, f"{said}, in {environment.said}", detail), scores
        worst = max(outcome.difference, outcome.served or 0.0)
        served = "" if outcome.served is None else ", by the SavedModel too"
        message = f"{outcome.rows} rows of the sample differ by {worst:.1e} at most{served}, in {environment.said}"
        return Check("scores", worst <= trial.TOLERANCE, message, detail), scores

    def _their_scores(self, settings: Promotion, package: Path, file: Path) -> np.ndarray | DkerasError:
        manifest = read_manifest(LocalStorage(), str(self.other))
        found, scores = self._tried(self.other, manifest, settings, package, file)
        if isinstance(scores, np.ndarray) and found.passed:
            return scores
        return RegistryError(f"the current version {self.current} cannot be tried: {found.message}")

    def _signature(self, damaged: DkerasError | None) -> Check:
        local = LocalStorage()
        try:
            mine = Signature.read(local, str(self.folder))
            if mine is None:
                return Check("signature", False, "the version has neither signature nor feature pipeline")
            said = f"{len(mine.inputs)} raw columns"
            if self.current is None:
                return Check("signature", True, f"{said}; there is no current version to fit")
            if damaged:
                return Check("signature", False, damaged.what)
            theirs = Signature.read(local, str(self.other))
        except DkerasError as error:
            return Check("signature", False, error.what)
        if theirs is None:
            return Check("signature", False, f"{self.current} has neither signature nor feature pipeline")
        found = incompatibilities(mine, theirs)
        message = "; ".join(found) or f"{said}, as {self.current} takes them"
        return Check("signature", not found, message, {"problems": found})

    def _compared(self, pipeline, settings, manifest, parts) -> tuple[Check, Check]:
        if self.current is None:
            said = "there is no current version to compare with"
            return Check("comparison", True, said), Check("significance", True, said)
        for part in parts:
            if isinstance(part, DkerasError):
                said = f"no comparison: {part.what}"
                return Check("comparison", False, said), Check("significance", False, said)
        *_, rows, mine, theirs = parts
        self.progress(f"comparing {self.version} with {self.current}")
        try:
            comparison, significance = judgement.compare(
                pipeline, settings, rows, mine, theirs, str(self.current), manifest.metrics
            )
        except DkerasError as error:
            return Check("comparison", False, error.what), Check("significance", False, error.what)
        other = self.other / PIPELINE
        note = judgement.split_note(pipeline, other.read_text("utf-8") if other.is_file() else "", str(self.current))
        comparison["message"] += note
        return Check("comparison", **comparison), Check("significance", **significance)


def _fetched(version: Version, folder: Path) -> list[str]:
    """Download a version as it is; return what is wrong with it."""
    try:
        version.storage.download(version.path, folder)
    except DkerasError as error:
        return [error.what]
    return problems(LocalStorage(), str(folder))


def _thresholds(pipeline: Pipeline | DkerasError, manifest: Manifest) -> Check:
    if isinstance(pipeline, DkerasError):
        return Check("thresholds", False, pipeline.what)
    bounds = {metric: {"min": gate.min, "max": gate.max} for metric, gate in pipeline.evaluation.gates.items()}
    bounds = {metric: rules for metric, rules in bounds.items() if set(rules.values()) != {None}}
    try:
        found = gates(bounds, manifest.metrics)
    except DkerasError as error:
        return Check("thresholds", False, error.what)
    failed = [gate for gate in found if not gate.passed]
    message = "; ".join(gate.message for gate in failed or found) or "its pipeline file sets no bounds"
    return Check("thresholds", not failed, message, {"gates": [gate.to_json() for gate in found]})
