"""Scoring raw rows with a published version: right scores, all rows and columns, and a folder that appears whole."""

import contextlib
import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dkeras_core.errors import ConfigError, DataError, PathExists, RegistryError
from dkeras_core.registry import Registry
from dkeras_core.registry.cache import Cache
from dkeras_core.registry.load import load
from dkeras_core.scoring.request import ScoreRequest, choose
from dkeras_core.scoring.rows import load_folder, values_of
from dkeras_core.scoring.score import score
from dkeras_core.storage.local import LocalStorage

pytestmark = pytest.mark.slow


class Told:
    """Stands where progress.json is written."""

    def __init__(self):
        self.phases, self.values = [], {}

    @contextlib.contextmanager
    def phase(self, name):
        outcome = {"state": "done", "detail": ""}
        self.phases.append((name, outcome))
        yield outcome

    def update(self, **values):
        self.values |= values


@pytest.fixture
def scoring(spark, published, tmp_path):
    """Score a file or folder; return the rows that came out, and what was told."""

    def run(source, model="tiny@production", output=None, **given):
        chosen = choose(published.registry, model)
        target = output or tmp_path / "scored"
        request = ScoreRequest.of(chosen, input=f"file://{source}", output=f"file://{target}", **given)
        told = Told()
        score(spark, published.registry, request, told, run="score-test")
        return target, told

    return run


def nothing_left(folder):
    return [name for name in os.listdir(folder) if name.startswith(("_", "."))] == []


def write(raw, folder, kind, parts=3):
    folder.mkdir()
    for i, part in enumerate(np.array_split(raw.index, parts)):
        rows = raw.loc[part]
        rows.to_csv(folder / f"{i}.csv", index=False) if kind == "csv" else rows.to_parquet(
            folder / f"{i}.parquet", index=False
        )
    return folder


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_scores_are_those_of_the_loaded_model_and_all_columns_are_kept(scoring, published, raw, tmp_path, kind):
    target, told = scoring(write(raw, tmp_path / "in", kind))
    if kind == "csv":
        found = pd.concat([pd.read_csv(part, dtype={"jets": str}) for part in sorted(target.glob("part-*"))])
    else:
        found = pd.read_parquet(target)
    found = found.sort_values("id", ignore_index=True)
    assert list(found.columns) == [*raw.columns, "score"]
    pd.testing.assert_frame_equal(found[list(raw.columns)], raw)
    expected = load(published.registry.version("tiny", "production")).predict(raw)
    assert np.allclose(found["score"], expected, atol=1e-6)
    assert expected.std() > 0.01
    assert [name for name, _ in told.phases] == ["model", "score", "check"]


def test_the_folder_says_what_made_it(scoring, published, raw, tmp_path):
    target, _ = scoring(write(raw, tmp_path / "in", "parquet"))
    said = json.loads((target / "_dkeras.json").read_text())
    assert said["model"]["version"] == 1 and said["model"]["alias"] == "production"
    assert said["model"]["digest"] == published.registry.digest("tiny", 1)
    assert said["rows"] == {"in": 300, "out": 300} and said["input"]["files"] == 3
    assert said["columns"] == {"kept": list(raw.columns), "added": ["score"]}
    assert said["files"] == {part.name: part.stat().st_size for part in target.glob("part-*")}
    assert (target / "_SUCCESS").exists()
    assert sorted(os.listdir(tmp_path)) == ["in", "scored"]


def test_several_outputs_are_several_columns(scoring, published, raw, tmp_path):
    target, _ = scoring(write(raw, tmp_path / "in", "parquet"), model="tiny@2", column="class")
    found = pd.read_parquet(target).sort_values("id", ignore_index=True)
    expected = load(published.registry.version("tiny", 2)).predict(raw)
    assert np.allclose(found[["class_0", "class_1", "class_2"]], expected, atol=1e-6)


def test_columns_of_folders_names_are_kept(scoring, raw, tmp_path):
    for day, rows in raw.groupby(raw["id"] % 2):
        (tmp_path / "in" / f"day={day}").mkdir(parents=True)
        rows.to_csv(tmp_path / "in" / f"day={day}" / "rows.csv", index=False)
    found = pd.read_parquet(scoring(tmp_path / "in", format="parquet")[0])
    assert len(found) == 300 and set(found["day"]) == {0, 1}


