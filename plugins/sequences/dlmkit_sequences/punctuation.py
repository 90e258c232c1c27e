"""Capitals and punctuation are to be restored (many to many, aligned).

Dimensions: B pieces of text in a batch, T words of a piece, N pieces of a split.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dlmkit.data.module import Split
from dlmkit.data.sources import python_stdlib_dataset
from dlmkit.errors import UserError, at_least
from dlmkit_sequences.problem import Answer, Problem, Steps

__all__ = ["Punctuation"]

LETTERS = "\0abcdefghijklmnopqrstuvwxyz0123456789'-"
"""What words are made of; the first stands for none."""

MARKS = ("", ",", ".", ";", ":", "?")
CASES = ("small", "Capital", "CAPITALS")

_ENDS = 3  # letters at either end of a word that the net is told
_SENTENCE = re.compile(r"[A-Z][a-z]*(?:[,;:]? [A-Za-z0-9'-]+)+[.?]")
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_TENTHS: dict[Split, range] = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}  # of the files


class Punctuation(Problem):
    """Text without capitals and marks, "foreign minister", to which they are restored: "Foreign Minister.".

    The text is English: the sentences in the docstrings of the Python standard library and of torch, each once, those
    with code in them left out: 260 thousand words, which differ a little between versions of the two. Every tenth file
    is for validation, and every tenth for the test. Asked for every word is whether it is small, begins with a capital
    or is all capitals, and which mark follows it; a word with capitals inside counts as one that begins with one.

    A word goes in as one of the most frequent, or as none of them, and by its first and its last three letters, which
    is all that the net knows of a rare word.

    What comes next decides on a word's mark, and a net that reads one way does not know it. So the answer to a word can
    be asked for ``delay`` words later. Every word of the text is asked for in one piece alone.

    Sequence shape: many to many, aligned.

    Args:
        length: Words T of a piece of text.
        delay: Words between a word and its answer; 0 asks at once, right for a net that reads from both ends.
        frequent: How many words have a number of their own.
        batch_size: Pieces in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If the delay is negative, or a figure is below 1, or a piece has no room for a word beside
            the delay.
    """

    shape = "many to many, aligned"

    def __init__(
        self, length: int = 40, delay: int = 1, frequent: int = 1000, batch_size: int = 32, num_workers: int = 0
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(1, "data.", length=length, frequent=frequent)
        at_least(0, "data.", delay=delay)
        if length <= delay:
            what = f"length {length} leaves no word besides the delay of {delay}"
            raise UserError(what, f"give at least {delay + 1}", "data.length")
        self.length, self.delay, self.frequent = length, delay, frequent

    @property
    def input_size(self) -> int:
        """Which word it is, the letters at its ends, and whether there are more between them."""
        return self.frequent + 1 + 2 * _ENDS * len(LETTERS) + 1

    @property
    def output_size(self) -> int:
        """Each case with each mark."""
        return len(MARKS) * len(CASES)

    @property
    def answer(self) -> Answer:
        """Every word is asked for."""
        return "each"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """Words (N, T, 8), int16, see `encode`, and what is asked for (N, T), int16: 3 × mark + case, or -100."""
        return _table(split, self.length, self.delay, self.frequent)

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """For each word one of its numbers is 1, one for each letter, and one more for a long word (B, T, F)."""
        word, *letters, long = inputs.long().unbind(2)
        parts = [one_hot(word, self.frequent + 1), *(one_hot(letter, len(LETTERS)) for letter in letters)]
        return torch.cat([*parts, long[..., None]], dim=2).float(), targets.long()

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """The words, and what they become ``delay`` words later."""
        words, asked = self._read(input), target.tolist()
        restored = [restore(words[t - self.delay], c) if c >= 0 else "" for t, c in enumerate(asked)]
        end = min(9, len(words))
        return words[:end], restored[:end]

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The text, the text with capitals and marks, and the text as the net restores it."""
        asked = target >= 0
        words = self._read(input)
        return [
            " ".join(words[: int(asked.sum())]),
            *(" ".join(map(restore, words, classes[asked].tolist())) for classes in (target, answer)),
        ]

    def describe(self) -> str:
        """Source, delay and sizes."""
        later = f"answered {self.delay} word{'s' * (self.delay > 1)} later" if self.delay else "answered at once"
        return f"capitals and marks of Python's and torch's docstrings, word by word, {later}; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """Changing nothing, and writing every word as it was most often written."""
        habits: defaultdict[str, Counter[int]] = defaultdict(Counter)
        for word, asked in _words("train"):
            habits[word][asked] += 1
        usual = {word: counts.most_common(1)[0][0] for word, counts in habits.items()}
        test = _words("test")
        right = {
            "nothing restored": sum(asked == 0 for _, asked in test),
            "each word as usual": sum(asked == usual.get(word, 0) for word, asked in test),
        }
        return {"test/accuracy": {name: count / len(test) for name, count in right.items()}}

    def _read(self, input: Tensor) -> list[str]:
        """The words (T,): of those that look alike to the net, the one that is most frequent."""
        known = _spelt(self.frequent)
        number = input[:, : self.frequent + 1].argmax(dim=1, keepdim=True)
        letters = input[:, self.frequent + 1 : -1].unflatten(1, (2 * _ENDS, len(LETTERS))).argmax(dim=2)
        codes = torch.cat([number, letters, input[:, -1:].long()], dim=1)
        return [known[tuple(code)] for code in codes.tolist()]


def strip(word: str) -> tuple[str, int]:
    """A word in small letters without its mark, and its class: 3 × the mark behind it + its case.

    Args:
        word: As it is written.
    """
    mark = MARKS.index(word[-1]) if word[-1] in MARKS[1:] else 0
    bare = word[:-1] if mark else word
    case = 0 if bare == bare.lower() else 2 if len(bare) > 1 and bare == bare.upper() else 1
    return bare.lower(), len(CASES) * mark + case


def restore(word: str, asked: int) -> str:
    """The word as `strip` was given it, but for capitals inside.

    Args:
        word: In small letters.
        asked: Its class.
    """
    mark, case = divmod(asked, len(CASES))
    return (word, word[:1].upper() + word[1:], word.upper())[case] + MARKS[mark]


def encode(word: str, numbers: dict[str, int]) -> list[int]:
    """A word's number, its first three letters, the last three of the others, and whether there are more.

    Args:
        word: In small letters.
        numbers: Of the frequent words; any other has the number that comes next.
    """
    head, rest = word[:_ENDS], word[_ENDS:]
    letters = [LETTERS.index(letter) for letter in head.ljust(_ENDS, "\0") + rest[-_ENDS:].ljust(_ENDS, "\0")]
    return [numbers.get(word, len(numbers)), *letters, len(rest) > _ENDS]


@lru_cache(maxsize=3)
def sentences(split: Split) -> list[str]:
    """The sentences of a split, each of them once and in one split alone; the splits are of different files.

    Args:
        split: ``train``, ``val`` or ``test``.
    """
    return [sentence for sentence, file in _sentences().items() if file % 10 in _TENTHS[split]]


@lru_cache(maxsize=1)
def _sentences() -> dict[str, int]:
    """Every sentence, and the number of the file that has it first."""
    found: dict[str, int] = {}
    for number, source in enumerate(_sources()):
        for docstring in _DOCSTRING.findall(source):
            for paragraph in re.split(r"\n\s*\n", cleandoc(docstring)):
                text = re.sub(r'[()"`*]', "", " ".join(paragraph.split()))
                for part in re.split(r"(?<=[a-z][.?:]) (?=[A-Z])", text):
                    if _SENTENCE.fullmatch(part):
                        found.setdefault(part, number)
    return found


def _sources() -> Iterator[str]:
    """The source text of every file of the standard library, then of torch."""
    yield from python_stdlib_dataset()["text"]
    torch = find_spec("torch")
    for folder in (torch.submodule_search_locations if torch else None) or []:
        for file in sorted(Path(folder).rglob("*.py")):
            yield file.read_text(encoding="utf-8", errors="replace")


@lru_cache(maxsize=3)
def _words(split: Split) -> list[tuple[str, int]]:
    """Every word of a split, and its class."""
    return [strip(word) for sentence in sentences(split) for word in sentence.split(" ")]


@lru_cache(maxsize=3)
def _numbers(frequent: int) -> dict[str, int]:
    """The numbers of the words that are most frequent in training."""
    counted = Counter(word for word, _ in _words("train"))
    return {word: number for number, (word, _) in enumerate(counted.most_common(frequent))}


@lru_cache(maxsize=3)
def _spelt(frequent: int) -> dict[tuple[int, ...], str]:
    """What the net sees of a word, and the most frequent word of which that is so."""
    counted = Counter(word for split in _TENTHS for word, _ in _words(split))
    return {tuple(encode(word, _numbers(frequent))): word for word, _ in reversed(counted.most_common())}


@lru_cache(maxsize=6)
def _table(split: Split, length: int, delay: int, frequent: int) -> tuple[Tensor, Tensor]:
    numbers = _numbers(frequent)
    words = torch.tensor([encode(word, numbers) for word, _ in _words(split)], dtype=torch.int16)
    asked = torch.tensor([asked for _, asked in _words(split)], dtype=torch.int16)
    step = length - delay  # words that a piece is asked for; those behind them are there to be read
    inputs = words.unfold(0, length, step).transpose(1, 2)  # (N, T, 8)
    targets = asked.unfold(0, length, step).roll(delay, 1).clone()
    targets[:, :delay] = -100
    return inputs.contiguous(), targets
