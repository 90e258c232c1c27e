"""A text as a stream of word numbers that stays on disk, and the vocabulary that it has.

The text is read once, piece by piece. Each word gets a number when it is first seen, and the stream of numbers goes to
disk. Then the words that are frequent enough are renumbered by frequency, and the others are left out of the stream. So
a corpus may be larger than memory; the words themselves, each once, must fit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dlmkit.data.cache import locked
from dlmkit_word2vec.sources import Source

__all__ = ["Corpus", "Reading", "read_corpus", "split_letters"]

_VERSION = 1  # of what is in the cache
_CHUNK = 1 << 22
_LETTERS = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class Reading:
    """How a text becomes words.

    Args:
        split: ``letters`` takes runs of letters, with apostrophes inside; ``spaces`` whatever white space separates.
        lowercase: Whether capital letters become small.
        min_count: Words that occur less often are left out.
        max_words: Only so many words, the most frequent; 0 for all.
    """

    split: Literal["letters", "spaces"] = "letters"
    lowercase: bool = True
    min_count: int = 5
    max_words: int = 0

    def words(self, text: str) -> list[str]:
        """The words of a text."""
        text = text.lower() if self.lowercase else text
        return split_letters(text) if self.split == "letters" else text.split()


def split_letters(text: str) -> list[str]:
    """Runs of letters, with apostrophes inside."""
    return _LETTERS.findall(text)


class Corpus(NamedTuple):
    """A text as word numbers.

    Args:
        words: V words, the most frequent first.
        counts: How often each occurs (V,), int64.
        tokens: The text (N,), int32, read from disk as it is needed; words that are no longer known are left out.
        total: Words of the text, those that are left out included.
    """

    words: list[str]
    counts: NDArray[np.int64]
    tokens: NDArray[np.int32]
    total: int


def read_corpus(source: Source, reading: Reading) -> Corpus:
    """Read a source, or take what was made of the same content with the same settings from the cache.

    See `dlmkit.data.cache`.

    Args:
        source: What to read.
        reading: How.

    Raises:
        UserError: If the source cannot be read, or the cache cannot be written.
    """
    settings = json.dumps({"version": _VERSION, "source": source.fingerprint(), **asdict(reading)})
    stem = f"words-{hashlib.sha256(settings.encode()).hexdigest()[:32]}"
    with locked(stem) as file:
        about = file.with_suffix(".json")
        if not about.exists():  # it is written last
            _write(source, reading, file)
    known = json.loads(about.read_text(encoding="utf-8"))
    ids = file.with_suffix(".ids")
    tokens = np.memmap(ids, np.int32, "r") if ids.stat().st_size else np.zeros(0, np.int32)
    return Corpus(known["words"], np.array(known["counts"], dtype=np.int64), tokens, known["total"])


def _write(source: Source, reading: Reading, stem: Path) -> None:
    """Read a source into the cache; a process that is killed on the way leaves nothing under the final names."""
    first, second = stem.with_suffix(".first.tmp"), stem.with_suffix(".second.tmp")
    try:
        with first.open("wb") as file:
            seen, counts = _number(source, reading, file)
        order = _vocabulary(seen, counts, reading)
        renumbered = np.full(len(seen), -1, dtype=np.int32)
        renumbered[order] = np.arange(len(order))
        with first.open("rb") as old, second.open("wb") as new:
            while len(part := np.fromfile(old, np.int32, _CHUNK)):
                part = renumbered[part]
                part[part >= 0].tofile(new)
        second.replace(stem.with_suffix(".ids"))
    finally:
        first.unlink(missing_ok=True)
        second.unlink(missing_ok=True)
    about = {"words": [seen[i] for i in order], "counts": counts[order].tolist(), "total": int(counts.sum())}
    draft = stem.with_suffix(".json.tmp")
    draft.write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    draft.replace(stem.with_suffix(".json"))


def _number(source: Source, reading: Reading, file: IO[bytes]) -> tuple[list[str], NDArray[np.int64]]:
    """Write each word's number, in the order in which they are first seen; all words, and how often each occurs."""
    numbers: defaultdict[str, int] = defaultdict(itertools.count().__next__)
    number: Callable[[str], int] = numbers.__getitem__
    counts = np.zeros(0, dtype=np.int64)
    for text in source.texts():
        ids = np.fromiter(map(number, reading.words(text)), dtype=np.int32)
        ids.tofile(file)
        part = np.bincount(ids, minlength=len(numbers))
        part[: len(counts)] += counts
        counts = part
    return list(numbers), counts


def _vocabulary(seen: list[str], counts: NDArray[np.int64], reading: Reading) -> list[int]:
    """The words to keep, the most frequent first, then by the alphabet."""
    kept = [int(i) for i in np.flatnonzero(counts >= reading.min_count)]
    kept.sort(key=lambda i: (-counts[i], seen[i]))
    return kept[: reading.max_words or None]
