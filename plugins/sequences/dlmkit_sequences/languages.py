"""A name, and the question which language it is in (many to one).

Dimensions: B names of a batch, T time steps, V characters, N names of a split.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dlmkit.data.module import Split
from dlmkit.errors import UserError, did_you_mean
from dlmkit_sequences.problem import Answer, Problem, Steps

__all__ = ["Languages"]

LANGUAGES = ("de", "en", "es", "fi", "fr", "it", "nl", "pl", "sv", "tr")

_PAD, _OTHER = 0, 1  # codes in front of the characters'


class _Names(NamedTuple):
    """The names of every split with their languages, and the characters of those for training."""

    names: dict[Split, list[tuple[str, int]]]
    characters: str


class Languages(Problem):
    """The name of a country, a language, a currency, a month or a day: which language is it in?

    The names are those of the Unicode Common Locale Data Repository, which Babel installs, in small letters; a name
    that means the same in two of the languages is left out. Names of one thing (Deutschland, Germany, Tyskland) are all
    in one split, so that the test asks for words whose kin were not seen. A character is one of V numbers that is 1;
    short names begin with empty steps, so that the last step is a letter.

    Sequence shape: many to one.

    References:
        | Unicode Common Locale Data Repository (The Unicode Consortium), through Babel

    Args:
        languages: Codes of the languages to tell apart, such as de and en; when left out, ten European ones.
        length: Longest name, in characters; longer ones are left out.
        batch_size: Names in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If there are fewer than two languages, or one is not known or comes twice, or too few names are left.
    """

    shape = "many to one"

    def __init__(
        self, languages: list[str] | None = None, length: int = 20, batch_size: int = 32, num_workers: int = 0
    ) -> None:
        super().__init__(batch_size, num_workers)
        languages, where = list(LANGUAGES) if languages is None else languages, "data.languages"
        if len(languages) < 2 or len(set(languages)) < len(languages):
            raise UserError(f"languages are {', '.join(languages) or 'none'}", "give two or more, each once", where)
        for code in languages:
            if code not in _codes():
                raise UserError(f"{code} is no language of CLDR", did_you_mean(code, _codes(), "such as de"), where)
        self.languages, self.length = list(languages), length
        names = _names(tuple(languages), length).names
        if not all({language for _, language in part} == set(range(len(languages))) for part in names.values()):
            what = f"of names up to {length} characters some language has too few that are its own"
            raise UserError(what, "give a larger data.length or other data.languages", "data.length")

    @property
    def input_size(self) -> int:
        """The characters of the training names, and one number for every other."""
        return len(_names(tuple(self.languages), self.length).characters) + 1

    @property
    def output_size(self) -> int:
        """The languages."""
        return len(self.languages)

    @property
    def answer(self) -> Answer:
        """The language is asked for at the name's end."""
        return "last"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """Characters (N, T), 0 for an empty step and 1 for an unknown one, and languages (N,)."""
        return _table(tuple(self.languages), self.length, split)

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """One of V numbers is 1, or none in an empty step (B, T, V), and languages (B,)."""
        return one_hot(inputs.long(), self.input_size + 1)[:, :, 1:].float(), targets

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """The letters, and the language at the end."""
        letters = list(self._read(input))
        return letters, [""] * (len(letters) - 1) + [self.languages[int(target)]]

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The name, its language, and the answer."""
        return [self._read(input), *(self.languages[int(language)] for language in (target, answer))]

    def describe(self) -> str:
        """Languages, alphabet and sizes."""
        languages = ", ".join(self.languages)
        return f"names in {languages} from CLDR, {self.input_size - 1} characters; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """The commonest language, and naive Bayes on how often each letter comes."""
        (names, languages), (unseen, right) = self.table("train"), self.table("test")
        counts, asked = (self.examples(part, part)[0].sum(dim=1) for part in (names, unseen))
        each = torch.stack([counts[languages == k].sum(dim=0) + 1 for k in range(self.output_size)])
        score = asked @ (each / each.sum(dim=1, keepdim=True)).log().T + languages.bincount().log()
        answers = {"commonest language": languages.bincount().argmax(), "letters counted": score.argmax(dim=1)}
        return {"test/accuracy": {name: float((said == right).float().mean()) for name, said in answers.items()}}

    def _read(self, input: Tensor) -> str:
        """The name in an input (T, V)."""
        characters = "?" + _names(tuple(self.languages), self.length).characters
        return "".join(characters[int(step.argmax())] for step in input if step.any())


@lru_cache(maxsize=1)
def _codes() -> frozenset[str]:
    from babel.localedata import locale_identifiers

    return frozenset(locale_identifiers())


@lru_cache(maxsize=4)
def _names(languages: tuple[str, ...], length: int) -> _Names:
    meant: dict[str, tuple[int, str] | None] = {}  # name to language and thing; None if several languages have it
    for number, code in enumerate(languages):
        for thing, name in _locale_names(code):
            if len(name) <= length:
                known = meant.setdefault(name, (number, thing))
                meant[name] = known if known and known[0] == number else None
    names: dict[Split, list[tuple[str, int]]] = {"train": [], "val": [], "test": []}
    for name, found in sorted(meant.items(), key=lambda item: sha256(item[0].encode()).digest()):  # mixed, for good
        if found:
            names[_split(found[1])].append((name, found[0]))
    counts = Counter(character for name, _ in names["train"] for character in name)
    return _Names(names, "".join(sorted(counts)))


def _locale_names(code: str) -> list[tuple[str, str]]:
    """What a language calls things: the thing and its name in small letters."""
    from babel import Locale

    locale = Locale.parse(code)
    kinds = {
        "territory": locale.territories,
        "language": locale.languages,
        "currency": locale.currencies,
        "month": locale.months["stand-alone"]["wide"],
        "day": locale.days["stand-alone"]["wide"],
    }
    pairs = [(f"{kind} {key}", str(name)) for kind, names in kinds.items() for key, name in names.items()]
    # A Turkish İ in small letters is an i with a dot upon it, which would tell more than the letter.
    small = [(thing, unicodedata.normalize("NFC", name.lower()).replace("\u0307", "")) for thing, name in pairs]
    return [(thing, name) for thing, name in small if all(c.isalpha() or c in " -'’" for c in name)]


def _split(thing: str) -> Split:
    """One of ten things is for validation, one for the test."""
    tenth = sha256(thing.encode()).digest()[0] % 10
    return "test" if tenth == 0 else "val" if tenth == 1 else "train"


@lru_cache(maxsize=12)
def _table(languages: tuple[str, ...], length: int, split: Split) -> tuple[Tensor, Tensor]:
    found = _names(languages, length)
    code = {character: _OTHER + 1 + place for place, character in enumerate(found.characters)}
    rows = [[code.get(character, _OTHER) for character in name] for name, _ in found.names[split]]
    inputs = torch.tensor([[_PAD] * (length - len(row)) + row for row in rows], dtype=torch.int16)
    return inputs, torch.tensor([language for _, language in found.names[split]])
