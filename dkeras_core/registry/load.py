"""A published version as something that scores: its Keras model behind its own feature pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkeras_core.errors import RegistryError
from dkeras_core.registry import names
from dkeras_core.registry.cache import Cache, local_digest
from dkeras_core.registry.manifest import Manifest
from dkeras_core.registry.opening import open_registry
from dkeras_core.registry.registry import Registry, Version
from dkeras_core.registry.verify import problems, read_manifest
from dkeras_core.storage.local import LocalStorage

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from dkeras_core.data.features import FeaturePipeline

BATCH = 4096
_REFERENCE = re.compile(r"([^@/\\]+)@([^@/\\]+)")


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory.

    ``pipeline`` is None when the version carries no features.json. ``digest``, the SHA-256 (hex) of the manifest, names
    the content; ``version`` is where it came from, None for a folder.
    """

    model: keras.Model
    pipeline: FeaturePipeline | None
    manifest: Manifest
    digest: str
    version: Version | None = None

    def predict(self, rows: pa.Table | pa.RecordBatch | pd.DataFrame | Mapping[str, Any]) -> np.ndarray:
        """Score raw rows, as they stand before preprocessing: float32 [n] or [n, classes].

        RegistryError when the version has no feature pipeline; DataError when a column is missing or has another type.
        """
        if self.pipeline is None:
            raise RegistryError(
                f"this version of {self.manifest.name} has no features.json", "Use predict_features, or publish again."
            )
        return self.predict_features(self.pipeline.transform(rows))

    def predict_features(self, features: np.ndarray) -> np.ndarray:
        """Score preprocessed rows, float32 [n, d]: float32 [n], or [n, classes] where there are several outputs."""
        scores = self.model.predict(features, batch_size=BATCH, verbose=0)
        return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores


def load(
    source: Version | Path | str,
    *,
    root: str | None = None,
    registry: Registry | None = None,
    cache: Cache | None = None,
) -> LoadedModel:
    """Load a model by its name, after verifying every file.

    Parameters
    ----------
    source : str, Path or Version
        ``"higgs@production"`` or ``"higgs@7"``; or a local folder that holds a version (``Registry.fetch``), as a Path
        when its name holds an ``@``.
    root : str, optional
        Where the registry is (``open_registry``); default ``$DKERAS_ROOT``, else ``/dkeras``.
    registry : Registry, optional
        The registry itself, instead of ``root``.
    cache : Cache, optional
        Where local copies are kept; default ``$XDG_CACHE_HOME/dkeras/models``, of 10 GB at most.

    Raises
    ------
    RegistryError
        No such model, alias or version; a file is missing, changed or too many; the manifest is of a format to come,
        or is not the one that was promoted. The file is named.
    """
    expected = None
    if not isinstance(source, Version):
        reference = None if isinstance(source, Path) else _REFERENCE.fullmatch(source)
        if reference is None:
            return _load_folder(Path(source).absolute())
        source, expected = resolve(registry or open_registry(root), *reference.groups())
    with (cache or Cache()).held(source, expected) as folder:
        return _read(folder, source)


def resolve(registry: Registry, name: str, which: str) -> tuple[Version, str | None]:
    """Return the version that a number or an alias names, and the SHA-256 (hex) that its manifest must have.

    An alias is read once, and its pointer holds the hash of what was promoted; a number says nothing of that (None).
    RegistryError when there is no such version.
    """
    pointer = None if names.version_number(which) else registry.pointer(name, which)
    if pointer is None:
        return registry.version(name, which), None
    return registry.version(name, pointer.number), pointer.digest


def _load_folder(folder: Path) -> LoadedModel:
    if not folder.is_dir():
        raise RegistryError(
            f"{folder}: there is no such folder", "Name a folder, or a version: higgs@production, higgs@7."
        )
    found = problems(LocalStorage(), str(folder))
    if found:
        raise RegistryError(f"{folder} is damaged: {'; '.join(found)}", "Fetch the version again.")
    return _read(folder)


def _read(folder: Path, version: Version | None = None) -> LoadedModel:
    import keras

    pipeline = None
    if (folder / "features.json").exists():
        from dkeras_core.data.features import FeaturePipeline

        pipeline = FeaturePipeline.load(folder / "features.json")
    model = keras.models.load_model(folder / "model.keras", compile=False)
    manifest = read_manifest(LocalStorage(), str(folder))
    return LoadedModel(model, pipeline, manifest, local_digest(folder), version)
