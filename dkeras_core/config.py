"""The pipeline file as typed, validated objects: read and checked once, then trusted.

``Pipeline.load("dags/pipelines/higgs.yaml")`` either returns a complete object or raises one ``ConfigError`` that
lists every mistake with file, line, key, reason and, where one is close, the name that was probably meant.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from dkeras_core import config_file
from dkeras_core.config_file import Section, meant
from dkeras_core.config_training import Algorithm, Training
from dkeras_core.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
MOST_FOLDS = 1000
Memory = Annotated[str, Field(pattern=r"^[0-9]+[mg]$")]


def mebibytes(memory: str) -> int:
    """Return a memory setting such as ``"2g"`` or ``"1536m"`` in MiB."""
    return int(memory[:-1]) * (1024 if memory[-1] == "g" else 1)


class Input(Section):
    """Where the raw rows stand; a relative path stands below the root folder."""

    path: str = Field(min_length=1)
    format: Literal["csv", "parquet", "sql"] = "csv"
    synthetic: bool = Field(False, description="the rows are made by `dkeras data`, and reports say so")


class Schema(Section):
    """The meaning of the columns. Features are all columns not named otherwise, unless listed."""

    key: str
    label: str
    positive: str | int | float
    negative: str | int | float
    weight: str | None = None
    drop: tuple[str, ...] = ()
    missing: float | None = None
    features: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _distinct(self):
        if str(self.positive) == str(self.negative):
            raise ValueError("positive and negative name the same class")
        roles = [
            self.key,
            self.label,
            *([self.weight] if self.weight else []),
            *self.drop,
            *(self.features or ()),
        ]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise ValueError(f"column {', '.join(twice)} has two roles")
        return self


class Split(Section):
    """Shares of the rows, drawn by a hash of the key; what remains is the training split.

    With ``folds`` the rows are cut into so many parts, and the part number ``fold`` (from 1 on) is the test split.
    """

    test: float = Field(0.2, gt=0, lt=1)
    validation: float = Field(0.0, ge=0, lt=1)
    seed: int = 1
    folds: int | None = Field(None, ge=2, le=MOST_FOLDS)
    fold: int | None = Field(None, ge=1)

    @property
    def span(self) -> tuple[float, float]:
        """Which part of the unit interval, into which the hash of a row's key falls, is the test split."""
        return ((self.fold - 1) / self.folds, self.fold / self.folds) if self.folds else (0.0, self.test)

    @property
    def tested(self) -> float:
        """The share of the rows in the test split."""
        return 1 / self.folds if self.folds else self.test

    @model_validator(mode="after")
    def _one_of_the_folds(self):
        if (self.folds is None) != (self.fold is None):
            raise ValueError("folds and fold belong together: how many there are, and which of them is tested on")
        if self.folds and self.fold > self.folds:
            raise ValueError(f"there is no fold {self.fold} of {self.folds}; the first one is 1")
        return self

    @model_validator(mode="after")
    def _something_left(self):
        if self.tested + self.validation >= 1:
            raise ValueError(f"test ({self.tested:g}) + validation leave no rows to train on")
        return self


class Features(Section):
    impute: Literal["median", "mean", "constant"] = "median"
    indicators: bool = Field(False, description="one 0/1 feature for each column that has missing values")
    standardise: bool = True


class Model(Section):
    """Exactly one of: a registered ``builder``, a ``function`` (``module:function``), or a Keras ``json`` file."""

    builder: str | None = None
    function: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    json_file: str | None = Field(None, alias="json")
    parameters: dict[str, Any] = Field({})
    files: tuple[str, ...] = Field((), description="Python files of `function`, shipped with the job")

    @model_validator(mode="after")
    def _one_source(self):
        named = [key for key in ("builder", "function", "json_file") if getattr(self, key)]
        if len(named) != 1:
            raise ValueError(
                f"name exactly one of builder, function, json (found {', '.join(named) if named else 'none'})"
            )
        return self


class Resources(Section):
    """What is asked of YARN. ``memory`` is the JVM heap; ``memory_overhead: null`` is sized from model and batch."""

    executors: int = Field(2, ge=1)
    cores: int = Field(1, ge=1)
    memory: Memory = "1g"
    memory_overhead: Memory | None = None
    driver_memory: Memory = "1g"
    driver_memory_overhead: Memory | None = None
    driver_cores: int = Field(1, ge=1)
    queue: str = "default"
    conf: dict[str, str | int | float | bool] = Field({}, description="further Spark settings, for sites")

    @field_validator("conf")
    @classmethod
    def _not_ours(cls, conf):
        ours = [
            key
            for key in conf
            if key in ("spark.dynamicAllocation.enabled", "spark.speculation") and str(conf[key]).lower() == "true"
        ]
        if ours:
            raise ValueError(f"{ours[0]} cannot be on: the membership of a training run is fixed")
        wrong = [key for key in conf if not key.startswith("spark.")]
        if wrong:
            raise ValueError(f"{wrong[0]} is not a Spark setting (they begin with 'spark.')")
        return conf


