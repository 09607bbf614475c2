"""Roles of columns: misspelt, missing, duplicated and awkward names are named with what is probably meant."""

from __future__ import annotations

import pytest

from dkeras_core.config import Schema
from dkeras_core.data.schema import resolve
from dkeras_core.errors import DataError

HEADER = ["id", "height", "colour", "w", "note", "class"]


def schema(**changes):
    return Schema(**{"key": "id", "label": "class", "positive": 1, "negative": 0, "weight": "w", **changes})


def test_features_are_what_is_left_in_the_order_of_the_header():
    columns = resolve(schema(drop=("note",), categorical=("colour",)), HEADER, "in.csv")
    assert columns.numeric == ("height",) and columns.categorical == ("colour",)
    assert columns.all == ("id", "class", "w", "height", "colour")


def test_listed_features_keep_their_order_and_leave_out_the_rest():
    columns = resolve(schema(weight=None, features=("w", "height")), HEADER, "in.csv")
    assert columns.features == ("w", "height") and columns.weight is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"label": "clas"}, r"in\.csv has no column 'clas' \(probably 'class' is meant\)"),
        ({"key": "ID"}, r"'ID' \(probably 'id' is meant\)"),
        ({"features": ("hieght",)}, r"'hieght' \(probably 'height' is meant\)"),
        ({"drop": ("notes",)}, r"'notes' \(probably 'note' is meant\)"),
        ({"weight": "xyz"}, r"'xyz'; it has 6 columns: id, height, colour, w, note, class"),
        ({"features": ("height",), "categorical": ("colour",)}, "'colour', which is not a feature"),
        ({"drop": ("height", "colour", "note")}, "no column left to be a feature"),
    ],
)
def test_names_that_do_not_fit_are_explained(changes, message):
    with pytest.raises(DataError, match=message):
        resolve(schema(**changes), HEADER, "in.csv")


@pytest.mark.parametrize(
    "header, message",
    [
        (["id", "a", "a", "w", "class"], "'a' stands in the header twice"),
        (["id", "a", "A", "w", "class"], "'a' and 'A' differ only in upper and lower case"),
        (["id", "a.b", "w", "class"], r"feature 'a\.b' has a name that Spark ML cannot take"),
        (["id", "", "w", "class"], "feature '' has a name"),
    ],
)
def test_headers_that_cannot_be_are_refused(header, message):
    with pytest.raises(DataError, match=message):
        resolve(schema(), header, "in.csv")


def test_a_blank_in_the_header_is_seen():
    with pytest.raises(DataError, match="'class' \\(probably ' class' is meant\\)"):
        resolve(schema(), ["id", "height", "w", " class"], "in.csv")
