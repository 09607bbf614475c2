"""Step 1: raw rows -> checked, split, standardised Parquet; reused while data and settings are unchanged."""

from __future__ import annotations

from dkeras_core.jobs.context import Context


def run(context: Context, outcome: dict) -> dict:
    """Preprocess the pipeline's input; return the data set's description."""
    from dkeras_core.data.preprocess import preprocess

    info = preprocess(
        context.spark, context.pipeline, context.storage, context.layout, context.progress.message, run=context.run_id
    )
    if info.reused:
        outcome["state"] = "reused"
    outcome["detail"] = f"{info.rows['train']:,} rows to train on, {info.rows['test']:,} to test on"
    context.write_json("preprocess", info.to_json())
    return info.to_json()
