"""The production version as a model to evaluate: its own features from the raw columns of the test split."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dkeras_core.data.features import FeaturePipeline
from dkeras_core.errors import RegistryError
from dkeras_core.jobs.context import Context

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from dkeras_core.evaluation.sources import ModelSource


@dataclass(frozen=True)
class Champion:
    """The version behind the alias ``production``, ready for :func:`dkeras_core.evaluation.distributed.evaluate`."""

    number: int
    source: ModelSource


def find_champion(context: Context, dataset: dict) -> Champion | None:
    """Return the production version of the pipeline's model, None when none was promoted yet.

    Raises
    ------
    RegistryError
        A file of the version is missing or is not what its manifest says, or it needs columns that the data no
        longer have while a gate compares with it.
    """
    from dkeras_core.evaluation.sources import ModelSource
    from dkeras_core.registry import Registry

    version = Registry(context.storage, context.pipeline.root).production(context.pipeline.registry.model)
    if version is None:
        return None
    files = version.manifest().files
    read = {}
    for name in ("model.keras", "features.json"):
        read[name] = context.storage.read_bytes(f"{version.path}/{name}") if name in files else b""
        if name not in files or hashlib.sha256(read[name]).hexdigest() != files[name].sha256:
            raise RegistryError(
                f"the production version {version} is damaged: {name} is missing or not what the manifest says",
                f"look with `dkeras models verify {version}`, and promote another version",
            )
    if read["features.json"] == context.storage.read_bytes(f"{dataset['path']}/features.json"):
        return Champion(version.number, ModelSource(load_keras, read["model.keras"]))
    features = FeaturePipeline.from_json(read["features.json"])
    there = context.spark.read.parquet(f"{dataset['path']}/test").schema["raw"].dataType.fieldNames()
    missing = sorted(set(features.columns) - set(there))
    if not missing:
        return Champion(
            version.number,
            ModelSource(load_keras, read["model.keras"], columns=("raw",), transform=FromRaw(features)),
        )
    if any(
        gate.max_drop is not None or gate.min_gain is not None for gate in context.pipeline.evaluation.gates.values()
    ):
        raise RegistryError(
            f"the production version {version} cannot be compared: it needs the columns {', '.join(missing)}, "
            "which are no features of these data",
            "take max_drop and min_gain out of evaluation.gates for this run, or give the data these columns again",
        )
    context.progress.message(f"the production version {version} needs {', '.join(missing)}: evaluated without it")
    return None


@dataclass(frozen=True)
class FromRaw:
    """Applies a version's own feature numbers to the struct column ``raw`` of the test split."""

    features: FeaturePipeline

    def __call__(self, batch: pa.RecordBatch) -> np.ndarray:
        import pyarrow as pa

        raw = batch.column("raw")
        columns = raw.flatten()
        names = [field.name for field in raw.type]
        return self.features.transform(pa.RecordBatch.from_arrays(columns, names=names))


def load_keras(payload: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Return the prediction of a model from the bytes of its ``model.keras``."""
    import keras

    with tempfile.TemporaryDirectory(prefix="dkeras-champion-") as folder:
        path = Path(folder, "model.keras")
        path.write_bytes(payload)
        model = keras.models.load_model(path, compile=False)
    return lambda features: model.predict_on_batch(features)
