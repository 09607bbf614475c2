"""The pipeline file as typed, validated objects: read and checked once, then trusted.

``Pipeline.load("dags/pipelines/higgs.yaml")`` either returns a complete object or raises one ``ConfigError`` that
lists every mistake with file, line, key, reason and, where one is close, the name that was probably meant.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dkeras_core.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Memory = Annotated[str, Field(pattern=r"^[0-9]+[mg]$")]


def mebibytes(memory: str) -> int:
    """Return a memory setting such as ``"2g"`` or ``"1536m"`` in MiB."""
    return int(memory[:-1]) * (1024 if memory[-1] == "g" else 1)


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


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
    """Shares of the rows, drawn by a hash of the key; what remains is the training split."""

    test: float = Field(0.2, gt=0, lt=1)
    validation: float = Field(0.0, ge=0, lt=1)
    seed: int = 1

    @model_validator(mode="after")
    def _something_left(self):
        if self.test + self.validation >= 1:
            raise ValueError("test + validation leave no rows to train on")
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
    parameters: dict[str, Any] = {}
    files: tuple[str, ...] = Field((), description="Python files of `function`, shipped with the job")

    @model_validator(mode="after")
    def _one_source(self):
        named = [key for key in ("builder", "function", "json_file") if getattr(self, key)]
        if len(named) != 1:
            raise ValueError(
                f"name exactly one of builder, function, json (found {', '.join(named) if named else 'none'})"
            )
        return self


class Algorithm(BaseModel):
    """The distributed algorithm: its name, and the hyper-parameters of that rule beside it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "asynchronous_easgd"

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.__pydantic_extra__ or {})

    @model_validator(mode="after")
    def _known_rule(self):
        from dkeras_core import rules

        rules.get(self.name, **self.parameters)
        return self


class Optimizer(BaseModel):
    """A Keras optimizer by name with its arguments; the state of the optimizer stays with the worker."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str = "adam"
    learning_rate: float = Field(0.001, gt=0)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate, **(self.__pydantic_extra__ or {})}


class Training(Section):
    """What is common to all algorithms. ``workers: null`` means one worker for every executor core."""

    epochs: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=1)
    workers: int | None = Field(None, ge=1, le=4096)
    optimizer: Optimizer = Optimizer()
    loss: str = "binary_crossentropy"
    result: Literal["mean", "center", "ema"] = "mean"
    seed: int = 1
    join_deadline: float = Field(180.0, gt=0, description="seconds until every worker must have joined")
    silence_deadline: float = Field(300.0, gt=0, description="seconds a worker may be silent before it counts as lost")


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
    gates: dict[str, Gate] = {}

    @field_validator("gates")
    @classmethod
    def _known_metrics(cls, gates):
        from dkeras_core.evaluation.metrics import METRIC_NAMES

        for name in gates:
            if name not in METRIC_NAMES:
                hint = meant(name, METRIC_NAMES) or f"; metrics are {', '.join(METRIC_NAMES)}"
                raise ValueError(f"unknown metric {name!r}{hint}")
        return gates


class RegistryEntry(Section):
    model: Name


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
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{source}:{mark.line + 1}" if mark else source
            raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{source}: expected keys such as name, input, schema, model; found {_kind(data)}")
        lines = _lines(node, source)
        for override in overrides or []:
            _override(data, override)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            problems = [_explain(problem, lines, source, data) for problem in error.errors()]
            raise ConfigError("\n".join(dict.fromkeys(problems)), "mend the pipeline file and try again") from None

    def to_yaml(self) -> str:
        """Return the complete pipeline, defaults included, as YAML that :meth:`parse` reads back to an equal object."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the pipeline as JSON-able values under the names of the file."""
        return json.loads(self.model_dump_json(by_alias=True))


def meant(name: str, known) -> str:
    """Return ``" (did you mean 'x'?)"`` when a known name is close to ``name``, else an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _kind(value) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _lines(node, source: str, prefix: tuple = ()) -> dict[tuple, int]:
    """Map each key path to its line, and refuse a key that is written twice (YAML would silently keep the last)."""
    found: dict[tuple, int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            if path in found:
                raise ConfigError(
                    f"{source}:{key.start_mark.line + 1}: key {'.'.join(path)} is written twice "
                    f"(first in line {found[path]})"
                )
            found[path] = key.start_mark.line + 1
            found.update(_lines(value, source, path))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found[(*prefix, str(index))] = value.start_mark.line + 1
            found.update(_lines(value, source, (*prefix, str(index))))
    return found


def _override(data: dict, override: str) -> None:
    key, sign, value = override.partition("=")
    path = key.strip().split(".")
    if not sign or not all(path):
        raise ConfigError(f"setting {override!r} is not of the form key.sub=value")
    for part in path[:-1]:
        if not isinstance(data.setdefault(part, {}), dict):
            raise ConfigError(f"setting {override!r}: {part} holds a value, not keys")
        data = data[part]
    try:
        data[path[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"setting {override!r}: the value is not valid YAML: {error}") from None


def _explain(problem: dict, lines: dict[tuple, int], source: str, data: dict) -> str:
    location = tuple(str(part) for part in problem["loc"])
    known_to = next((lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines), None)
    where = f"{source}:{known_to}" if known_to else source
    key = ".".join(location) or "pipeline"
    if problem["type"] == "extra_forbidden":
        siblings = _keys_of(Pipeline, location[:-1])
        hint = meant(location[-1], siblings) or f"; keys here are {', '.join(siblings)}"
        return f"{where}: unknown key {key}{hint}"
    if problem["type"] == "missing":
        given = _at(data, location[:-1])
        near = [k for k in given if meant(k, [location[-1]])] if isinstance(given, dict) else []
        return f"{where}: key {key} is missing" + (f" (found {near[0]!r})" if near else "")
    reason = problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if problem["type"] == "string_pattern_mismatch":
        reason = {"memory": "a number with m or g, such as 512m or 2g"}.get(
            location[-1].split("_")[-1].replace("overhead", "memory"),
            f"must match {problem['ctx']['pattern']}",
        )
    choices = re.findall(r"'([^']*)'", problem.get("ctx", {}).get("expected", "")) if problem.get("ctx") else []
    hint = meant(problem["input"], choices) if choices and isinstance(problem["input"], str) else ""
    shown = problem["input"] if not isinstance(problem["input"], dict | list) else None
    value = f" = {shown!r}" if shown is not None else ""
    expected = f"expected {reason}" if problem["msg"].startswith("Input should be ") else reason
    return f"{where}: {key}{value}: {expected}{hint}"


def _keys_of(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    for part in location:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == part), None)
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())] if field else [Gate]
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return [field.alias or name for name, field in model.model_fields.items()]


def _at(data, location: tuple[str, ...]):
    for part in location:
        data = data.get(part) if isinstance(data, dict) else None
    return data
