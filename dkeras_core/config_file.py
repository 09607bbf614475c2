"""Reads a file of settings and says what is wrong with it: file, line, key, reason, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from dkeras_core.errors import ConfigError

Lines = dict[tuple[str, ...], int | str]
"""Key -> the line where it is written, or the override that set it."""


_NEXT = "mend the pipeline file, or the setting over it, and try again"


class Section(BaseModel):
    """A part of the file whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def read(text: str, source: str, overrides: Iterable[str] = ()) -> tuple[dict, Lines]:
    """Return the values of a YAML text, ``key.sub=value`` overrides put in, and the line of every key.

    Raises
    ------
    ConfigError
        Not YAML, not a mapping, or a key that is written twice.
    """
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
    for override in overrides:
        lines[_override(data, override)] = override
    return data, lines


def refusal(model: type[BaseModel], error: ValidationError, data: dict, lines: Lines, source: str) -> ConfigError:
    """Return one error that lists every mistake pydantic found in ``data``."""
    problems = [_explain(model, problem, lines, source, data) for problem in error.errors()]
    return ConfigError("\n".join(dict.fromkeys(problems)), _NEXT)


def refuse(mistakes: Iterable[tuple[str, str]], lines: Lines, source: str) -> None:
    """Raise one ConfigError for all (dotted key, reason), or do nothing when there is none."""
    problems = [f"{_where(tuple(key.split('.')), lines, source)}: {key}: {reason}" for key, reason in mistakes]
    if problems:
        raise ConfigError("\n".join(problems), _NEXT)


def meant(name: str, known) -> str:
    """Return ``" (did you mean 'x'?)"`` when a known name is close to ``name``, else an empty string."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _kind(value) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _lines(node, source: str, prefix: tuple = ()) -> Lines:
    """Map each key path to its line, and refuse a key that is written twice (YAML would silently keep the last)."""
    found: Lines = {}
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


def _override(data: dict, override: str) -> tuple[str, ...]:
    """Put ``key.sub=value`` in, and return the key."""
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
    return tuple(path)


def _explain(model: type[BaseModel], problem: dict, lines: Lines, source: str, data: dict) -> str:
    location = tuple(str(part) for part in problem["loc"])
    where = _where(location, lines, source)
    key = ".".join(location) or "pipeline"
    if problem["type"] == "extra_forbidden":
        siblings = _keys_of(model, location[:-1])
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


def _where(location: tuple[str, ...], lines: Lines, source: str) -> str:
    """File and line of a key, or of the part of its path that is written there; and the override that set it."""
    found = [lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in lines]
    line = next((f":{one}" for one in found if isinstance(one, int)), "")
    override = next((f": set by {one}" for one in found if isinstance(one, str)), "")
    return f"{source}{line}{override}"


def _keys_of(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """Return the keys that may stand at a place, empty where it holds no section."""
    parts = iter(location)
    for part in parts:
        field = next((f for n, f in model.model_fields.items() if (f.alias or n) == part), None)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not nested:
            return []
        model = nested[0]
        if get_origin(field.annotation) is dict:
            next(parts, None)  # a name that the user chose
    return [field.alias or name for name, field in model.model_fields.items()]


def _at(data, location: tuple[str, ...]):
    for part in location:
        data = data.get(part) if isinstance(data, dict) else None
    return data