def test_the_output_must_be_free_or_an_earlier_scoring(scoring, raw, tmp_path):
    source = write(raw, tmp_path / "in", "parquet")
    target, _ = scoring(source)
    with pytest.raises(PathExists, match="--overwrite"):
        scoring(source)
    assert pd.read_parquet(target).shape == (300, 6)
    scoring(write(raw.head(10), tmp_path / "other", "parquet"), model="tiny@2", overwrite=True)
    assert pd.read_parquet(target).shape == (10, 8)
    precious = write(raw, tmp_path / "precious", "parquet")
    with pytest.raises(PathExists, match="no scoring made it"):
        scoring(source, output=precious, overwrite=True)
    with pytest.raises(ConfigError, match="overlap"):
        scoring(source, output=source / "scored")
    assert sorted(os.listdir(tmp_path)) == ["in", "other", "precious", "scored"]


BAD = {
    "text": (lambda raw: raw.astype({"mass": str}).replace({"mass": {raw["mass"].astype(str)[5]: "heavy"}}), "'heavy'"),
    "infinite": (lambda raw: raw.assign(mass=raw["mass"].mask(raw["id"] == 5, np.inf)), "(?i)'inf"),
    "missing": (lambda raw: raw.rename(columns={"mass": "Mass"}), "no column 'mass' .did you mean 'Mass'"),
    "list": (lambda raw: raw.assign(angle=[[1.0]] * len(raw)), "'angle' is of type array"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_columns_are_named_and_nothing_is_left(scoring, raw, tmp_path, case):
    change, message = BAD[case]
    source = write(change(raw), tmp_path / "in", "parquet")
    with pytest.raises(DataError, match=message) as refusal:
        scoring(source)
    assert "mass" in str(refusal.value) or "angle" in str(refusal.value)
    assert os.listdir(tmp_path) == ["in"]


def test_where_a_bad_value_stands_is_told(scoring, raw, tmp_path):
    source = write(BAD["text"][0](raw), tmp_path / "in", "csv")
    with pytest.raises(DataError, match=r"column 'mass' holds 'heavy' .* in 1 of 300 rows .*0\.csv"):
        scoring(source)


def test_a_line_that_does_not_fit_is_refused(scoring, raw, tmp_path):
    source = write(raw, tmp_path / "in", "csv", parts=1)
    with (source / "0.csv").open("a") as file:
        file.write("301,2,0.5\n")
    with pytest.raises(DataError, match=r"0\.csv:302: 1 row with another number of columns"):
        scoring(source)
    assert os.listdir(tmp_path) == ["in"]


def test_a_damaged_file_is_not_skipped_even_where_a_site_says_so(scoring, spark, raw, tmp_path):
    source = write(raw, tmp_path / "in", "parquet")
    part = source / "1.parquet"
    part.write_bytes(part.read_bytes()[:-200])
    spark.conf.set("spark.sql.files.ignoreCorruptFiles", "true")
    try:
        with pytest.raises(DataError, match="damaged"):
            scoring(source)
    finally:
        spark.conf.unset("spark.sql.files.ignoreCorruptFiles")
    assert os.listdir(tmp_path) == ["in"]


def test_a_model_that_gives_nan_is_refused(scoring, raw, tmp_path):
    with pytest.raises(DataError, match="not finite in"):
        scoring(write(raw, tmp_path / "in", "parquet"), model="tiny@3")
    assert os.listdir(tmp_path) == ["in"]


def test_a_column_of_the_scores_name_is_refused(scoring, raw, tmp_path):
    with pytest.raises(ConfigError, match="--column"):
        scoring(write(raw.assign(Score=1.0), tmp_path / "in", "parquet"))


def test_what_a_format_or_a_header_cannot_hold(scoring, raw, tmp_path):
    source = write(raw.assign(hits=[[1, 2]] * len(raw)), tmp_path / "in", "parquet")
    with pytest.raises(ConfigError, match="'hits' is of type array, which CSV cannot hold"):
        scoring(source, format="csv")
    twice = write(raw.assign(MASS=1.0), tmp_path / "twice", "csv")
    with pytest.raises(DataError, match="'MASS' and 'mass' stands in the header twice"):
        scoring(twice)
    assert sorted(os.listdir(tmp_path)) == ["in", "twice"]


def test_an_input_that_changes_meanwhile_is_refused(scoring, raw, tmp_path, monkeypatch):
    from dkeras_core.scoring import score as module

    source = write(raw, tmp_path / "in", "parquet")
    account = module._account

    def late(*arguments):
        account(*arguments)
        raw.to_parquet(source / "late.parquet")

    monkeypatch.setattr(module, "_account", late)
    with pytest.raises(DataError, match=r"changed while it was scored: .*late\.parquet"):
        scoring(source)
    assert os.listdir(tmp_path) == ["in"]


def test_rows_that_are_lost_are_noticed(scoring, raw, tmp_path, monkeypatch):
    from dkeras_core.scoring import score as module

    write_all = module._Work._write
    monkeypatch.setattr(module._Work, "_write", lambda self, scored: write_all(self, scored.where("id <> 7")))
    with pytest.raises(DataError, match="300 read, 299 written"):
        scoring(write(raw, tmp_path / "in", "parquet"))
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("cached", [False, True])
def test_a_version_that_is_not_the_one_resolved_is_refused(spark, published, raw, tmp_path, cached):
    source = write(raw, tmp_path / "in", "parquet")
    chosen = choose(published.registry, "tiny@1")
    request = ScoreRequest.of(chosen, input=f"file://{source}", output=f"file://{tmp_path}/scored")
    moved = dataclasses.replace(request, digest="0" * 64)
    cache = Cache(tmp_path / "cache") if cached else None
    with pytest.raises(RegistryError, match=r"not what it was|was changed since"):
        score(spark, published.registry, moved, cache=cache)
    assert not (tmp_path / "scored").exists()


def test_a_damaged_version_is_refused_and_the_file_named(spark, tmp_path, published, raw):
    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    version = registry.publish("tiny", published.registry.version("tiny", 1).fetch(tmp_path / "v"), run_id="run-1")
    chosen = choose(registry, "tiny@1")
    path = Path(version.path, "model.keras")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.parent.chmod(0o755), path.chmod(0o644)
    path.write_bytes(content)
    source = write(raw, tmp_path / "in", "parquet")
    request = ScoreRequest.of(chosen, input=f"file://{source}", output=f"file://{tmp_path}/scored")
    with pytest.raises(RegistryError, match=r"model\.keras"):
        score(spark, registry, request)
    assert not (tmp_path / "scored").exists()


def test_a_version_without_features_cannot_score_raw_rows(spark, tmp_path, published, raw):
    import shutil

    registry = Registry(LocalStorage(), str(tmp_path / "root"))
    shutil.copytree(published.registry.version("tiny", 1).path, tmp_path / "v")
    (tmp_path / "v").chmod(0o755), (tmp_path / "v" / "features.json").unlink()
    registry.publish("tiny", tmp_path / "v", run_id="run-1")
    source = write(raw, tmp_path / "in", "parquet")
    request = ScoreRequest.of(choose(registry, "tiny@1"), input=f"file://{source}", output=f"file://{tmp_path}/scored")
    with pytest.raises(RegistryError, match=r"no features\.json"):
        score(spark, registry, request)


def test_an_executors_copy_is_checked_too(published):
    folder = Path(published.registry.version("tiny", 1).path)
    assert load_folder(folder, published.registry.digest("tiny", 1)).digest
    with pytest.raises(RegistryError, match="does not hold the version"):
        load_folder(folder, published.registry.digest("tiny", 2))
    with pytest.raises(ConfigError, match="module no_such_layers cannot be imported"):
        load_folder(folder, published.registry.digest("tiny", 1), ("no_such_layers",))


def test_a_model_gives_one_vector():
    import keras

    inputs = keras.Input((3,))
    one, many = keras.layers.Dense(1)(inputs), keras.layers.Dense(4)(inputs)
    assert [values_of(keras.Model(inputs, end), "m") for end in (one, many)] == [1, 4]
    for end in ([one, many], keras.layers.Reshape((2, 2))(many)):
        with pytest.raises(RegistryError, match="for a row"):
            values_of(keras.Model(inputs, end), "m")


def test_packed_csv_and_spaces_in_names(scoring, raw, tmp_path):
    (tmp_path / "in").mkdir()
    raw.to_csv(tmp_path / "in" / "new rows.csv.gz", index=False)
    target, _ = scoring(tmp_path / "in" / "new rows.csv.gz", output=tmp_path / "with a space", format="parquet")
    assert len(pd.read_parquet(target)) == 300


def test_the_example_of_the_page_works(spark, published, raw, tmp_path, project_root, capsys):
    page = (project_root / "docs" / "scoring.md").read_text()
    (code,) = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    source = write(raw, tmp_path / "in", "parquet")
    for before, after in (
        ('"/dkeras"', f'"{published.uri}"'),
        ('"/data/new"', f'"file://{source}"'),
        ('"/data/scored"', f'"file://{tmp_path}/scored"'),
        ("higgs@", "tiny@"),
    ):
        assert before in code
        code = code.replace(before, after)
    exec(compile(code, "docs/scoring.md", "exec"), {"spark": spark})
    assert capsys.readouterr().out == "{'in': 300, 'out': 300}\n"
