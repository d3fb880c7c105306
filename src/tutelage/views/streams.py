"""Counted randomness: number i of a view's stream is a hash of (seed, key, view number, i).

So nothing is consumed: a batch is drawn with a few array operations, and no generator has a state.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FACTORS = np.array([0xBF58476D1CE4E5B9, 0x94D049BB133111EB], dtype=np.uint64)
_SHIFTS = np.array([30, 27, 31], dtype=np.uint64)


def make_streams(seed: int, keys: Keys, numbers: Ints) -> Keys:
    """Return the stream of each (seed, key, view number), uint64 [B]."""
    start = _scramble(np.array([seed % 2**64], dtype=np.uint64))
    return _scramble(_scramble(start ^ keys) + numbers.astype(np.uint64) * _GOLDEN)


def uniforms(streams: Keys, at: int, count: int) -> Doubles:
    """Return numbers ``at`` to ``at + count`` of each stream, uniform in [0, 1), [B, count]."""
    counters = np.arange(at + 1, at + count + 1, dtype=np.uint64) * _GOLDEN
    return (_scramble(streams[:, None] + counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _scramble(values: Keys) -> Keys:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014); arithmetic is modulo 2**64."""
    values = (values ^ (values >> _SHIFTS[0])) * _FACTORS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _FACTORS[1]
    scrambled: Keys = values ^ (values >> _SHIFTS[2])
    return scrambled
