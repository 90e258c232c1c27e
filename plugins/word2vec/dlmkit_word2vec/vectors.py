"""Words and their vectors when training is over: nearest words, sums and differences, near spellings.

V words, D dimensions, Q questions.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlmkit import UserError

__all__ = ["Neighbour", "Vectors", "terms"]

Floats = NDArray[np.float32]


class Neighbour(NamedTuple):
    """A word and the cosine of the angle between its vector and the one that was asked for."""

    word: str
    likeness: float


class Vectors:
    """Words and their vectors.

    Args:
        words: V words, the most frequent first.
        matrix: (V, D).

    Raises:
        UserError: If a vector is missing, or there are none.
    """

    def __init__(self, words: Sequence[str], matrix: NDArray[np.floating]) -> None:
        if len(words) != len(matrix) or not len(words):
            raise UserError(f"there are {len(words)} words and {len(matrix)} vectors", "give one vector for each word")
        self.words, self.matrix = list(words), np.asarray(matrix, dtype=np.float32)

    @cached_property
    def number(self) -> dict[str, int]:
        """Each word's row."""
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def directions(self) -> Floats:
        """The vectors, each of length 1 (V, D)."""
        lengths = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        directions: Floats = self.matrix / np.maximum(lengths, 1e-12)
        return directions

    def __contains__(self, word: str) -> bool:
        return word in self.number

    def find(self, word: str) -> int:
        """A word's row; if it is not known as it is written, in small letters.

        Raises:
            UserError: If it is not known at all; the line tells which words are spelt nearly so.
        """
        for written in (word, word.lower()):
            if written in self.number:
                return self.number[written]
        raise UserError(f"{word!r} is none of the {len(self.words):,} words that were learnt", self._near(word.lower()))

    def _near(self, word: str) -> str:
        if not word:
            return "give a word"
        likely = [known for known in self.words if known[:1] == word[:1] and abs(len(known) - len(word)) <= 3]
        near = difflib.get_close_matches(word, likely, n=3, cutoff=0.7)
        return f"did you mean {' or '.join(near)}?" if near else "words are learnt from the training text alone"

    def nearest(self, expression: str, top: int = 10) -> list[Neighbour]:
        """The words that are nearest to a word, or to a sum of words; those of the question are left out.

        Args:
            expression: Words with + and - between them, such as ``king - queen + aunt``.
            top: How many.
        """
        asked = [(sign, self.find(word)) for sign, word in terms(expression)]
        goal = sum(sign * self.directions[row] for sign, row in asked)
        goal = goal / max(float(np.linalg.norm(goal)), 1e-12)
        likeness = self.directions @ goal
        likeness[[row for _, row in asked]] = -np.inf
        best = np.argsort(-likeness, kind="stable")[: min(top, len(self.words) - len({row for _, row in asked}))]
        return [Neighbour(self.words[i], float(likeness[i])) for i in best]

    def fourth(self, questions: NDArray[np.int64], restrict: int) -> NDArray[np.int64]:
        """The answers to "a is to b as c is to …": the word nearest to b - a + c, but none of these three.

        Args:
            questions: Rows of a, b and c (Q, 3), below ``restrict``.
            restrict: Only so many of the most frequent words can be the answer.

        Returns:
            Rows (Q,).
        """
        known, found = self.directions[:restrict], []
        for part in np.array_split(questions, -(-len(questions) // 512)) if len(questions) else ():
            a, b, c = known[part.T]
            likeness = (b - a + c) @ known.T  # (q, D) x (D, V) -> (q, V)
            np.put_along_axis(likeness, part, -np.inf, axis=1)
            found.append(likeness.argmax(axis=1))
        return np.concatenate(found) if found else np.zeros(0, np.int64)


_SIGNS = {"+": 1, "-": -1, "−": -1, "–": -1}


def terms(expression: str) -> list[tuple[int, str]]:
    """The words of a sum, each with 1 or -1.

    Args:
        expression: Words with + and - between them and white space around these.

    Raises:
        UserError: If a word or a sign is missing.
    """
    found: list[tuple[int, str]] = []
    sign: int | None = 1
    for word in expression.split():
        if word in _SIGNS and (sign is None or not found):
            sign = _SIGNS[word]
        elif word in _SIGNS or sign is None:
            what = f"there is {word!r} in {expression!r} where a {'word' if sign is not None else '+ or -'} should be"
            raise UserError(what, "write it as in: king - queen + aunt", "--prompt")
        else:
            found.append((sign, word))
            sign = None
    if not found or sign is not None:
        raise UserError(f"{expression!r} ends before it is complete", "write it as in: king - queen + aunt", "--prompt")
    return found
