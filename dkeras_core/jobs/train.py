"""Step 2: distributed training on the executors against the parameter server in this driver."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from dkeras_core.jobs.context import Context


def run(context: Context, outcome: dict) -> dict:
    """Train the pipeline's model on the training split; write model, account and events to the run's folder."""
    import keras

    from dkeras_core.learning import model_io
    from dkeras_core.learning.checks import check_model
    from dkeras_core.learning.flat import FlatModel
    from dkeras_core.learning.settings import configure_threads
    from dkeras_core.training.driver import train
    from dkeras_core.training.events import EventLog, file_name
    from dkeras_core.training.spark import SparkLauncher

    pipeline, training = context.pipeline, context.pipeline.training
    dataset = context.read_json("preprocess", step="preprocess")
    configure_threads(pipeline.resources.driver_cores)
    keras.utils.set_random_seed(training.seed)
    settings = _settings(context, dataset)
    model = _build(context, len(dataset["features"]))
    check_model(model, settings.inputs, settings.labels, settings.loss)
    flat = FlatModel(model)
    context.progress.message(
        f"{settings.rule.name}, communication period {settings.rule.communication_period}, {flat.n:,} parameters, "
        f"{settings.rows:,} rows, {settings.workers} workers: waiting for executors"
    )
    context.storage.delete(f"{context.folder}/events", recursive=True)  # of an earlier training of this run
    events = f"{context.folder}/events/{file_name()}"
    with closing(EventLog(lambda data: context.storage.write_atomic(events, data))) as log:
        result = train(
            model_io.to_json(model),
            flat.get(),
            flat.get_state() if flat.state_n else None,
            settings,
            SparkLauncher(
                context.spark,
                context.spark.read.parquet(f"{dataset['path']}/train"),
                join_deadline=settings.join_deadline,
            ),
            observe=lambda state: context.progress.update(**state),
            validation=_validation(context, dataset, settings),
            events=log,
        )
    model = result.trained(model)
    folder = f"{context.folder}/model"
    context.storage.write_atomic(f"{folder}/architecture.json", model_io.to_json(model).encode())
    context.storage.write_atomic(f"{folder}/weights.bin", model_io.weights_to_bytes(model))
    account = result.account
    context.write_json("train", account)
    outcome["detail"] = f"{account['rows_trained']:,} rows trained, {account['rows_per_second']:,.0f} rows/s"
    if account["stopped"]:
        outcome["detail"] += f", stopped early: {account['stopped']}"
    return account


def _settings(context: Context, dataset: dict):
    from dkeras_core.data.columns import Column
    from dkeras_core.training.address import server_settings
    from dkeras_core.training.driver import EarlyStopping, TrainingSettings
    from dkeras_core.training.scaling import scaling

    pipeline, training = context.pipeline, context.pipeline.training
    optimizer = {"name": training.optimizer.name, **training.optimizer.arguments}
    rule = pipeline.algorithm.rule()
    scaled = scaling(optimizer, pipeline.workers, rule, training.learning_rate_scaling)
    return TrainingSettings(
        rule=rule,
        optimizer=optimizer,
        loss=training.loss,
        epochs=training.epochs,
        batch_size=training.batch_size,
        workers=pipeline.workers,
        inputs=(Column("features", shape=(len(dataset["features"]),)),),
        rows=dataset["rows"]["train"],
        class_weight=training.class_weight,
        seed=training.seed,
        threads=1,
        result=training.result,
        learning_rate_scale=scaled.scale,
        warmup=scaled.warmup if training.warmup is None else training.warmup,
        warm_start=scaled.warm_start if training.warm_start is None else training.warm_start,
        overlap=training.overlap,
        exchange_share=training.exchange_share,
        on_nonfinite=training.on_nonfinite,
        wire=training.wire,
        early_stopping=EarlyStopping(**training.early_stopping.model_dump()) if training.early_stopping else None,
        target_loss=training.target_loss,
        join_deadline=training.join_deadline,
        silence_deadline=training.silence_deadline,
        step_deadline=training.step_deadline,
        barrier_deadline=training.barrier_deadline,
        server=server_settings(context.spark),
    )


def _validation(context: Context, dataset: dict, settings):
    """The rows of the validation split that the driver holds; None when the pipeline holds none back."""
    from dkeras_core.training.driver import Validation

    wanted, rows = context.pipeline.training.validation, dataset["rows"]["validation"]
    if not context.pipeline.split.validation:
        return None
    names = [name for column in (*settings.inputs, *settings.labels) for name in column.reads]
    frame = context.spark.read.parquet(f"{dataset['path']}/validation").select(*names)
    if rows > 2 * wanted.rows:  # a few more than wanted, so that chance leaves enough
        frame = frame.sample(1.2 * wanted.rows / rows, seed=settings.seed)
    return Validation.from_batches(
        frame.toArrow().to_batches(),
        settings.inputs,
        settings.labels,
        limit=wanted.rows,
        seed=settings.seed,
        metrics=wanted.metrics,
    )


def _build(context: Context, features: int):
    """Build the pipeline's model; files of its own were brought into the working directory by spark-submit."""
    from dkeras_core.learning.builders import build_model

    source = context.pipeline.model.model_dump(by_alias=True)
    if source["json"]:
        source["json"] = Path(source["json"]).name
    return build_model(source, n_features=features)
