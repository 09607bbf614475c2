"""The physics processes behind the synthetic Higgs events: reconstructed objects after the challenge's selection.

Final state: one light lepton (pt > 26 GeV), one hadronic tau (pt > 20 GeV), missing transverse momentum, up to four
jets (pt > 30 GeV). Leading-order kinematics with a simple detector: enough for the features to cohere as they do in
simulation, not a substitute for it. Sources of numbers: masses and widths of the Particle Data Group; rates and jet
multiplicities chosen so that the features resemble the challenge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dkeras_core.data.kinematics import decay, delta_phi, from_pt_y, pt_eta_phi

LEPTON_PT, TAU_PT, JET_PT = 26.0, 20.0, 30.0
LEPTON_ETA, JET_ETA = 2.5, 4.5
JETS = 4
# Mass and width in GeV.
HIGGS, W = (125.0, 0.004), (80.38, 2.085)
# Relative for jets and taus; GeV along each axis for soft activity.
JET_RESOLUTION, TAU_RESOLUTION, SOFT_RESOLUTION = 0.18, 0.13, 14.0


@dataclass
class Objects:
    """Reconstructed objects of n events: GeV, radians; jets [n, 4] sorted by pt, which is 0 where there is none."""

    lep: tuple[np.ndarray, np.ndarray, np.ndarray]
    tau: tuple[np.ndarray, np.ndarray, np.ndarray]
    jet_pt: np.ndarray
    jet_eta: np.ndarray
    jet_phi: np.ndarray
    met_x: np.ndarray
    met_y: np.ndarray
    sum_et: np.ndarray

    def accepted(self) -> np.ndarray:
        """Return the events [n] that pass the selection."""
        apart = np.hypot(self.lep[1] - self.tau[1], delta_phi(self.lep[2], self.tau[2])) > 0.4
        central = (np.abs(self.lep[1]) < LEPTON_ETA) & (np.abs(self.tau[1]) < LEPTON_ETA)
        return apart & central & (self.lep[0] > LEPTON_PT) & (self.tau[0] > TAU_PT)

    def take(self, rows: np.ndarray) -> Objects:
        """Return the events chosen by an index or a mask."""
        return Objects(
            tuple(v[rows] for v in self.lep),
            tuple(v[rows] for v in self.tau),
            self.jet_pt[rows],
            self.jet_eta[rows],
            self.jet_phi[rows],
            self.met_x[rows],
            self.met_y[rows],
            self.sum_et[rows],
        )

    @staticmethod
    def concatenate(parts: list[Objects]) -> Objects:
        """Return the events of all parts, in their order."""
        return Objects(
            tuple(np.concatenate(v) for v in zip(*(p.lep for p in parts), strict=True)),
            tuple(np.concatenate(v) for v in zip(*(p.tau for p in parts), strict=True)),
            *(
                np.concatenate([getattr(p, name) for p in parts])
                for name in ("jet_pt", "jet_eta", "jet_phi", "met_x", "met_y", "sum_et")
            ),
        )


@dataclass(frozen=True)
class Process:
    """One process: its share of the rows of its class, its share of the weight, and how candidates are drawn."""

    name: str
    rows: float
    weight: float
    weight_spread: float
    draw: Callable[[int, np.random.Generator], Objects]


@dataclass
class Hadrons:
    """What a boson recoils against: jets [n, 4] sorted by pt as measured, their true pt, and soft activity [2, n].

    The missing momentum is minus the sum of all that was measured, so what is mismeasured here ends up in it.
    """

    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    true_pt: np.ndarray
    soft: np.ndarray
    true_soft: np.ndarray

    def recoil(self) -> np.ndarray:
        """Return the true transverse momentum [2, n] that balances the jets and the soft activity."""
        jets = [(self.true_pt * f(self.phi)).sum(axis=1) for f in (np.cos, np.sin)]
        return -np.stack(jets) - self.true_soft

    def mismeasured(self) -> np.ndarray:
        """Return true minus measured momentum [2, n]."""
        lost = self.true_pt - self.pt
        jets = [(lost * f(self.phi)).sum(axis=1) for f in (np.cos, np.sin)]
        return np.stack(jets) + self.true_soft - self.soft


def _soft(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw soft activity [2, n], measured and true: little that is reconstructed, or one jet below threshold."""
    phi = rng.uniform(-np.pi, np.pi, n)
    size = np.where(rng.random(n) < 0.45, rng.uniform(18.0, JET_PT, n), np.abs(rng.normal(0.0, 5.0, n)))
    measured = size * np.stack([np.cos(phi), np.sin(phi)])
    return measured, measured * rng.normal(1.0, 0.25, n) + rng.normal(0.0, SOFT_RESOLUTION, (2, n))


