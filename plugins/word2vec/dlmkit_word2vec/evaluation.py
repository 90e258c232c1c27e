"""How well vectors know what people know: word similarity and analogies, with the protocol that figures need.

Similarity: Spearman's rank correlation between people's scores and cosines, over the pairs whose words are both known.
Analogies (a is to b as c is to d): the share for which d is nearest to b - a + c among the ``restrict`` most frequent
words without a, b and c; a question with a word beyond these is skipped, and so is a section with no other. Questions
and pairs are taken in small letters where the vocabulary has no capitals.

References:
    | Placing Search in Context: The Concept Revisited (Finkelstein et al., 2002): WordSim-353
    | SimLex-999: Evaluating Semantic Models With (Genuine) Similarity Estimation (Hill, Reichart, Korhonen, 2015)
    | Multimodal Distributional Semantics (Bruni, Tran, Baroni, 2014): MEN
    | Efficient Estimation of Word Representations in Vector Space (Mikolov et al., 2013), section 4.1: analogies
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlmkit import UserError
from dlmkit_word2vec.vectors import Vectors

__all__ = ["Section", "Similarity", "analogies", "read_pairs", "read_questions", "similarity", "total"]

Pair = tuple[str, str, float]
Question = tuple[str, str, str, str]


class Similarity(NamedTuple):
    """How well cosines agree with people.

    Args:
        correlation: Spearman's, in [-1, 1]; nan with fewer than two pairs.
        used: Pairs whose words are both known.
        pairs: All pairs.
    """

    correlation: float
    used: int
    pairs: int


class Section(NamedTuple):
    """The analogies of one kind.

    Args:
        name: What they are about.
        right: Questions answered right.
        used: Questions whose words are all known.
        questions: All questions.
    """

    name: str
    right: int
    used: int
    questions: int


def read_pairs(path: str) -> list[Pair]:
    """Pairs of words with people's score, one a line, separated by tabs, commas or blanks; # begins a comment.

    Args:
        path: A file such as those of WordSim-353, SimLex-999 and MEN.

    Raises:
        UserError: If it cannot be read or a line is something else.
    """
    pairs: list[Pair] = []
    for number, line in enumerate(_lines(path), 1):
        cells = line.replace(",", "\t").split("\t") if "\t" in line or "," in line else line.split()
        if not line.strip() or line.startswith("#"):
            continue
        try:
            pairs.append((cells[0].strip(), cells[1].strip(), float(cells[2])))
        except (IndexError, ValueError):
            if number == 1:
                continue  # the heads of the columns
            what = f"this is no pair of words with a number: {line.strip()[:60]!r}"
            raise UserError(what, "give word, word and score, separated by tabs", f"{path}:{number}") from None
    if not pairs:
        raise UserError("there are no pairs of words in it", "give word, word and score, a line each", path)
    return pairs


def read_questions(path: str) -> dict[str, list[Question]]:
    """Questions of four words a line, in sections that begin with ``: name``.

    Args:
        path: A file such as questions-words.txt.

    Raises:
        UserError: If it cannot be read or a line is something else.
    """
    sections: dict[str, list[Question]] = {}
    name = ""
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if words[:1] == [":"] or line.startswith(":"):
            name = line.lstrip(":").strip()
        elif len(words) == 4:
            a, b, c, d = words
            sections.setdefault(name, []).append((a, b, c, d))
        elif words:
            what = f"this is no question of four words: {line.strip()[:60]!r}"
            raise UserError(what, "give four words a line, and sections as in ': capitals'", f"{path}:{number}")
    if not sections:
        raise UserError("there are no questions in it", "give four words a line", path)
    return sections


def _lines(path: str) -> list[str]:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "it is not UTF-8"
        raise UserError(f"cannot be read: {reason}", "give a text file in UTF-8", path) from None


def similarity(vectors: Vectors, pairs: list[Pair]) -> Similarity:
    """Spearman's correlation between people's scores and cosines.

    Args:
        vectors: What was learnt.
        pairs: From `read_pairs`.
    """
    number = vectors.number
    found = [(number[a], number[b], score) for a, b, score in _folded(vectors, pairs) if a in number and b in number]
    if len(found) < 2:
        return Similarity(float("nan"), len(found), len(pairs))
    first, second, scores = (np.array(column) for column in zip(*found, strict=True))
    cosines = (vectors.directions[first] * vectors.directions[second]).sum(axis=1)
    return Similarity(float(np.corrcoef(_ranks(cosines), _ranks(scores))[0, 1]), len(found), len(pairs))


def _folded(vectors: Vectors, pairs: list[Pair]) -> list[Pair]:
    return pairs if _capitals(vectors) else [(a.lower(), b.lower(), score) for a, b, score in pairs]


def _capitals(vectors: Vectors) -> bool:
    return any(word != word.lower() for word in vectors.words)


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (counts.cumsum() - (counts - 1) / 2)[place]
    return ranks


def analogies(vectors: Vectors, sections: dict[str, list[Question]], restrict: int = 30_000) -> list[Section]:
    """The questions that are answered right, by section.

    Args:
        vectors: What was learnt.
        sections: From `read_questions`.
        restrict: Only so many of the most frequent words are known and can be answers.
    """
    known = {word: i for word, i in vectors.number.items() if i < restrict}
    lower = not _capitals(vectors)
    results = []
    for name, questions in sections.items():
        asked = [[word.lower() if lower else word for word in question] for question in questions]
        rows = [[known[word] for word in question] for question in asked if all(word in known for word in question)]
        numbers = np.array(rows, dtype=np.int64).reshape(-1, 4)
        right = int((vectors.fourth(numbers[:, :3], restrict) == numbers[:, 3]).sum())
        results.append(Section(name, right, len(numbers), len(questions)))
    return results


def total(sections: list[Section], name: str = "all") -> Section:
    """Several sections as one; its share is over all questions, so that large sections count for more."""
    return Section(name, *(sum(getattr(s, field) for s in sections) for field in ("right", "used", "questions")))
