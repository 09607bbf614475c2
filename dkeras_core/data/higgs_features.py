"""The 30 features of the challenge, computed from reconstructed objects by their published definitions.

Definitions: Adam-Bourdarios et al., "Learning to discover: the Higgs boson machine learning challenge" (2014),
appendix B. The DER_ quantities are computed from the PRI_ values *as written* (three decimals), so whoever reads the
file can recompute them. DER_mass_MMC is the exception: the published one comes from a program of the experiment;
here a small missing-mass estimate in the same spirit takes its place (:func:`missing_mass`).
"""

from __future__ import annotations

import numpy as np

from dkeras_core.data.higgs_processes import Objects
from dkeras_core.data.kinematics import delta_phi

UNDEFINED = -999.0


def missing_mass(mass_vis, lep, tau, met, all_pt) -> np.ndarray:
    """Estimate the mass of the tau pair; :data:`UNDEFINED` where no fractions of visible energy explain the event.

    Scans the visible fractions (x1, x2) of the two taus with collinear neutrinos, weighs each point by how well its
    neutrinos reproduce the missing transverse momentum and by how probable the fractions are, and returns the
    weighted mean of m_vis / sqrt(x1 x2) in GeV. The idea is that of Elagin et al., "A new mass reconstruction
    technique for resonances decaying to tau tau" (2010).
    """
    x = (np.arange(10) + 0.5) / 10
    x_lep, x_had = (v.ravel() for v in np.meshgrid(x, x, indexing="ij"))
    a, b = 1.0 / x_lep - 1.0, 1.0 / x_had - 1.0
    prior = 0.7 * np.log(x_lep) + 1.1 * np.log(1 - x_lep) + 2.0 * np.log(x_had) + 0.5 * np.log(1 - x_had)
    # |met - a lep - b tau|^2, expanded so that the scan is one small matrix product.
    (lx, ly), (tx, ty), (mx, my) = lep, tau, met
    event = np.stack(
        [
            mx**2 + my**2,
            -2 * (mx * lx + my * ly),
            -2 * (mx * tx + my * ty),
            lx**2 + ly**2,
            tx**2 + ty**2,
            2 * (lx * tx + ly * ty),
        ],
        axis=1,
    )
    variance = 12.0**2 + (0.18 * all_pt) ** 2
    chi2 = (event / variance[:, None]) @ np.stack([np.ones_like(a), a, b, a**2, b**2, a * b])
    probability = np.exp(-0.5 * chi2 + prior)
    total = probability.sum(axis=1)
    estimate = mass_vis * (probability @ (1.0 / np.sqrt(x_lep * x_had))) / np.maximum(total, 1e-300)
    return np.where(total > 0.03, estimate, UNDEFINED)


def features(objects: Objects) -> dict[str, np.ndarray]:
    """Return the columns of the challenge (name -> [n], float64, three decimals) in the order of its file."""
    lep_pt, lep_eta, lep_phi = (np.round(v, 3) for v in objects.lep)
    tau_pt, tau_eta, tau_phi = (np.round(v, 3) for v in objects.tau)
    met = np.round(np.hypot(objects.met_x, objects.met_y), 3)
    met_phi = np.round(np.arctan2(objects.met_y, objects.met_x), 3)
    sum_et = np.round(objects.sum_et, 3)
    jet_pt = np.round(objects.jet_pt, 3)
    jet_num = np.minimum((jet_pt > 0).sum(axis=1), 3)
    one, two = jet_num >= 1, jet_num >= 2

    def jet(values, index, defined):
        return np.where(defined, np.round(values[:, index], 3), UNDEFINED)

    pt1, eta1, phi1 = (jet(v, 0, one) for v in (jet_pt, objects.jet_eta, objects.jet_phi))
    pt2, eta2, phi2 = (jet(v, 1, two) for v in (jet_pt, objects.jet_eta, objects.jet_phi))
    all_pt = np.round(jet_pt.sum(axis=1), 3)

    lep = lep_pt * np.cos(lep_phi), lep_pt * np.sin(lep_phi)
    tau = tau_pt * np.cos(tau_phi), tau_pt * np.sin(tau_phi)
    miss = met * np.cos(met_phi), met * np.sin(met_phi)
    higgs = [lep[i] + tau[i] + miss[i] for i in (0, 1)]
    total = [
        higgs[i] + np.where(one, pt1 * f(phi1), 0.0) + np.where(two, pt2 * f(phi2), 0.0)
        for i, f in ((0, np.cos), (1, np.sin))
    ]
    turn = delta_phi(tau_phi, lep_phi)
    mass_vis = np.sqrt(np.maximum(2 * lep_pt * tau_pt * (np.cosh(lep_eta - tau_eta) - np.cos(turn)), 0.0))
    transverse = np.sqrt(np.maximum(2 * lep_pt * met * (1 - np.cos(met_phi - lep_phi)), 0.0))
    first, second = np.sin(met_phi - lep_phi), np.sin(tau_phi - met_phi)
    centrality = np.sign(np.sin(turn)) * (first + second) / np.maximum(np.sqrt(first**2 + second**2), 1e-12)
    # Values of pairs of jets are computed with harmless numbers where there is no pair.
    e1, e2 = np.where(two, eta1, 0.0), np.where(two, eta2, 1.0)
    gap = e1 - e2
    mass_jj = np.sqrt(np.maximum(2 * np.abs(pt1 * pt2) * (np.cosh(gap) - np.cos(delta_phi(phi1, phi2))), 0.0))
    lep_centrality = np.exp(-4.0 / np.maximum(gap**2, 1e-6) * (lep_eta - 0.5 * (e1 + e2)) ** 2)

    def pair(values):
        return np.where(two, values, UNDEFINED)

    columns = {
        "DER_mass_MMC": missing_mass(mass_vis, lep, tau, miss, all_pt),
        "DER_mass_transverse_met_lep": transverse,
        "DER_mass_vis": mass_vis,
        "DER_pt_h": np.hypot(*higgs),
        "DER_deltaeta_jet_jet": pair(np.abs(gap)),
        "DER_mass_jet_jet": pair(mass_jj),
        "DER_prodeta_jet_jet": pair(e1 * e2),
        "DER_deltar_tau_lep": np.hypot(turn, tau_eta - lep_eta),
        "DER_pt_tot": np.hypot(*total),
        "DER_sum_pt": tau_pt + lep_pt + all_pt,
        "DER_pt_ratio_lep_tau": lep_pt / tau_pt,
        "DER_met_phi_centrality": centrality,
        "DER_lep_eta_centrality": pair(lep_centrality),
        "PRI_tau_pt": tau_pt,
        "PRI_tau_eta": tau_eta,
        "PRI_tau_phi": tau_phi,
        "PRI_lep_pt": lep_pt,
        "PRI_lep_eta": lep_eta,
        "PRI_lep_phi": lep_phi,
        "PRI_met": met,
        "PRI_met_phi": met_phi,
        "PRI_met_sumet": sum_et,
        "PRI_jet_num": jet_num,
        "PRI_jet_leading_pt": pt1,
        "PRI_jet_leading_eta": eta1,
        "PRI_jet_leading_phi": phi1,
        "PRI_jet_subleading_pt": pt2,
        "PRI_jet_subleading_eta": eta2,
        "PRI_jet_subleading_phi": phi2,
        "PRI_jet_all_pt": all_pt,
    }
    # Adding 0.0 turns the -0.0 of rounding into 0.0.
    return {n: v if n == "PRI_jet_num" else np.round(v, 3) + 0.0 for n, v in columns.items()}
