"""Each kind of bad input: one DataError that says what, where and what to do, and nothing left of the attempt."""

from __future__ import annotations

import gzip

import pytest

from dkeras_core.errors import DataError


def cell(text, row, column, value):
    """Return CSV text with one cell replaced; row 1 is the first after the header."""
    lines = text.splitlines()
    cells = lines[row].split(",")
    cells[lines[0].split(",").index(column)] = value
    return "\n".join([*lines[:row], ",".join(cells), *lines[row + 1 :]]) + "\n"


def refused(run, path, message, *settings):
    """Preprocess, which must fail; return the error after looking for leftovers."""
    with pytest.raises(DataError, match=message) as caught:
        run(path, *settings)
    assert caught.value.next_step and caught.value.exit_code == 3
    folder = path.parent / "root" / "data" / "higgs"
    assert not folder.exists() or not list(folder.iterdir())
    return caught.value


BY_HEADER = {
    "misspelt column": (
        lambda t: t.replace("Label", "Labl", 1),
        r"in\.csv has no column 'Label' \(probably 'Labl' is meant\)",
    ),
    "duplicated column": (
        lambda t: t.replace("PRI_tau_pt", "PRI_jet_num", 1),
        "'PRI_jet_num' stands in the header twice",
    ),
    "empty": (lambda t: "", "is empty"),
    "header only": (lambda t: t.splitlines()[0] + "\n", "a header and no rows"),
    "header without newline": (lambda t: t.splitlines()[0], "a header and no rows"),
    "binary": (lambda t: b"\x7fELF\x02\x01\0\0" + bytes(100), r"holds binary data \(at byte 6\)"),
    "binary from the middle": (lambda t: t.encode()[:5000] + bytes(200), r"holds binary data \(at byte 5,000\)"),
    "Parquet called CSV": (lambda t: b"PAR1" + bytes(20), "is a Parquet file"),
    "not UTF-8": (lambda t: t.replace("PRI_tau_pt", "PRI_t\xe4u").encode("latin-1"), "not UTF-8"),
}


@pytest.mark.parametrize("kind", BY_HEADER)
def test_what_the_beginning_of_the_file_shows(run, narrow, tmp_path, kind):
    change, message = BY_HEADER[kind]
    text = change(narrow)
    path = tmp_path / "in.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(run, path, message)


BY_ROWS = {
    "label of neither class": (
        lambda t: cell(cell(cell(t, 3, "Label", "x"), 9, "Label", "x"), 5, "Label", "S"),
        r"'Label' holds neither 's' nor 'b' in 3 of 300 rows, but 'x' \(2\), 'S' \(1\)",
    ),
    "no label": (lambda t: cell(t, 3, "Label", ""), r"in 1 of 300 rows, but nothing \(1\)"),
    "one class": (
        lambda t: "".join(line for line in t.splitlines(keepends=True) if not line.endswith(",s\n")),
        r"all \d+ rows are of class 'b' in column 'Label', none is 's'",
    ),
    "cut off": (lambda t: t[:-20], r"in\.csv:301: 1 row .* header's 6, the first has \d.*the file was cut off"),
    "cut off before the label": (lambda t: t[:-2], "in 1 of 300 rows, but nothing"),
    "too many cells": (lambda t: cell(t, 7, "PRI_tau_pt", "1,2"), r"in\.csv:8: 1 row .* header's 6, the first has 7"),
    "NaN": (
        lambda t: cell(cell(t, 9, "PRI_tau_pt", "NaN"), 12, "PRI_tau_pt", "nan"),
        r"feature 'PRI_tau_pt' holds 'NaN' .* in 2 rows \(for example at EventId 100008\)",
    ),
    "infinite": (lambda t: cell(t, 9, "PRI_tau_pt", "-Infinity"), "feature 'PRI_tau_pt' holds '-Infinity'"),
    "text in two features": (
        lambda t: cell(cell(t, 9, "PRI_tau_pt", "n/a"), 10, "PRI_jet_num", "two"),
        r"feature 'PRI_tau_pt' holds 'n/a' .*100008.*other columns with such values: 'PRI_jet_num' \(1\)",
    ),
    "no weight": (lambda t: cell(t, 9, "Weight", ""), "weight 'Weight' holds no value where a number is needed"),
    "no key": (lambda t: cell(t, 9, "EventId", " "), "key 'EventId' holds no value in 1 row"),
    "a feature never there": (
        lambda t: "\n".join([t.splitlines()[0], *(cell_of_all(line) for line in t.splitlines()[1:])]) + "\n",
        "'DER_mass_MMC' is missing in every row of the training split",
    ),
    "too few rows": (lambda t: "".join(t.splitlines(keepends=True)[:4]), r"the \w+ split \(\d+%\) of 3 rows holds"),
}


