"""Step 3: the trained model, and the production version where there is one, on the test split in one pass."""

from __future__ import annotations

from dkeras_core.jobs import report
from dkeras_core.jobs.champion import find_champion
from dkeras_core.jobs.context import Context


def run(context: Context, outcome: dict) -> dict:
    """Evaluate; write ``metrics.json``: metrics with their intervals, the curves, the champion beside it, the gates."""
    from dkeras_core.evaluation.distributed import evaluate
    from dkeras_core.evaluation.gates import gates
    from dkeras_core.evaluation.sources import ModelSource

    pipeline = context.pipeline
    dataset = context.read_json("preprocess", step="preprocess")
    models = {
        "challenger": ModelSource.keras(
            context.storage.read_bytes(f"{context.folder}/model/architecture.json").decode(),
            context.storage.read_bytes(f"{context.folder}/model/weights.bin"),
        )
    }
    champion = find_champion(context, dataset)
    if champion:
        models["champion"] = champion.source
    found = evaluate(
        context.spark,
        f"{dataset['path']}/test",
        models,
        threshold=pipeline.evaluation.threshold,
        class_totals={name: dataset["classes"][name]["weight"]["in"] for name in ("positive", "negative")},
        weighted=pipeline.schema_.weight is not None,
        expected_rows=dataset["rows"]["test"],
        pair=("challenger", "champion") if champion else None,
    )
    outcomes = gates(pipeline.evaluation.gates, found["challenger"], found.get("champion"))
    comparison = found["challenger"].pop("comparison", None)
    metrics = {
        "rows": dataset["rows"]["test"],
        "challenger": found["challenger"],
        "champion": found.get("champion"),
        "champion_version": champion.number if champion else None,
        "comparison": comparison,
        "gates": [gate.to_json() for gate in outcomes],
    }
    context.write_json("metrics", metrics)
    report.write(context)
    auc = found["challenger"]["roc_auc"]
    outcome["detail"] = "only one class in the test split" if auc is None else f"ROC AUC {auc:.4f}"
    return metrics
