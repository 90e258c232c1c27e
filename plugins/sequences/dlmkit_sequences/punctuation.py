"""Capitals and punctuation are to be restored (many to many, aligned).

Dimensions: B pieces of text in a batch, T time steps, V characters, N pieces of a split.
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
from torch.nn.functional import one_hot, pad

from dlmkit.data.module import Split
from dlmkit.data.sources import python_stdlib_dataset
from dlmkit.errors import UserError
from dlmkit_sequences.problem import Answer, Problem, Steps

__all__ = ["Punctuation"]

ALPHABET = " abcdefghijklmnopqrstuvwxyz0123456789'-"
MARKS = ("", ",", ".", ";", ":", "?")

_SENTENCE = re.compile(r"[A-Z][a-z]*(?:[,;:]? [A-Za-z0-9'-]+)+[.?]")
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_TENTHS: dict[Split, range] = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}  # of the files


class Punctuation(Problem):
    """Text without capitals and marks, "foreign minister", to which they are restored: "Foreign Minister.".

    The text is English: the sentences in the docstrings of the Python standard library and of torch, each once, those
    with code in them left out: 1.6 million characters, which differ a little between versions of the two. Every tenth
    file is for validation, and every tenth for the test. Asked for every character is whether it is a capital, and
    which mark comes before it: at the space behind a word, which mark follows that word.

    What follows a word decides on its mark, and a net that reads one way does not know it. So the answer to a character
    is asked for ``delay`` steps later, when that much of what follows has been read. What has been read since goes in
    beside each new character, so that the net need not learn by heart what it will be asked for. A piece of text begins
    with a word, and every character of the text is asked for in one piece alone.

    Sequence shape: many to many, aligned (with a delay).

    Args:
        length: Steps T of a piece of text.
        delay: Steps between a character and its answer; 0 asks at once.
        batch_size: Pieces in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If the delay is negative, or a piece has no room for a word besides it.
    """

    shape = "many to many, aligned"

    def __init__(self, length: int = 100, delay: int = 10, batch_size: int = 32, num_workers: int = 0) -> None:
        super().__init__(batch_size, num_workers)
        if delay < 0:
            raise UserError(f"delay is {delay}", "give at least 0", "data.delay")
        if length < delay + 40:
            what = f"length {length} leaves {length - delay} steps besides the delay of {delay}"
            raise UserError(what, f"give at least {delay + 40}, room for a long word", "data.length")
        self.length, self.delay = length, delay

    @property
    def input_size(self) -> int:
        """The characters from the one that is read back to the one that is asked for, each of 39."""
        return (self.delay + 1) * len(ALPHABET)

    @property
    def output_size(self) -> int:
        """Small or capital, with each of the marks before it."""
        return 2 * len(MARKS)

    @property
    def answer(self) -> Answer:
        """Every character is asked for."""
        return "each"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """Characters (N, T), uint8, and what is asked for (N, T), int16: 2 × mark + capital, or -100."""
        return _table(split, self.length, self.delay)

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """For each of the characters one of V numbers is 1, or none before the first (B, T, (delay + 1) V)."""
        read = one_hot(inputs.long(), len(ALPHABET)).float()
        seen = pad(read, (0, 0, self.delay, 0)).unfold(1, self.delay + 1, 1)  # (B, T, V, delay + 1), the newest last
        return seen.flip(3).transpose(2, 3).flatten(2), targets.long()

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """The characters, and what they become ``delay`` steps later."""
        text, asked = self._read(input), target.tolist()
        restored = ["" if c < 0 else restore(text[max(t - self.delay, 0)], [c]) for t, c in enumerate(asked)]
        last = max(t for t, c in enumerate(asked) if c >= 0)
        change = next((t for t, c in enumerate(asked) if c > 0 and t > self.delay + 5), last)
        end = min(change + 6, last + 1)  # where there is something to see
        return [_shown(character) for character in text[:end]], [_shown(character) for character in restored[:end]]

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The text, the text with capitals and marks, and the text as the net restores it."""
        asked = target >= 0
        text = self._read(input)[: int(asked.sum())]
        return [text, *(restore(text, classes[asked].tolist()) for classes in (target, answer))]

    def describe(self) -> str:
        """Source, delay and sizes."""
        later = f"answered {self.delay} characters later" if self.delay else "answered at once"
        return f"capitals and marks of Python's and torch's docstrings, {later}; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """Changing nothing, and writing every word as it was most often written."""
        habits = _habits(sentences("train"))
        right = {"nothing restored": 0, "each word as usual": 0}
        total = 0
        for word, classes in _words(sentences("test")):
            usual = habits.get(word, [0] * len(classes))
            right["nothing restored"] += classes.count(0)
            right["each word as usual"] += sum(map(int.__eq__, usual, classes))
            total += len(classes)
        return {"test/accuracy": {name: count / total for name, count in right.items()}}

    def _read(self, input: Tensor) -> str:
        return "".join(ALPHABET[code] for code in input[:, : len(ALPHABET)].argmax(dim=1).tolist())


def strip(text: str) -> tuple[str, list[int]]:
    """A text without capitals and marks, and the class of each of its characters: 2 × the mark before it + capital.

    Args:
        text: Any, save that it does not end with a mark.
    """
    plain: list[str] = []
    classes: list[int] = []
    mark = 0
    for character in text:
        if character in MARKS:
            mark = MARKS.index(character)
        else:
            plain.append(character.lower())
            classes.append(2 * mark + character.isupper())
            mark = 0
    return "".join(plain), classes


def restore(plain: str, classes: list[int]) -> str:
    """The text that `strip` was given."""
    pairs = zip(plain, classes, strict=True)
    return "".join(MARKS[c // 2] + (character.upper() if c % 2 else character) for character, c in pairs)


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


@lru_cache(maxsize=6)
def _table(split: Split, length: int, delay: int) -> tuple[Tensor, Tensor]:
    plain, classes = strip("".join(f"{sentence} " for sentence in sentences(split)))
    codes = torch.tensor([ALPHABET.index(character) for character in plain], dtype=torch.uint8)
    wanted = torch.tensor(classes, dtype=torch.int16)
    inputs, targets = [], []
    start = 0
    while start + length <= len(plain):
        end = plain.rfind(" ", start, start + length - delay) + 1  # the next piece begins with a word
        inputs.append(codes[start : start + length])
        targets.append(wanted.new_full((length,), -100))
        targets[-1][delay : delay + end - start] = wanted[start:end]
        start = end
    return torch.stack(inputs), torch.stack(targets)


def _words(known: list[str]) -> Iterator[tuple[str, list[int]]]:
    """Every word, and the classes of its characters and of the space behind it."""
    for sentence in known:
        for word in sentence.split(" "):
            plain, classes = strip(f"{word} ")
            yield plain, classes


def _habits(known: list[str]) -> dict[str, list[int]]:
    """The classes of each word's characters as they were most often."""
    seen: defaultdict[str, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for word, classes in _words(known):
        seen[word][tuple(classes)] += 1
    return {word: list(counts.most_common(1)[0][0]) for word, counts in seen.items()}


def _shown(character: str) -> str:
    return character.replace(" ", "␣")
