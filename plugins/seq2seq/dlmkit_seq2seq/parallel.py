"""Parallel text: sentences and their translations from files or from the hub."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from dlmkit.data.module import Split
from dlmkit.errors import UserError
from dlmkit_seq2seq.pairs import Pairs, Texts
from dlmkit_seq2seq.sources import read_pairs

__all__ = ["ParallelText"]


class ParallelText(Pairs):
    """Sentences and their translations, from text files, JSON lines or a dataset of the hub.

    A source is one of: two plain-text files in which the same line says the same (gzip is unpacked); one file of JSON
    lines, or a parquet or CSV file, with a column for each language; the name of a Hugging Face dataset, or a folder
    of one, with such columns or with a column ``translation`` that holds both. Pairs with an empty side are left out,
    and so are those that are too long; the run's first lines say how many, and where the first one is.

    What has been read is kept as tokens in ``~/.cache/dlmkit`` (or where the environment variable DLMKIT_CACHE says),
    under a hash of every sentence and every setting.

    References:
        | Neural Machine Translation of Rare Words with Subword Units (Sennrich, Haddow & Birch, 2016)
        | Multi30K: Multilingual English-German Image Descriptions (Elliott, Frank, Sima'an & Specia, 2016)

    Args:
        source: Training pairs: two text files, one table, or a dataset, whose own splits are kept.
        languages: What is translated from and to: the columns of a table, and names for what is shown.
        val_source: Validation pairs, where they are not in the dataset.
        test_source: Test pairs, where they are not in the dataset.
        subset: Which configuration of a Hugging Face dataset.
        val_fraction: Share of the training pairs for validation, where there is no validation split.
        test_fraction: Share of the training pairs for the test, where there is no test split.
        batch_size: Pairs in one batch over all processes together, at most.
        source_pieces: Size of the source vocabulary, at least 259.
        target_pieces: Size of the target vocabulary, at least 259.
        lowercase_source: Whether capitals of the source become small letters.
        lowercase_target: Whether those of the target do, in the references as well.
        max_length: Pairs in which either side has more tokens are left out.
        num_workers: Processes that load ahead; 0 loads in the training process, which takes little.

    Raises:
        UserError: If a figure is out of range; and, when the text is first needed, if it cannot be read.
    """

    def __init__(
        self,
        source: str | list[str],
        languages: list[str],
        val_source: str | list[str] | None = None,
        test_source: str | list[str] | None = None,
        subset: str | None = None,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        batch_size: int = 64,
        source_pieces: int = 8000,
        target_pieces: int = 8000,
        lowercase_source: bool = False,
        lowercase_target: bool = False,
        max_length: int = 100,
        num_workers: int = 0,
    ) -> None:
        super().__init__(
            batch_size, source_pieces, target_pieces, lowercase_source, lowercase_target, max_length, num_workers
        )
        if len(languages) != 2 or languages[0] == languages[1]:
            what = f"data.languages names {', '.join(languages) or 'none'}"
            raise UserError(what, "give two: what is translated from and to, such as [de, en]", "data.languages")
        for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            if not 0 < fraction < 0.5:
                remedy = "give a share above 0 and below a half, such as 0.05"
                raise UserError(f"{name} is {fraction}", remedy, f"data.{name}")
        self.sources: dict[Split, str | list[str] | None] = {"train": source, "val": val_source, "test": test_source}
        self._languages, self.subset = (languages[0], languages[1]), subset
        self.fractions: dict[Split, float] = {"val": val_fraction, "test": test_fraction}

    @property
    def languages(self) -> tuple[str, str]:
        """What the source and the target are called."""
        return self._languages

    def texts(self) -> Mapping[Split, Texts]:
        """All sentences; what there is no split for is taken out of training by a hash of the pair."""
        options: dict[Split, str] = {"train": "data.source", "val": "data.val_source", "test": "data.test_source"}
        found: dict[Split, Texts] = {}
        for split, source in self.sources.items():
            if source is not None:
                read = read_pairs(source, self._languages, self.subset, options[split])
                found |= read if split == "train" else {split: read.get(split, read["train"])}
        for split, fraction in self.fractions.items():
            if split not in found:
                found["train"], found[split] = _divide(found["train"], fraction, split)
        return found


def _divide(texts: Texts, fraction: float, split: str) -> tuple[Texts, Texts]:
    """What is left of some pairs, and a share of them; equal pairs stay together."""
    parts: tuple[list[int], list[int]] = ([], [])
    for row, pair in enumerate(zip(texts.source, texts.target, strict=True)):
        digest = hashlib.sha256("\n".join((split, *pair)).encode()).digest()
        parts[int.from_bytes(digest[:6]) < fraction * 2**48].append(row)
    return texts.only(parts[0]), texts.only(parts[1])
