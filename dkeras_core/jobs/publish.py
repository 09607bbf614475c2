"""Step 4: the evaluated model becomes the next version of the registered model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dkeras_core.errors import RegistryError
from dkeras_core.jobs import report
from dkeras_core.jobs.context import Context

if TYPE_CHECKING:
    import keras

    from dkeras_core.data.features import FeaturePipeline


def run(context: Context, outcome: dict) -> dict:
    """Publish the run's model; return the version's number and path.

    Raises
    ------
    RegistryError
        A gate of the pipeline failed, and the message names it.
    """
    from dkeras_core.registry import Registry, page

    pipeline = context.pipeline
    registry = Registry(context.storage, pipeline.root)
    dataset = context.read_json("preprocess", step="preprocess")
    metrics = context.read_json("metrics", step="evaluate")
    failed = [gate for gate in metrics["gates"] if not gate["passed"]]
    if failed:
        raise RegistryError(
            "not published, a gate failed: " + "; ".join(gate["message"] for gate in failed),
            f"look at the report of the run ({context.folder}/report.html), train better, or change evaluation.gates",
        )
    with tempfile.TemporaryDirectory(prefix="dkeras-version-") as temporary:
        folder = _assemble(context, Path(temporary), dataset)
        version = registry.publish(
            pipeline.registry.model,
            folder,
            run_id=context.run_id,
            lineage={
                "pipeline": pipeline.name,
                "data_path": pipeline.input_path,
                "data_fingerprint": dataset["fingerprint"],
                "environment": context.environment_key,
                "application": context.application,
                "parent": metrics["champion_version"],
                "synthetic": pipeline.input.synthetic,
            },
            metrics={name: value for name, value in metrics["challenger"].items() if name != "curves"},
        )
    published = {"model": version.name, "version": version.number, "path": context.uri(version.path)}
    context.write_json("publish", published)
    page.refresh(registry)
    outcome["detail"] = f"version {version.number}"
    return published


def _assemble(context: Context, temporary: Path, dataset: dict) -> Path:
    """Write the version's files into a local folder and return it."""
    from dkeras_core.data.features import FeaturePipeline
    from dkeras_core.learning import model_io
    from dkeras_core.registry.export import assemble
    from dkeras_core.registry.signature import SIGNATURE, Signature
    from dkeras_core.registry.trial import SAMPLE

    read = context.storage.read_bytes
    features = read(f"{dataset['path']}/features.json")
    pipeline = FeaturePipeline.from_json(features)
    model = model_io.from_json(read(f"{context.folder}/model/architecture.json").decode())
    model_io.weights_from_bytes(model, read(f"{context.folder}/model/weights.bin"))
    context.storage.download(f"{dataset['path']}/features", temporary / "features")
    return assemble(
        temporary / "version",
        model,
        {
            "features": temporary / "features",
            "features.json": features,
            SIGNATURE: Signature.of(pipeline, model).to_bytes(),
            SAMPLE: _sample(context, dataset, pipeline, model),
            "metrics.json": read(f"{context.folder}/metrics.json"),
            "train.json": read(f"{context.folder}/train.json"),
            "pipeline.yaml": context.pipeline.to_yaml().encode(),
            "report.html": report.render(context),
        },
    )


def _sample(context: Context, dataset: dict, features: FeaturePipeline, model: keras.Model) -> bytes:
    """Return some raw rows of the test split with the scores that the version gives them.

    RegistryError when the features made from the raw rows are not those that Spark made: raw rows would then be scored
    otherwise than the model was evaluated.
    """
    import pyarrow as pa

    from dkeras_core.evaluation.sources import matrix
    from dkeras_core.learning.prediction import predict
    from dkeras_core.registry.trial import SAMPLE_ROWS, sample

    rows = context.spark.read.parquet(f"{dataset['path']}/test").select("raw", "features").limit(SAMPLE_ROWS).toArrow()
    raw = rows.column("raw").combine_chunks()
    table = pa.table(raw.flatten(), names=[field.name for field in raw.type])
    mine, theirs = features.transform(table), matrix(rows.column("features").combine_chunks(), "features")
    if not np.allclose(mine, theirs, rtol=1e-4, atol=1e-4):
        column = features.names[int(np.abs(mine - theirs).max(axis=0).argmax())]
        raise RegistryError(
            f"not published: the feature {column!r} made from raw rows is not the one in {dataset['path']}/test",
            "Preprocess the data again with this version of dkeras (delete that folder first), and train again.",
        )
    scores = np.asarray(predict(model, mine), np.float32)
    return sample(table.select(features.columns), scores[:, 0] if scores.shape[1:] == (1,) else scores)
