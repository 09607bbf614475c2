"""Relativistic kinematics on arrays of four-vectors: boosts and decays, as far as the synthetic events need them.

A four-vector array has shape [4, n]: energy, px, py, pz in GeV (c = 1).
"""

from __future__ import annotations

import numpy as np


def from_pt_y(pt: np.ndarray, rapidity: np.ndarray, phi: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Return four-vectors [4, n] from transverse momentum, rapidity, azimuth and mass."""
    transverse = np.sqrt(mass**2 + pt**2)
    return np.stack(
        [
            transverse * np.cosh(rapidity),
            pt * np.cos(phi),
            pt * np.sin(phi),
            transverse * np.sinh(rapidity),
        ]
    )


def pt_eta_phi(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return transverse momentum, pseudorapidity and azimuth of four-vectors [4, n]."""
    pt = np.hypot(p[1], p[2])
    return pt, np.arcsinh(p[3] / np.maximum(pt, 1e-9)), np.arctan2(p[2], p[1])


def boost(p: np.ndarray, parent: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Boost four-vectors from the rest frame of ``parent`` (of the given mass) to the frame ``parent`` is seen in."""
    gamma = parent[0] / mass
    along = (parent[1] * p[1] + parent[2] * p[2] + parent[3] * p[3]) / mass
    factor = (along / (gamma + 1.0) + p[0]) / mass
    return np.stack(
        [
            gamma * p[0] + along,
            p[1] + factor * parent[1],
            p[2] + factor * parent[2],
            p[3] + factor * parent[3],
        ]
    )


def decay(
    parent: np.ndarray, mass: np.ndarray, first: np.ndarray | float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Decay each parent into a particle of mass ``first`` and a massless one, isotropically in its rest frame."""
    n = parent.shape[1]
    momentum = (mass**2 - first**2) / (2.0 * mass)
    cosine = rng.uniform(-1.0, 1.0, n)
    sine = np.sqrt(1.0 - cosine**2)
    phi = rng.uniform(-np.pi, np.pi, n)
    direction = momentum * np.stack([sine * np.cos(phi), sine * np.sin(phi), cosine])
    one = np.concatenate([np.sqrt(momentum**2 + first**2)[None], direction])
    two = np.concatenate([momentum[None], -direction])
    return boost(one, parent, mass), boost(two, parent, mass)


def delta_phi(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a - b brought into [-pi, pi)."""
    return (a - b + np.pi) % (2.0 * np.pi) - np.pi
