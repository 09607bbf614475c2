"""The first look at a CSV file, by function and by command."""

from __future__ import annotations

import pandas as pd
import pytest
from typer.testing import CliRunner

from dkeras_core.cli.data import app
from dkeras_core.data.describe import describe
from dkeras_core.errors import DataError


def test_it_counts_classes_weights_and_missing_values(events):
    found = describe(events, "Label", "Weight", -999.0)
    raw = pd.read_csv(events)
    assert found.rows == 2000 and found.synthetic["seed"] == 3
    for name, group in raw.groupby("Label"):
        rows, weight = found.classes[name]
        assert rows == len(group) and weight == pytest.approx(group["Weight"].sum())
    column = next(c for c in found.columns if c.name == "DER_mass_MMC")
    defined = raw["DER_mass_MMC"][raw["DER_mass_MMC"] != -999.0]
    assert column.missing == 2000 - len(defined) and column.mean == pytest.approx(defined.mean())
    assert (column.smallest, column.largest) == (defined.min(), defined.max())


def test_a_file_without_label_weight_or_side_car(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,name\n1,a\n,b\n")
    found = describe(path, "Label", "Weight", -999.0)
    assert found.classes == {} and found.synthetic is None
    assert (found.columns[0].missing, found.columns[0].mean) == (1, 1.0)


@pytest.mark.parametrize(
    "text, message", [("a,b\n", "no rows"), ("", "cannot be read"), ("a,b\n1,2\n3\n", "cannot be read")]
)
def test_files_that_cannot_be_described(tmp_path, text, message):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        describe(path, "Label", "Weight", -999.0)
    with pytest.raises(DataError, match="does not exist"):
        describe(tmp_path / "none.csv", "Label", "Weight", -999.0)


def test_the_commands_write_and_show_and_say_synthetic(tmp_path):
    path = tmp_path / "out.csv"
    result = CliRunner().invoke(app, ["higgs", "--rows", "40", "--seed", "4", "--output", str(path)])
    assert result.exit_code == 0 and "40 synthetic events" in result.output
    assert len(path.read_text().splitlines()) == 41
    result = CliRunner().invoke(app, ["describe", str(path)])
    assert result.exit_code == 0 and "synthetic" in result.output and "DER_mass_MMC" in result.output
    assert "SYNTHETIC" in CliRunner().invoke(app, ["higgs", "--help"]).output
