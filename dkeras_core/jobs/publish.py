"""Step 4: the evaluated model becomes the next version of the registered model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dkeras_core.errors import RegistryError
from dkeras_core.jobs import report
from dkeras_core.jobs.context import Context


def run(context: Context, outcome: dict) -> dict:
    """Publish the run's model; return the version's number and path.

    Raises
    ------
    RegistryError
        A gate of the pipeline failed, and the message names it.
    """
    from dkeras_core.registry import Registry

    pipeline = context.pipeline
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
        version = Registry(context.storage, pipeline.root).publish(
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
    outcome["detail"] = f"version {version.number}"
    return published


def _assemble(context: Context, temporary: Path, dataset: dict) -> Path:
    """Write the version's files into a local folder and return it."""
    from dkeras_core.learning import model_io
    from dkeras_core.registry.export import assemble

    read = context.storage.read_bytes
    model = model_io.from_json(read(f"{context.folder}/model/architecture.json").decode())
    model_io.weights_from_bytes(model, read(f"{context.folder}/model/weights.bin"))
    context.storage.download(f"{dataset['path']}/features", temporary / "features")
    return assemble(
        temporary / "version",
        model,
        {
            "features": temporary / "features",
            "features.json": read(f"{dataset['path']}/features.json"),
            "metrics.json": read(f"{context.folder}/metrics.json"),
            "train.json": read(f"{context.folder}/train.json"),
            "pipeline.yaml": context.pipeline.to_yaml().encode(),
            "report.html": report.render(context),
        },
    )
