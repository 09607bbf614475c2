"""Synthetic events: the challenge's schema to the letter, features that cohere, equal bytes for equal seeds."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dkeras_core.data import higgs
from dkeras_core.data.higgs import events, side_car, write_events
from dkeras_core.data.kinematics import boost, decay, delta_phi, from_pt_y
from dkeras_core.errors import DataError

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "higgs" / "training_10k.csv"
HEADER = (
    "EventId,DER_mass_MMC,DER_mass_transverse_met_lep,DER_mass_vis,DER_pt_h,DER_deltaeta_jet_jet,DER_mass_jet_jet,"
    "DER_prodeta_jet_jet,DER_deltar_tau_lep,DER_pt_tot,DER_sum_pt,DER_pt_ratio_lep_tau,DER_met_phi_centrality,"
    "DER_lep_eta_centrality,PRI_tau_pt,PRI_tau_eta,PRI_tau_phi,PRI_lep_pt,PRI_lep_eta,PRI_lep_phi,PRI_met,"
    "PRI_met_phi,PRI_met_sumet,PRI_jet_num,PRI_jet_leading_pt,PRI_jet_leading_eta,PRI_jet_leading_phi,"
    "PRI_jet_subleading_pt,PRI_jet_subleading_eta,PRI_jet_subleading_phi,PRI_jet_all_pt,Weight,Label"
)
LEADING = ["PRI_jet_leading_pt", "PRI_jet_leading_eta", "PRI_jet_leading_phi"]
PAIR = [
    "DER_deltaeta_jet_jet",
    "DER_mass_jet_jet",
    "DER_prodeta_jet_jet",
    "DER_lep_eta_centrality",
    "PRI_jet_subleading_pt",
    "PRI_jet_subleading_eta",
    "PRI_jet_subleading_phi",
]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return pd.read_csv(write_events(tmp_path_factory.mktemp("higgs") / "events.csv", rows=20_000, seed=5))


def test_header_rows_and_types_are_those_of_the_challenge(table):
    assert list(table.columns) == HEADER.split(",")
    assert table["EventId"].tolist() == list(range(100_000, 120_000))
    assert set(table["Label"]) == {"s", "b"}
    assert table["PRI_jet_num"].dtype.kind == "i" and set(table["PRI_jet_num"]) == {0, 1, 2, 3}
    assert not table.isna().any().any()


@pytest.mark.skipif(not REAL.exists(), reason="the real events of the challenge are not on this machine")
def test_header_and_number_format_are_those_of_the_real_file(events):
    with open(REAL) as real, open(events) as ours:
        assert next(real) == next(ours)
        for row in (*csv.reader(real), *csv.reader(ours)):
            for text in row[1:31]:
                assert len(text.partition(".")[2]) <= 3
            # The two columns of the real file that a reader of types would look at.
            assert row[23] in "0123" and "." in row[1] and "." in row[6]


def test_undefined_values_follow_the_number_of_jets(table):
    undefined = table.drop(columns=["EventId", "Weight", "Label"]) == -999.0
    jets = table["PRI_jet_num"]
    for name in LEADING:
        assert (undefined[name] == (jets == 0)).all()
    for name in PAIR:
        assert (undefined[name] == (jets <= 1)).all()
    rest = undefined.drop(columns=[*LEADING, *PAIR, "DER_mass_MMC"])
    assert not rest.any().any()
    assert (table["PRI_jet_all_pt"][jets == 0] == 0).all()
    assert np.allclose(table["PRI_jet_all_pt"][jets == 1], table["PRI_jet_leading_pt"][jets == 1])
    missing = undefined["DER_mass_MMC"].groupby(table["Label"]).mean()
    assert 0.005 < missing["s"] < 0.1 < missing["b"] < 0.45


def test_derived_quantities_follow_from_the_primitive_ones(table):
    t = table
    dphi, deta = delta_phi(t.PRI_tau_phi, t.PRI_lep_phi), t.PRI_tau_eta - t.PRI_lep_eta
    px = [t[f"{p}_pt"] * np.cos(t[f"{p}_phi"]) for p in ("PRI_tau", "PRI_lep")] + [t.PRI_met * np.cos(t.PRI_met_phi)]
    py = [t[f"{p}_pt"] * np.sin(t[f"{p}_phi"]) for p in ("PRI_tau", "PRI_lep")] + [t.PRI_met * np.sin(t.PRI_met_phi)]
    # Energies as massless particles: three independent ways to the same numbers as in the file.
    energy = t.PRI_tau_pt * np.cosh(t.PRI_tau_eta) + t.PRI_lep_pt * np.cosh(t.PRI_lep_eta)
    pz = t.PRI_tau_pt * np.sinh(t.PRI_tau_eta) + t.PRI_lep_pt * np.sinh(t.PRI_lep_eta)
    mass = np.sqrt(np.maximum(energy**2 - pz**2 - (px[0] + px[1]) ** 2 - (py[0] + py[1]) ** 2, 0))
    transverse = np.sqrt(np.maximum((t.PRI_lep_pt + t.PRI_met) ** 2 - (px[1] + px[2]) ** 2 - (py[1] + py[2]) ** 2, 0))
    expected = {
        "DER_mass_vis": mass,
        "DER_mass_transverse_met_lep": transverse,
        "DER_pt_h": np.hypot(sum(px), sum(py)),
        "DER_deltar_tau_lep": np.hypot(dphi, deta),
        "DER_sum_pt": t.PRI_tau_pt + t.PRI_lep_pt + t.PRI_jet_all_pt,
        "DER_pt_ratio_lep_tau": t.PRI_lep_pt / t.PRI_tau_pt,
    }
    for name, values in expected.items():
        assert np.abs(t[name] - values).max() < 2e-3, name
    pair = t[t.PRI_jet_num >= 2]
    e1, e2 = pair.PRI_jet_leading_eta, pair.PRI_jet_subleading_eta
    assert np.abs(pair.DER_deltaeta_jet_jet - (e1 - e2).abs()).max() < 1e-3
    assert np.abs(pair.DER_prodeta_jet_jet - e1 * e2).max() < 1e-3
    assert pair.DER_lep_eta_centrality.between(0, 1).all()
    assert (pair.PRI_jet_leading_pt >= pair.PRI_jet_subleading_pt).all()
    assert table["DER_met_phi_centrality"].abs().max() <= 1.415


def test_selection_and_weights_are_those_of_the_challenge(table):
    assert table["PRI_tau_pt"].min() >= 20 and table["PRI_lep_pt"].min() >= 26
    assert table[["PRI_tau_eta", "PRI_lep_eta"]].abs().max().max() <= 2.5
    assert (table.loc[table.PRI_jet_num > 0, "PRI_jet_leading_pt"] >= 30).all()
    weight = table.groupby("Label")["Weight"].sum()
    assert weight["s"] == pytest.approx(691, rel=0.05) and weight["b"] == pytest.approx(411_000, rel=0.05)
    assert (table["Label"] == "s").mean() == pytest.approx(0.3427, abs=0.015)
    assert table.loc[table.Label == "s", "Weight"].nunique() == 3


def test_equal_arguments_give_equal_bytes_and_another_seed_others(tmp_path):
    first = write_events(tmp_path / "a.csv", rows=600, seed=9).read_bytes()
    assert write_events(tmp_path / "b.csv", rows=600, seed=9).read_bytes() == first
    assert write_events(tmp_path / "c.csv", rows=600, seed=10).read_bytes() != first


def test_blocks_continue_each_other_and_differ(monkeypatch):
    monkeypatch.setattr(higgs, "CHUNK", 300)
    blocks = list(events(700, seed=1))
    assert [block.signal.size for block in blocks] == [300, 300, 100]
    assert np.concatenate([b.columns["EventId"] for b in blocks]).tolist() == list(range(100_000, 100_700))
    assert not np.array_equal(blocks[0].columns["PRI_met"], blocks[1].columns["PRI_met"])


def test_side_car_says_synthetic_and_progress_counts_to_the_end(tmp_path):
    seen = []
    path = write_events(tmp_path / "new" / "events.csv", rows=50, seed=2, progress=seen.append)
    assert json.loads(side_car(path).read_text()) == {
        "synthetic": True,
        "seed": 2,
        "rows": 50,
        "version": higgs.VERSION,
    }
    assert seen == [50]
    assert sorted(p.name for p in path.parent.iterdir()) == ["events.csv", "events.json"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_events(tmp_path / "events.csv", rows=20, seed=1)
    before = path.read_bytes()

    def stop(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_events(path, rows=30, seed=2, progress=stop)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.csv", "events.json"]


@pytest.mark.parametrize("rows, seed, name", [(0, 1, "a.csv"), (5, -1, "a.csv"), (5, 1, "a.json")])
def test_arguments_out_of_range_are_refused(tmp_path, rows, seed, name):
    with pytest.raises(DataError):
        write_events(tmp_path / name, rows=rows, seed=seed)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/events\.csv"):
        write_events(tmp_path / "file" / "events.csv", rows=5)


def test_decays_conserve_energy_and_momentum():
    rng = np.random.default_rng(0)
    mass = np.full(100, 91.2)
    parent = from_pt_y(rng.exponential(30, 100), rng.normal(size=100), rng.uniform(-3, 3, 100), mass)
    one, two = decay(parent, mass, 1.777, rng)
    assert np.allclose(one + two, parent, rtol=1e-9)
    assert np.allclose(one[0] ** 2 - (one[1:] ** 2).sum(0), 1.777**2, atol=1e-6)
    at_rest = np.concatenate([mass[None], np.zeros((3, 100))])
    assert np.allclose(boost(at_rest, parent, mass), parent)


@pytest.mark.slow
def test_a_linear_model_is_clearly_worse_than_a_network(tmp_path):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.neural_network import MLPClassifier

    table = pd.read_csv(write_events(tmp_path / "events.csv", rows=40_000, seed=1))
    y = (table["Label"] == "s").to_numpy()
    x = table.iloc[:, 1:31].replace(-999.0, np.nan)
    x = x.fillna(x.median())
    x = ((x - x.mean()) / x.std()).to_numpy(np.float32)
    train, test = slice(0, 32_000), slice(32_000, None)
    linear = LogisticRegression(max_iter=300).fit(x[train], y[train]).decision_function(x[test])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network = MLPClassifier((100, 100), max_iter=8, batch_size=128, random_state=0).fit(x[train], y[train])
    assert 0.79 < roc_auc_score(y[test], linear) < 0.83
    assert 0.88 < roc_auc_score(y[test], network.predict_proba(x[test])[:, 1]) < 0.92
