"""A published version as something that scores: its Keras model behind its own feature pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dkeras_core.errors import RegistryError
from dkeras_core.registry.manifest import Manifest
from dkeras_core.registry.registry import Version
from dkeras_core.registry.verify import problems, read_manifest
from dkeras_core.storage.local import LocalStorage

if TYPE_CHECKING:
    import keras
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    from dkeras_core.data.features import FeaturePipeline

BATCH = 4096


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. ``pipeline`` is None when the version carries no features.json."""

    model: keras.Model
    pipeline: FeaturePipeline | None
    manifest: Manifest

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


def load(source: Version | Path | str) -> LoadedModel:
    """Load a version, or the local folder that holds one (``Registry.fetch``), after verifying every file.

    Raises
    ------
    RegistryError
        A file is missing, changed or too many, or the manifest is of a format to come; the file is named.
    """
    if isinstance(source, Version):
        with tempfile.TemporaryDirectory(prefix="dkeras-") as folder:
            return _read(source.fetch(Path(folder, "version")))
    folder = Path(source).absolute()
    found = problems(LocalStorage(), str(folder))
    if found:
        raise RegistryError(f"{folder} is damaged: {'; '.join(found)}", "Fetch the version again.")
    return _read(folder)


def _read(folder: Path) -> LoadedModel:
    import keras

    pipeline = None
    if (folder / "features.json").exists():
        from dkeras_core.data.features import FeaturePipeline

        pipeline = FeaturePipeline.load(folder / "features.json")
    model = keras.models.load_model(folder / "model.keras", compile=False)
    return LoadedModel(model, pipeline, read_manifest(LocalStorage(), str(folder)))
