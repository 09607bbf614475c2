"""The columns of the input and their roles, checked by name before any row is read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from dkeras_core.config import Schema
from dkeras_core.errors import DataError


@dataclass(frozen=True)
class Columns:
    """Names of the input's columns by role; ``numeric`` and ``categorical`` together are the features, in order."""

    key: str
    label: str
    weight: str | None
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]

    @property
    def features(self) -> tuple[str, ...]:
        return self.numeric + self.categorical

    @property
    def all(self) -> tuple[str, ...]:
        return (self.key, self.label, *((self.weight,) if self.weight else ()), *self.features)


def resolve(schema: Schema, header: list[str], where: str) -> Columns:
    """Give each column of ``header`` its role.

    Parameters
    ----------
    schema : the roles that the pipeline file names.
    header : names of the columns in the order of the input.
    where : the input's path, for messages.

    Raises
    ------
    DataError
        A name stands twice (Spark does not tell upper from lower case), a named column is missing (with the one
        probably meant), no feature is left, or a feature has a name that Spark ML cannot take.
    """
    _refuse_duplicates(header, where)
    wanted = [
        schema.key,
        schema.label,
        *([schema.weight] if schema.weight else []),
        *schema.drop,
        *(schema.features or ()),
        *schema.categorical,
    ]
    missing = [name for name in dict.fromkeys(wanted) if name not in header]
    if missing:
        described, all_near = _listed(missing, header)
        raise DataError(
            f"{where} has no column {described}"
            + ("" if all_near else f"; it has {len(header)} columns: {_shown(header)}"),
            "correct the name in the section schema of the pipeline file, or the header of the input",
        )
    others = {schema.key, schema.label, schema.weight, *schema.drop}
    features = schema.features or tuple(name for name in header if name not in others)
    stray = [name for name in schema.categorical if name not in features]
    if stray:
        raise DataError(
            f"schema.categorical names {', '.join(map(repr, stray))}, which is not a feature",
            "add it to schema.features, or take it out of schema.categorical",
        )
    if not features:
        raise DataError(f"{where} has no column left to be a feature: {_shown(header)}", "check schema.drop")
    awkward = [name for name in features if "." in name or "`" in name or not name.strip()]
    if awkward:
        raise DataError(
            f"{where}: feature {awkward[0]!r} has a name that Spark ML cannot take (it is empty or holds '.' or '`')",
            "rename the column in the input, or read it through a SQL file: SELECT `a.b` AS a_b, ...",
        )
    return Columns(
        schema.key,
        schema.label,
        schema.weight,
        tuple(name for name in features if name not in schema.categorical),
        tuple(name for name in features if name in schema.categorical),
    )


def _refuse_duplicates(header: list[str], where: str) -> None:
    seen: dict[str, str] = {}
    for name in header:
        other = seen.get(name.lower())
        if other is not None:
            case = "" if other == name else f" ({other!r} and {name!r} differ only in upper and lower case)"
            raise DataError(
                f"{where}: column {name!r} stands in the header twice{case}",
                "rename or remove one of the two columns",
            )
        seen[name.lower()] = name


def _listed(missing: list[str], header: list[str]) -> tuple[str, bool]:
    """Return the missing names with what was probably meant, and whether that is known for all of them."""
    described, lower = [], {name.strip().lower(): name for name in header}
    for name in missing:
        # Only case or blanks differ, or a few letters do.
        near = [lower[name.strip().lower()]] if name.strip().lower() in lower else []
        near = near or difflib.get_close_matches(name, header, n=1, cutoff=0.6)
        described.append(repr(name) + (f" (probably {near[0]!r} is meant)" if near else ""))
    return ", ".join(described), all(text.endswith(" is meant)") for text in described)


def _shown(header: list[str], limit: int = 40) -> str:
    names = ", ".join(name if len(name) <= 40 else name[:37] + "..." for name in header[:limit])
    return names + (f", ... ({len(header) - limit} more)" if len(header) > limit else "")
