"""The quantised score axis on which the statistics are kept: monotone, fine near 0 and 1, the same everywhere.

A score s in [0, 1] is mirrored at one half, so that both ends are resolved alike: u = min(s, 1 - s), which float32
subtracts exactly for s >= 1/2. From 1/32 on the bins are 2^-16 wide; below, each octave of u has 2,048 bins taken
from the float32 bit pattern, down to 2^-40; what is smaller shares one bin with 0. A bin is thus at most 2^-16 wide
and at most 1/2,048 of its distance from the nearer end.
"""

from __future__ import annotations

import functools

import numpy as np

_MANTISSA_SHIFT = 12  # float32 has 23 mantissa bits, 11 of them are kept: 2,048 bins an octave
_FIRST = (127 - 40) << 11  # truncated bit pattern of 2^-40
_OCTAVES = ((127 - 5) << 11) - _FIRST  # bins below 1/32
_HALF = _OCTAVES + 32768 - 2048  # bin of u = 1/2
BINS = 2 * (_HALF + 1)


def _fold(u: np.ndarray) -> np.ndarray:
    """Return the bin int64[n] in [0, _HALF] of u float32[n] in [0, 1/2]."""
    octave = (u.view(np.int32) >> _MANTISSA_SHIFT) - _FIRST
    linear = (u * np.float32(65536)).astype(np.int32) + (_OCTAVES - 2048)
    return np.where(u < np.float32(2**-5), np.maximum(octave, 0), linear).astype(np.int64)


def bins(scores: np.ndarray) -> np.ndarray:
    """Return the bin int64[n] in [0, BINS) of scores float32[n] in [0, 1]; a greater score has no smaller bin."""
    scores = scores + np.float32(0)  # turns -0.0, whose bit pattern is negative, into 0.0
    upper = scores >= np.float32(0.5)
    folded = _fold(np.where(upper, np.float32(1) - scores, scores))
    return np.where(upper, BINS - 1 - folded, folded)


@functools.cache
def edges() -> np.ndarray:
    """Return float32[BINS], the smallest score of each bin: ``score >= edges()[b]`` selects bins b and up.

    Bins that no float32 score can fall into (close to 1, where float32 is coarser than the scale) have the edge of
    the next bin that one can.
    """
    octave = np.arange(_OCTAVES, dtype=np.int32) + _FIRST
    lower = (octave << _MANTISSA_SHIFT).view(np.float32)
    lower = np.concatenate([lower, np.arange(2048, 32769, dtype=np.float32) / np.float32(65536)])
    lower[0] = 0
    # A mirrored bin holds u in [lower, upper), that is s in (1 - upper, 1 - lower]: its smallest score is the
    # float32 that follows 1 - upper.
    upper = np.append(lower[1:], np.float32(0.5)).astype(np.float64)
    smallest = (1 - upper[::-1]).astype(np.float32)
    rounded_up = smallest.astype(np.float64) > 1 - upper[::-1]
    mirrored = np.where(rounded_up, smallest, np.nextafter(smallest, np.float32(2)))
    mirrored[0] = 0.5  # the bin of u = 1/2 holds 1/2 alone
    result = np.concatenate([lower[:-1], [np.float32(0.5)], np.minimum(mirrored, np.float32(1))]).astype(np.float32)
    result.setflags(write=False)
    return result


@functools.cache
def middles() -> np.ndarray:
    """Return float64[BINS]: the middle of each bin, which stands for the scores in it."""
    lower = edges().astype(np.float64)
    result = (lower + np.append(lower[1:], 1.0)) / 2
    result.setflags(write=False)
    return result
