"""Named, counter-based randomness: every draw is a pure function of seed, purpose and counters.

Knows Philox4x64-10 and how to key it. Refuses to hold state: there is nothing to save in a
checkpoint, and a sample's randomness depends neither on the batch it stood in nor on what was
drawn before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cupel.errors import ConfigError

_MASK_32 = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_KEY_STEPS = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_WRAP_64 = (1 << 64) - 1
_ROUNDS = 10
_WORDS = 4
MOST_COUNTERS = 3


def counter_of(text: str) -> int:
    """Return a 64-bit counter for a name, e.g. of a problem id.

    >>> counter_of("gsm8k/17") == counter_of("gsm8k/17")
    True
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class Randomness:
    """All randomness of one run.

    Purposes are words such as `"problem_order"`, `"sampling"`, `"init"`; streams of different
    purposes, or of different numbers of counters, are independent of one another.
    """

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ConfigError(f"seed {seed} is negative; a seed must be >= 0")
        self.seed = seed

    def generator(self, purpose: str, *counters: int) -> np.random.Generator:
        """Return the generator of a purpose at its counters, e.g. `("problem_order", epoch)`.

        Raises:
            ConfigError: more than three counters, or one outside [0, 2**64).
        """
        words = _checked([counters], purpose)[0]
        key = np.array(_key(self.seed, purpose, len(counters)), dtype=np.uint64)
        counter = np.zeros(_WORDS, dtype=np.uint64)
        counter[1 : 1 + len(counters)] = words
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def uniforms(
        self, purpose: str, keys_N: Sequence[Sequence[int]], count: int
    ) -> NDArray[np.float64]:
        """Return [N, count] uniforms in [0, 1); row n depends only on its own counters.

        Row n equals `generator(purpose, *keys_N[n]).random(count)`, all rows computed at once.

        Args:
            keys_N: up to three counters a row, e.g. `(step, counter_of(problem_id), sample)`.

        Raises:
            ConfigError: rows of different length, more than three counters, or one outside
                [0, 2**64).
        """
        words_NC = _checked(keys_N, purpose)
        rows, counters = words_NC.shape
        blocks = -(-count // _WORDS)
        key = _key(self.seed, purpose, counters)
        shape = (rows, blocks)
        block_NB = np.broadcast_to(np.arange(1, blocks + 1, dtype=np.uint64), shape)
        columns = [np.broadcast_to(words_NC[:, c, None], shape) for c in range(counters)]
        zeros = [np.zeros(shape, dtype=np.uint64)] * (_WORDS - 1 - counters)
        words = _philox((block_NB, *columns, *zeros), key)
        bits_NT = np.stack(words, axis=-1).reshape(rows, blocks * _WORDS)[:, :count]
        return (bits_NT >> np.uint64(11)).astype(np.float64) * 2.0**-53


@lru_cache(maxsize=1024)
def _key(seed: int, purpose: str, counters: int) -> tuple[int, int]:
    text = f"cupel/{seed}/{counters}/{purpose}".encode()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


def _checked(keys_N: Sequence[Sequence[int]], purpose: str) -> NDArray[np.uint64]:
    lengths = {len(key) for key in keys_N}
    if len(lengths) > 1 or max(lengths, default=0) > MOST_COUNTERS:
        raise ConfigError(
            f"randomness '{purpose}': rows have {sorted(lengths)} counters; "
            f"give every row the same number, at most {MOST_COUNTERS}"
        )
    rows = [[int(counter) for counter in key] for key in keys_N]
    for counter in (counter for row in rows for counter in row):
        if not 0 <= counter <= _WRAP_64:
            raise ConfigError(
                f"randomness '{purpose}': counter {counter} is outside [0, 2**64); "
                "make a counter of a name with counter_of(name)"
            )
    return np.array(rows, dtype=np.uint64).reshape(len(rows), max(lengths, default=0))


def _philox(
    counters: Sequence[NDArray[np.uint64]], key: tuple[int, int]
) -> tuple[NDArray[np.uint64], ...]:
    """Apply Philox4x64-10 to arrays of counters.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1, c2, c3 = counters
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _WRAP_64, (k1 + _KEY_STEPS[1]) & _WRAP_64
    return c0, c1, c2, c3


def _multiply(
    a: NDArray[np.uint64], multiplier: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the high and low 64 bits of the 128-bit product."""
    b_low, b_high = np.uint64(multiplier & 0xFFFFFFFF), np.uint64(multiplier >> 32)
    a_low, a_high = a & _MASK_32, a >> _32
    low_high, high_low = a_low * b_high, a_high * b_low
    carry = ((a_low * b_low) >> _32) + (low_high & _MASK_32) + (high_low & _MASK_32)
    high = a_high * b_high + (low_high >> _32) + (high_low >> _32) + (carry >> _32)
    return high, a * np.uint64(multiplier)
