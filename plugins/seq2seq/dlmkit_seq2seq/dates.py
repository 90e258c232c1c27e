"""Dates in several formats and numbers in words, in two languages: a translation task that needs no network."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import metadata
from typing import Any

import babel
import num2words  # type: ignore[import-untyped]
import numpy as np
from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_skeleton
from babel.localedata import locale_identifiers

from dlmkit.data.module import Split
from dlmkit.errors import UserError, did_you_mean
from dlmkit_seq2seq.pairs import SPLITS, Pairs, Texts

__all__ = ["DatesAndNumbers", "formats"]

FIRST, DAYS = datetime.date(1950, 1, 1), 36_525  # a hundred years, so that two digits name one
LARGEST = 1_000_000
SMALL = 100  # numbers below it have words of their own, which only training can teach

Written = Callable[[datetime.date, str], str]


class DatesAndNumbers(Pairs):
    """Dates in several formats and numbers written out, from one language to another.

    A date of the years 1950 to 2049 is translated in its own format (*Donnerstag, 5. März 1998* → *Thursday, March 5,
    1998*; *05.03.98* → *3/5/98*), a number below a million word by word (*dreiundzwanzig* → *twenty-three*). Which
    dates and numbers are held out follows from a hash of them; a held-out one is in training in no format. Numbers
    below 100 are all in training. No network is needed: the words come from the Unicode Common Locale Data Repository
    in Babel and from num2words.

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau, Cho & Bengio, 2015), for the
          kind of net that is tried on it

    Args:
        source: Language that is translated from, as Babel calls it.
        target: Language that is translated to: en, fr or another one that both packages have.
        train_size: Training pairs, half of them dates.
        val_size: Validation pairs, half of them dates.
        test_size: Test pairs, half of them dates.
        batch_size: Pairs in one batch over all processes together, at most.
        source_pieces: Size of the source vocabulary, at least 259.
        target_pieces: Size of the target vocabulary, at least 259.
        lowercase_source: Whether capitals of the source become small letters.
        lowercase_target: Whether those of the target do, in the references as well.
        max_length: Pairs in which either side has more tokens are left out.
        num_workers: Processes that load ahead; 0 loads in the training process, which takes little.

    Raises:
        UserError: If a language is not known, or a size is below 2.
    """

    def __init__(
        self,
        source: str = "de",
        target: str = "en",
        train_size: int = 24_000,
        val_size: int = 500,
        test_size: int = 2000,
        batch_size: int = 64,
        source_pieces: int = 400,
        target_pieces: int = 400,
        lowercase_source: bool = False,
        lowercase_target: bool = False,
        max_length: int = 100,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size, source_pieces, target_pieces, lowercase_source, lowercase_target, max_length, num_workers
        )
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        for split, size in self.sizes.items():
            if not 2 <= size <= 60_000:
                raise UserError(f"{split}_size is {size}", "give 2 to 60000", f"data.{split}_size")
        for option, language in (("source", source), ("target", target)):
            check_language(language, f"data.{option}")
        if source == target:
            raise UserError(f"source and target are both {source}", "give two languages", "data.target")
        self._languages = source, target

    @property
    def languages(self) -> tuple[str, str]:
        """The codes of the two languages."""
        return self._languages

    def texts(self) -> Mapping[Split, Texts]:
        """Dates and numbers in turn; those of a split follow from the run's seed."""
        return {split: self._make(split, size) for split, size in self.sizes.items()}

    def content(self) -> tuple[None, list[str]]:
        """What the sentences follow from, so that a second start need not make them."""
        versions = [babel.__version__, metadata.version("num2words")]
        return None, [json.dumps([*self._languages, self.sizes, self.seed, versions])]

    def _make(self, split: Split, size: int) -> Texts:
        random = np.random.default_rng(np.random.SeedSequence((self.seed, list(SPLITS).index(split), 2)))
        dates, numbers = _dates(split, random), _numbers(split, random)
        ways = formats(*self._languages)
        found: dict[str, str] = {}  # each source once
        for place in range(20 * size):
            if len(found) == size:
                break
            if place % 2:
                day, write = next(dates), ways[int(random.integers(len(ways)))]
                source, target = (write(day, language) for language in self._languages)
            else:
                number = next(numbers)
                source, target = (num2words.num2words(number, lang=language) for language in self._languages)
            found.setdefault(" ".join(source.split()), " ".join(target.split()))
        return Texts(list(found), list(found.values()), list(range(1, len(found) + 1)))


def check_language(language: str, where: str) -> None:
    """Refuse a language that either package does not know.

    Args:
        language: A code such as ``de`` or ``pt_BR``.
        where: The option that it was given in.

    Raises:
        UserError: That names the nearest ones.
    """
    try:
        Locale.parse(language)
    except (UnknownLocaleError, ValueError, TypeError):
        near = did_you_mean(language, locale_identifiers(), "give a code such as de, en or fr")
        raise UserError(f"Babel knows no language {language!r}", near, where) from None
    if language not in num2words.CONVERTER_CLASSES and language[:2] not in num2words.CONVERTER_CLASSES:
        known = ", ".join(sorted(code for code in num2words.CONVERTER_CLASSES if len(code) == 2))
        raise UserError(f"num2words has no numbers in {language!r}", f"give one of {known}", where)


@lru_cache
def formats(source: str, target: str) -> list[Written]:
    """The formats in which dates are written, each unlike the others in both languages' source.

    Args:
        source: Language code.
        target: Language code.
    """
    found: list[Written] = []
    probes = [datetime.date(1998, 5, 3), datetime.date(2026, 12, 24), datetime.date(2001, 9, 11)]
    taken: set[str] = set()
    for write in _all_formats():
        written = {write(day, source) for day in probes}
        if not written & taken:
            found.append(write)
            taken |= written
    return found


def _all_formats() -> Iterator[Written]:
    def named(name: Any) -> Written:
        return lambda day, language: format_date(day, name, locale=language)

    def skeleton(name: str) -> Written:
        return lambda day, language: format_skeleton(name, day, locale=language)

    yield from (named(name) for name in ("full", "long", "medium", "short"))
    yield from (skeleton(name) for name in ("yMMMEd", "yMEd"))


def _split_of(what: object) -> Split:
    """Which split a date or a number belongs to: two of twenty are held out."""
    share = hashlib.sha256(str(what).encode()).digest()[0] % 20
    return "test" if share == 0 else "val" if share == 1 else "train"


def _dates(split: Split, random: np.random.Generator) -> Iterator[datetime.date]:
    while True:
        day = FIRST + datetime.timedelta(days=int(random.integers(DAYS)))
        if _split_of(day) == split:
            yield day


def _numbers(split: Split, random: np.random.Generator) -> Iterator[int]:
    """Numbers of every length; half of them are drawn evenly below a million."""
    while True:
        below = LARGEST if random.random() < 0.5 else 10 ** int(random.integers(2, 6))
        number = int(random.integers(below))
        if ("train" if number < SMALL else _split_of(number)) == split:
            yield number