def _sorted(pt, eta, phi, n, rng) -> Hadrons:
    """Sort jets by measured pt (0 where absent) and add what detector and soft activity do."""
    order = np.argsort(-pt, axis=1, kind="stable")
    pt, eta, phi = (np.take_along_axis(v, order, axis=1) for v in (pt, eta, phi))
    return Hadrons(pt, eta, phi, pt * rng.normal(1.0, JET_RESOLUTION, pt.shape), *_soft(n, rng))


def _jets(n, rng, multiplicity, scale, eta_width=1.7, forward=0.0) -> Hadrons:
    """Draw up to four jets; a share ``forward`` of the events has the two leading ones in opposite hemispheres."""
    count = rng.choice(JETS + 1, size=n, p=multiplicity)
    present = np.arange(JETS) < count[:, None]
    pt = JET_PT + rng.gamma(0.9, scale, (n, JETS))
    eta = rng.normal(0.0, eta_width, (n, JETS))
    tagged = rng.random(n) < forward
    side = rng.choice([-1.0, 1.0], n)
    for position, sign in ((0, 1.0), (1, -1.0)):
        forward_eta = sign * side * np.abs(rng.normal(2.1, 1.0, n))
        eta[:, position] = np.where(tagged, forward_eta, eta[:, position])
    outside = np.abs(eta) > JET_ETA
    eta = np.where(outside, np.sign(eta) * JET_ETA * rng.random((n, JETS)), eta)
    phi = rng.uniform(-np.pi, np.pi, (n, JETS))
    # Further jets tend to balance the leading one.
    opposite = delta_phi(phi[:, 0] + np.pi, rng.normal(0.0, 0.8, n))
    phi[:, 1] = np.where(rng.random(n) < 0.6, opposite, phi[:, 1])
    return _sorted(np.where(present, pt, 0.0), eta, phi, n, rng)


def _breit_wigner(n, rng, mass, width):
    """Draw masses from a Breit-Wigner shape, cut at ten widths."""
    tail = np.arctan(20.0)
    return mass + 0.5 * width * np.tan(rng.uniform(-tail, tail, n))


def _measure(lepton, tau, invisible, hadrons, rng) -> Objects:
    """Smear lepton and tau, and take as missing momentum what balances all that was measured."""
    lep_pt, lep_eta, lep_phi = pt_eta_phi(lepton)
    tau_pt, tau_eta, tau_phi = pt_eta_phi(tau)
    n = lep_pt.size
    lep_factor, tau_factor = rng.normal(1.0, 0.02, n), rng.normal(1.0, TAU_RESOLUTION, n)
    missing = invisible[1:3] + (1 - lep_factor) * lepton[1:3] + (1 - tau_factor) * tau[1:3]
    missing = missing + hadrons.mismeasured()
    lep_pt, tau_pt = lep_pt * lep_factor, tau_pt * tau_factor
    sum_et = lep_pt + tau_pt + hadrons.pt.sum(axis=1) + rng.normal(48.0, 46.0, n)
    return Objects(
        (lep_pt, lep_eta, lep_phi),
        (tau_pt, tau_eta, tau_phi),
        hadrons.pt,
        hadrons.eta,
        hadrons.phi,
        *missing,
        np.maximum(sum_et, 0.5 * (lep_pt + tau_pt)),
    )


def _boson(recoil, mass, y_width, rng) -> np.ndarray:
    """Return four-vectors of a boson with the given transverse momentum [2, n] and mass."""
    rapidity = rng.normal(0.0, y_width, mass.size)
    return from_pt_y(np.hypot(*recoil), rapidity, np.arctan2(recoil[1], recoil[0]), mass)


def _ditau(hadrons: Hadrons, rng, mass, y_width=1.1) -> Objects:
    """A resonance decaying to two taus, one to a lepton and two neutrinos, one to hadrons and one neutrino.

    Neutrinos fly along their tau (collinear approximation): only the fractions of visible energy are drawn.
    """
    boson = _boson(hadrons.recoil(), mass, y_width, rng)
    one, two = decay(boson, mass, 1.777, rng)
    x_lep, x_had = rng.beta(1.3, 2.2, mass.size), rng.beta(2.2, 1.5, mass.size)
    invisible = (1.0 - x_lep) * one + (1.0 - x_had) * two
    return _measure(x_lep * one, x_had * two, invisible, hadrons, rng)


def gluon_fusion(n: int, rng: np.random.Generator) -> Objects:
    """gg -> H -> tau tau."""
    jets = _jets(n, rng, [0.72, 0.20, 0.06, 0.015, 0.005], 38.0)
    return _ditau(jets, rng, _breit_wigner(n, rng, *HIGGS))


