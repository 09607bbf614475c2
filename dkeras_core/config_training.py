"""The sections of the pipeline file about training: the algorithm, the optimizer, and what is common to all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dkeras_core.config_file import Section


class Algorithm(BaseModel):
    """The distributed algorithm: its name, and the hyper-parameters of that rule beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "asynchronous_easgd"

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    def rule(self):
        """The update rule of that name with these hyper-parameters. Raises ConfigError when there is none such."""
        from dkeras_core import rules

        return rules.get(self.name, **self.parameters)

    @model_validator(mode="after")
    def _known_rule(self):
        self.rule()
        return self


class Optimizer(BaseModel):
    """A Keras optimizer by name with its arguments; the state of the optimizer stays with the worker."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "adam"
    learning_rate: float = Field(0.001, gt=0)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, **(self.__pydantic_extra__ or {})}


class Validation(Section):
    """What is measured on the center at the ends of epochs, on rows of the validation split (split.validation)."""

    rows: int = Field(20_000, ge=1, description="rows at most, drawn from the validation split; the driver holds them")
    metrics: tuple[str, ...] = Field(("accuracy", "AUC"), description="Keras metrics by name, beside the loss")


class EarlyStopping(Section):
    """When a run ends before its epochs are over."""

    monitor: str = Field("val_loss", description="val_loss, val_<metric>, or loss (of training)")
    patience: int = Field(2, ge=0, description="epochs without an improvement that are borne")
    min_delta: float = Field(0.0, ge=0, description="what counts as an improvement")
    mode: Literal["auto", "min", "max"] = Field("auto", description="whether less or more is better")
    restore_best: bool = Field(False, description="take the best center when the run's own result is worse")

    @model_validator(mode="after")
    def _consistent(self):
        from dkeras_core.training.settings import EarlyStopping as Checked

        Checked(**self.model_dump())
        return self


class Training(Section):
    """What is common to all algorithms. ``workers: null`` means one worker for every executor core."""

    epochs: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=1, description="of one worker")
    workers: int | None = Field(None, ge=1, le=4096)
    optimizer: Optimizer = Optimizer()
    loss: Any = Field(
        "binary_crossentropy", description="a Keras loss by name, or a mapping with class_name and config"
    )
    class_weight: dict[int, Annotated[float, Field(ge=0)]] | None = Field(
        None, description="weight of the rows of class 0 (negative) and 1 (positive)"
    )
    learning_rate_scaling: Any = Field(
        "auto", description="factor on the learning rate for p workers; auto: as measured, none: 1"
    )
    warmup: float | None = Field(
        None, ge=0, lt=1, description="share of the local steps over which the learning rate rises; null: as it scales"
    )
    warm_start: int | None = Field(
        None, ge=0, description="local steps that worker 0 makes alone before the others begin; null: as it scales"
    )
    result: Literal["mean", "center", "ema", "ensemble"] | None = Field(
        None, description="what is published; null: what suits the algorithm"
    )
    overlap: bool = Field(False, description="let an exchange travel while the next window is computed")
    wire: Literal["float32", "bfloat16", "float16"] = Field("float32", description="how vectors travel")
    exchange_share: float = Field(
        0.05, gt=0, lt=1, description="of the time, that communication_period auto allows for exchanges"
    )
    on_nonfinite: Literal["stop", "drop"] = Field(
        "stop", description="a worker whose loss or parameters are not finite stops the run, or drops out of it"
    )
    validation: Validation = Validation()
    early_stopping: EarlyStopping | None = None
    target_loss: float | None = Field(None, description="end the run when the (validation) loss is this or less")
    seed: int = 1
    join_deadline: float = Field(180.0, gt=0, description="seconds until every worker must have joined")
    silence_deadline: float = Field(300.0, gt=0, description="seconds a worker may be silent before it counts as lost")
    step_deadline: float = Field(
        3600.0, gt=0, description="seconds a worker may live without finishing a local step before it counts as lost"
    )
    barrier_deadline: float = Field(
        300.0, gt=0, description="seconds that workers that meet wait for one that is not there, or silent so long"
    )

    # Of a union, pydantic would tell one mistake for each of its types; these tell one.

    @field_validator("loss")
    @classmethod
    def _some_loss(cls, loss):
        if not isinstance(loss, str | list | dict):
            raise ValueError("must be a loss by name, a list of them, or a mapping with class_name and config")
        return loss

    @field_validator("learning_rate_scaling")
    @classmethod
    def _some_scaling(cls, scaling):
        number = isinstance(scaling, int | float) and not isinstance(scaling, bool)
        if not (scaling > 0 if number else scaling in ("auto", "none")):
            raise ValueError("must be auto, none, or a number above 0")
        return scaling

    @field_validator("class_weight")
    @classmethod
    def _two_classes(cls, weights):
        strange = [label for label in weights or {} if label not in (0, 1)]
        if strange:
            raise ValueError(f"the classes are 0 (negative) and 1 (positive), not {strange[0]}")
        return weights

    def contradictions(self, algorithm: Algorithm, workers: int, validation: float) -> Iterator[tuple[str, str]]:
        """Yield (key, reason) for what the algorithm cannot do with these settings.

        ``validation`` is the share of the rows that is held back for validation.
        """
        from dkeras_core.training.settings import contradictions

        for setting, reason in contradictions(
            algorithm.rule(),
            workers,
            result=self.result,
            overlap=self.overlap,
            warm_start=self.warm_start or 0,
            early_stopping=self.early_stopping,
            wire=self.wire,
        ):
            yield f"training.{setting}", reason
        if self.early_stopping and self.early_stopping.monitor != "loss" and not validation:
            yield (
                "training.early_stopping",
                f"monitors {self.early_stopping.monitor}, but no rows are held back: set split.validation, "
                "or monitor loss",
            )
