"""Step 2: distributed training on the executors against the parameter server in this driver."""

from __future__ import annotations

from pathlib import Path

from dkeras_core import rules
from dkeras_core.jobs.context import Context


def run(context: Context, outcome: dict) -> dict:
    """Train the pipeline's model on the training split; write model and account to the run's folder."""
    import keras

    from dkeras_core.data.spool import Column
    from dkeras_core.learning import model_io
    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.settings import configure_threads
    from dkeras_core.training.address import server_settings
    from dkeras_core.training.driver import TrainingSettings, train
    from dkeras_core.training.spark import SparkLauncher

    pipeline, training = context.pipeline, context.pipeline.training
    dataset = context.read_json("preprocess", step="preprocess")
    configure_threads(pipeline.resources.driver_cores)
    keras.utils.set_random_seed(training.seed)
    features = len(dataset["features"])
    model = _build(context, features)
    flat = FlatModel(model)
    context.progress.message(
        f"{flat.n:,} parameters, {dataset['rows']['train']:,} rows, {pipeline.workers} workers: waiting for executors"
    )
    settings = TrainingSettings(
        rule=rules.get(pipeline.algorithm.name, **pipeline.algorithm.parameters),
        optimizer={"name": training.optimizer.name, **training.optimizer.arguments},
        loss=training.loss,
        epochs=training.epochs,
        batch_size=training.batch_size,
        workers=pipeline.workers,
        inputs=(Column("features", shape=(features,)),),
        rows=dataset["rows"]["train"],
        seed=training.seed,
        threads=1,
        result=training.result,
        join_deadline=training.join_deadline,
        silence_deadline=training.silence_deadline,
        server=server_settings(context.spark),
    )
    frame = context.spark.read.parquet(f"{dataset['path']}/train")
    result = train(
        model_io.to_json(model),
        flat.get(),
        flat.get_state() if flat.state_n else None,
        settings,
        SparkLauncher(context.spark, frame),
        observe=lambda state: context.progress.update(**state),
    )
    flat.set(result.weights)
    if result.state is not None:
        flat.set_state(result.state)
    folder = f"{context.folder}/model"
    context.storage.write_atomic(f"{folder}/architecture.json", model_io.to_json(model).encode())
    context.storage.write_atomic(f"{folder}/weights.bin", model_io.weights_to_bytes(model))
    account = result.account
    context.write_json("train", account)
    outcome["detail"] = f"{account['rows_trained']:,} rows trained, {account['rows_per_second']:,.0f} rows/s"
    return account


def _build(context: Context, features: int):
    """Build the pipeline's model; files of its own were brought into the working directory by spark-submit."""
    from dkeras_core.learning.builders import build_model

    source = context.pipeline.model.model_dump(by_alias=True)
    if source["json"]:
        source["json"] = Path(source["json"]).name
    return build_model(source, n_features=features)