def vector_boson_fusion(n: int, rng: np.random.Generator) -> Objects:
    """qq -> qq H, with jets forward in opposite hemispheres."""
    jets = _jets(n, rng, [0.12, 0.36, 0.42, 0.08, 0.02], 48.0, eta_width=2.0, forward=0.65)
    return _ditau(jets, rng, _breit_wigner(n, rng, *HIGGS))


def associated(n: int, rng: np.random.Generator) -> Objects:
    """VH: jets from the decay of the W or Z."""
    jets = _jets(n, rng, [0.30, 0.38, 0.24, 0.06, 0.02], 42.0, eta_width=1.5)
    return _ditau(jets, rng, _breit_wigner(n, rng, *HIGGS))


def z_tau_tau(n: int, rng: np.random.Generator) -> Objects:
    """Z -> tau tau, the irreducible background."""
    jets = _jets(n, rng, [0.66, 0.23, 0.08, 0.025, 0.005], 38.0)
    return _ditau(jets, rng, _breit_wigner(n, rng, 91.19, 2.495), y_width=1.4)


def w_jets(n: int, rng: np.random.Generator) -> Objects:
    """W -> lepton neutrino with a jet mistaken for a tau."""
    hadrons = _jets(n, rng, [0.62, 0.25, 0.09, 0.03, 0.01], 34.0)
    pt, phi = 0.9 * TAU_PT + rng.gamma(1.0, 13.0, n), rng.uniform(-np.pi, np.pi, n)
    fake = from_pt_y(pt, rng.normal(0.0, 1.5, n), phi, np.zeros(n))
    mass = _breit_wigner(n, rng, *W)
    neutrino, lepton = decay(_boson(hadrons.recoil() - fake[1:3], mass, 1.5, rng), mass, 0.0, rng)
    return _measure(lepton, fake, neutrino, hadrons, rng)


def top_pair(n: int, rng: np.random.Generator) -> Objects:
    """tt -> b lepton neutrino, b tau neutrino: two b jets from the decays, several neutrinos."""
    top, boson = np.full(n, 172.5), np.full(n, W[0])
    pt, phi = rng.gamma(2.0, 55.0, n), rng.uniform(-np.pi, np.pi, n)
    leptons, jets = [], []
    for angle in (phi, phi + np.pi):
        w, b = decay(from_pt_y(pt, rng.normal(0.0, 0.8, n), angle, top), top, W[0], rng)
        leptons.append(decay(w, boson, 0.0, rng))
        jets.append(pt_eta_phi(b))
    (lepton, neutrino), (tau, tau_neutrino) = leptons
    radiated = _jets(n, rng, [0.6, 0.3, 0.1, 0.0, 0.0], 35.0)
    b_pt, b_eta, b_phi = (np.stack(v, axis=1) for v in zip(*jets, strict=True))
    b_pt = np.where((b_pt > JET_PT) & (np.abs(b_eta) < JET_ETA), b_pt, 0.0)
    hadrons = _sorted(
        np.concatenate([b_pt, radiated.pt[:, :2]], axis=1),
        np.concatenate([b_eta, radiated.eta[:, :2]], axis=1),
        np.concatenate([b_phi, radiated.phi[:, :2]], axis=1),
        n,
        rng,
    )
    x = rng.beta(2.2, 1.5, n)
    return _measure(lepton, x * tau, neutrino + tau_neutrino + (1.0 - x) * tau, hadrons, rng)


SIGNAL = (
    Process("ggF", rows=0.387, weight=0.874, weight_spread=0.0, draw=gluon_fusion),
    Process("VBF", rows=0.523, weight=0.096, weight_spread=0.0, draw=vector_boson_fusion),
    Process("VH", rows=0.090, weight=0.030, weight_spread=0.0, draw=associated),
)
BACKGROUND = (
    Process("Z", rows=0.45, weight=0.52, weight_spread=0.35, draw=z_tau_tau),
    Process("W", rows=0.40, weight=0.465, weight_spread=0.35, draw=w_jets),
    Process("tt", rows=0.15, weight=0.015, weight_spread=0.40, draw=top_pair),
)


def generate(process: Process, n: int, rng: np.random.Generator) -> Objects:
    """Draw candidates of a process until n of them pass the selection; return those n."""
    parts, have, tried = [], 0, 0
    while not parts or have < n:
        rate = have / tried if tried else 0.25
        size = int((n - have) / max(rate, 0.02) * 1.1) + 64
        candidates = process.draw(size, rng)
        parts.append(candidates.take(np.flatnonzero(candidates.accepted())))
        tried += size
        have += parts[-1].sum_et.size
    return Objects.concatenate(parts).take(slice(0, n))
