r"""What word2vec leaves to chance: which frequent words are passed over, how far a centre sees, which words are noise.

V words, B rows of text, T tokens of a row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["BLOCK", "PAD", "Noise", "compact", "draw_windows", "keep_probability", "pairs"]

PAD = -1
"""Stands behind the end of a row."""

BLOCK = 32
"""The length of a batch's rows is a multiple of it."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def keep_probability(counts: Ints, sample: float) -> Floats:
    r"""With what probability an occurrence of each word is kept.

    .. math::
        p(w) = \min\Bigl(1, \sqrt{\tfrac{t}{f(w)}} + \tfrac{t}{f(w)}\Bigr)

    It is what the authors' program does; the paper's equation 5 has the first term alone.

    Args:
        counts: How often each word occurs (V,).
        sample: The threshold t as a share of the text; 0 keeps everything.
    """
    if sample == 0:
        return np.ones(len(counts))
    ratio = sample * counts.sum() / counts
    kept: Floats = np.minimum(1.0, np.sqrt(ratio) + ratio)
    return kept


def compact(tokens: Ints, kept: NDArray[np.bool_]) -> Ints:
    """Each row's kept tokens, moved to the left; what is passed over leaves no gap, so that windows reach further.

    Args:
        tokens: (B, T).
        kept: (B, T).

    Returns:
        (B, T'), T' being the longest row rounded up to a multiple of `BLOCK`; `PAD` behind the ends.
    """
    place = kept.cumsum(axis=1) - 1
    longest = max(1, int(place[:, -1].max(initial=-1)) + 1)
    out = np.full((len(tokens), longest + -longest % BLOCK), PAD, dtype=np.int64)
    rows, columns = kept.nonzero()
    out[rows, place[rows, columns]] = tokens[rows, columns]
    return out


def draw_windows(shape: tuple[int, ...], window: int, generator: Generator) -> Ints:
    """How many words to each side a centre sees: 1 to ``window``, evenly, so that near words count for more."""
    return generator.integers(1, window + 1, shape)


def pairs(tokens: Ints, windows: Ints) -> Ints:
    """How many pairs of a centre and a word around it each row has (B,).

    Args:
        tokens: (B, T), `PAD` behind the ends.
        windows: (B, T).
    """
    size = (tokens != PAD).sum(axis=1, keepdims=True)  # (B, 1)
    at = np.arange(tokens.shape[1])  # (T,)
    around = np.minimum(windows, at) + np.minimum(windows, size - 1 - at)
    found: Ints = np.where(at < size, around, 0).sum(axis=1)
    return found


class Noise(NamedTuple):
    """The noise distribution as a table for drawing in constant time (Walker's alias method), exactly.

    A word is drawn evenly; with its probability it stays, else its alias is taken.

    References:
        | An Efficient Method for Generating Discrete Random Variables with General Distributions (Walker, 1977)

    Args:
        stay: (V,), float32.
        alias: (V,), int64.
    """

    stay: NDArray[np.float32]
    alias: Ints

    @classmethod
    def of(cls, counts: Ints, power: float = 0.75) -> Noise:
        """The table for probabilities that are proportional to ``counts ** power``."""
        weights = counts.astype(np.float64) ** power
        level = weights * (len(weights) / weights.sum())  # 1 on average
        stay, alias = np.ones(len(level)), np.arange(len(level))
        small, large = [list(np.flatnonzero(part)) for part in (level < 1, level >= 1)]
        while small and large:  # fill what is missing below 1 from a word that has more
            low, high = small.pop(), large[-1]
            stay[low], alias[low] = level[low], high
            level[high] -= 1 - level[low]
            if level[high] < 1:
                small.append(large.pop())
        return cls(stay.astype(np.float32), alias)

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Ints:
        """Words, drawn independently."""
        words = generator.integers(0, len(self.stay), shape)
        stays = generator.random(shape, dtype=np.float32) < self.stay[words]
        return np.where(stays, words, self.alias[words])

    def probabilities(self) -> Floats:
        """What the table draws (V,)."""
        found = self.stay.astype(np.float64)
        np.add.at(found, self.alias, 1 - self.stay.astype(np.float64))
        probabilities: Floats = found / len(found)
        return probabilities
