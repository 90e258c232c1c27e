"""A small evaluation that needs no file: do words of one kind have each other for neighbours?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["GROUPS", "chance", "known_groups", "purity"]

GROUPS = {
    "days": "monday tuesday wednesday thursday friday saturday sunday",
    "months": "january february march april june july august september october november december",
    "numbers": "one two three four five six seven eight nine ten",
    "colours": "red green blue yellow black white orange purple",
    "sides": "left right top bottom upper lower",
    "sizes": "small large big larger smaller bigger largest smallest",
    "family": "father mother son daughter brother sister uncle aunt wife husband",
    "people": "he she him her his man woman boy girl",
    "countries": "france germany italy spain england japan china russia",
    "capitals": "paris berlin rome madrid london tokyo beijing moscow",
    "spans of time": "second minute hour day week month year seconds minutes hours days weeks months years",
    "statistics": "mean median variance deviation skewness kurtosis covariance correlation quantile",
    "functions": "sine cosine tangent logarithm exponential sin cos tan log exp",
    "containers": "list tuple dict dictionary set lists tuples dicts dictionaries sets",
    "machine": "cpu gpu memory disk cuda device devices gpus",
}


def known_groups(words: Sequence[str]) -> list[list[int]]:
    """The numbers of the words of each group that has at least two in a vocabulary."""
    number = {word: i for i, word in enumerate(words)}
    groups = [[number[word] for word in text.split() if word in number] for text in GROUPS.values()]
    return [group for group in groups if len(group) > 1]


def chance(words: Sequence[str]) -> float:
    """The `purity` of vectors that mean nothing; 0 where the vocabulary has fewer than two groups.

    Args:
        words: The vocabulary.
    """
    groups = known_groups(words)
    size = sum(map(len, groups))
    return sum(len(g) * (len(g) - 1) for g in groups) / (size * (size - 1)) if len(groups) > 1 else 0.0


def purity(vectors: NDArray[np.float32], words: Sequence[str]) -> tuple[float, int] | None:
    """The share of the groups' words whose nearest among them is of their own group, and how many words that are.

    Args:
        vectors: (V, D), each of length 1.
        words: V words.
    """
    groups = known_groups(words)
    if len(groups) < 2:
        return None
    members = np.concatenate(groups)
    group = np.repeat(np.arange(len(groups)), list(map(len, groups)))
    likeness = vectors[members] @ vectors[members].T
    np.fill_diagonal(likeness, -np.inf)
    return float((group[likeness.argmax(axis=1)] == group).mean()), len(members)