def cell_of_all(line):
    cells = line.split(",")
    return ",".join([cells[0], "-999.0", *cells[2:]])


@pytest.mark.parametrize("kind", BY_ROWS)
def test_what_the_rows_show(run, narrow, tmp_path, kind):
    change, message = BY_ROWS[kind]
    path = tmp_path / "in.csv"
    path.write_text(change(narrow))
    refused(run, path, f"(?s){message}")


def test_a_path_that_is_not_there_names_what_is(run, narrow, tmp_path):
    (tmp_path / "training.csv").write_text(narrow)
    refused(run, tmp_path / "trainin.csv", r"trainin\.csv does not exist \(did you mean 'training\.csv'\?\)")
    (tmp_path / "folder").mkdir()
    refused(run, tmp_path / "folder", "holds no data files")


def test_a_packed_file_that_was_cut_off(run, narrow, tmp_path):
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(narrow.encode())[:-1000])
    refused(run, path, "cannot be unpacked, it is damaged or cut off")


def test_files_of_one_input_with_different_headers(run, narrow, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text(narrow)
    (folder / "b.csv").write_text(narrow.replace("PRI_tau_pt,PRI_jet_num", "PRI_jet_num,PRI_tau_pt"))
    refused(run, folder, r"b\.csv has another header than .*a\.csv: 'PRI_jet_num' instead of 'PRI_tau_pt'")


def test_parquet_that_is_damaged_or_is_none(run, narrow, spark, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(narrow)
    refused(run, path, r"is not a Parquet file: it begins with b'Even'", "input.format=parquet")
    spark.read.csv(str(path), header=True).coalesce(1).write.parquet(str(tmp_path / "whole"))
    whole = next((tmp_path / "whole").glob("part-*.parquet")).read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    refused(run, tmp_path / "cut.parquet", "is damaged, cut off or in another format", "input.format=parquet")


def test_a_column_of_a_type_that_is_no_number(run, narrow, spark, tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(narrow)
    table = spark.read.csv(str(path), header=True).selectExpr("*", "array(1, 2) AS hits")
    table.write.parquet(str(tmp_path / "in.parquet"))
    refused(run, tmp_path / "in.parquet", "column 'hits' is of type array", "input.format=parquet")


@pytest.mark.parametrize(
    "query, message",
    [
        ("SELECT * FRM x", "Syntax error"),
        ("SELECT nothing FROM VALUES (1) AS t(a)", "nothing"),
        ("SELECT * FROM parquet.`/no/such/folder`", "/no/such/folder"),
        (" ; ", "holds no query"),
        ("SELECT 1 AS EventId, 's' AS Label, 1.0 AS Wight, 2.0 AS x", r"'Weight' \(probably 'Wight' is meant\)"),
    ],
)
def test_a_query_that_is_wrong(run, tmp_path, query, message):
    path = tmp_path / "in.sql"
    path.write_text(query)
    refused(run, path, message, "input.format=sql")


def test_too_many_categories(run, narrow, tmp_path, monkeypatch):
    from dkeras_core.data import spark_features

    monkeypatch.setattr(spark_features, "MAX_CATEGORIES", 10)
    path = tmp_path / "in.csv"
    path.write_text(narrow)
    refused(
        run, path, "categorical feature 'PRI_tau_pt' has 2.. values, more than 10", "schema.categorical=[PRI_tau_pt]"
    )