class Gate(Section):
    """Bounds on one metric: absolute (``min``, ``max``) or against production (``max_drop``, ``min_gain``)."""

    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(None, ge=0)
    min_gain: float | None = None

    @model_validator(mode="after")
    def _some_bound(self):
        if all(value is None for value in (self.min, self.max, self.max_drop, self.min_gain)):
            raise ValueError("a gate needs one of min, max, max_drop, min_gain")
        return self


class Evaluation(Section):
    threshold: float = Field(0.5, gt=0, lt=1)
    gates: dict[str, Gate] = Field({})

    @field_validator("gates")
    @classmethod
    def _known_metrics(cls, gates):
        from dkeras_core.evaluation.metrics import METRIC_NAMES

        for name in gates:
            if name not in METRIC_NAMES:
                hint = meant(name, METRIC_NAMES) or f"; metrics are {', '.join(METRIC_NAMES)}"
                raise ValueError(f"unknown metric {name!r}{hint}")
        return gates


class Promotion(Section):
    """What a promotion asks of a version beside the bounds of ``evaluation.gates`` (docs/gates.md)."""

    metric: str = Field("roc_auc", description="compared with the current version where no gate says which")
    max_drop: float = Field(0.01, ge=0, description="how much worse than the current version it may be")
    negligible: float = Field(0.0, ge=0, description="so much worse is no matter, however significant")
    rows: int = Field(200_000, ge=1, description="rows of the test split that are scored, at most")
    environment: Literal["packaged", "running"] = Field(
        "packaged", description="which Python tries the model: that of its lineage, or the one that runs"
    )

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name):
        from dkeras_core.evaluation.bootstrap import WITHOUT_INTERVAL
        from dkeras_core.evaluation.metrics import METRIC_NAMES

        known = [metric for metric in METRIC_NAMES if metric not in WITHOUT_INTERVAL]
        if name not in known:
            raise ValueError(f"unknown metric {name!r}{meant(name, known) or '; metrics are ' + ', '.join(known)}")
        return name


class RegistryEntry(Section):
    model: Name
    promotion: Promotion = Promotion()


class Pipeline(Section):
    """One pipeline: from raw rows to a published version."""

    name: Name
    description: str = ""
    root: str = "/dkeras"
    input: Input
    schema_: Schema = Field(alias="schema")
    split: Split = Split()
    features: Features = Features()
    model: Model
    algorithm: Algorithm = Algorithm()
    training: Training = Training()
    resources: Resources = Resources()
    evaluation: Evaluation = Evaluation()
    registry: RegistryEntry

    @field_validator("root")
    @classmethod
    def _absolute(cls, root):
        if not re.match(r"^(/|[a-z][a-z0-9+.-]*://[^/]*/)[^/]", root):
            raise ValueError(f"must be an absolute path such as /dkeras or hdfs://nameservice/dkeras, not {root!r}")
        return root.rstrip("/")

    @property
    def workers(self) -> int:
        """Number of workers: as set, or one for every executor core."""
        return self.training.workers or self.resources.executors * self.resources.cores

    @property
    def input_path(self) -> str:
        """The input's absolute path."""
        path = self.input.path
        return path if path.startswith("/") or "://" in path else f"{self.root}/{path}"

    @classmethod
    def load(cls, path: str | Path, overrides: list[str] | None = None) -> Pipeline:
        """Read a pipeline file; ``overrides`` are ``key.sub=value`` with values in YAML.

        Raises
        ------
        ConfigError
            With every mistake found: file, line, key, reason and the name that was probably meant.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            near = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
            raise ConfigError(
                f"pipeline file {path} does not exist",
                f"files beside it: {', '.join(near)}" if near else "check the path",
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"pipeline file {path} cannot be read: {error}") from error
        return cls.parse(text, source=str(path), overrides=overrides)

    @classmethod
    def parse(cls, text: str, source: str = "pipeline", overrides: list[str] | None = None) -> Pipeline:
        """Like :meth:`load`, from text; ``source`` is the name used in messages."""
        data, lines = config_file.read(text, source, overrides or [])
        try:
            pipeline = cls.model_validate(data)
        except ValidationError as error:
            raise config_file.refusal(cls, error, data, lines, source) from None
        contradictions = pipeline.training.contradictions(
            pipeline.algorithm, pipeline.workers, pipeline.split.validation
        )
        config_file.refuse(contradictions, lines, source)
        return pipeline

    def to_yaml(self) -> str:
        """Return the complete pipeline, defaults included, as YAML that :meth:`parse` reads back to an equal object."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as JSON-able values under the names of the file."""
        return json.loads(self.model_dump_json(by_alias=True))
