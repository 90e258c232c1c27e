"""Sentence pairs as batches of tokens: what every source of translations shares.

B sentences of a batch, S source steps, T target steps, N pairs of a split, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dlmkit.data.module import Batch, DataModule, Split
from dlmkit.errors import UserError, at_least
from dlmkit_seq2seq.buckets import buckets
from dlmkit_seq2seq.cache import Arrays, cached
from dlmkit_seq2seq.scores import corpus_bleu
from dlmkit_seq2seq.vocabulary import BEGIN, END, PAD, decode, encode, read_tokenizer, train_tokenizer

__all__ = ["SPLITS", "Pairs", "Side", "Texts"]

SPLITS: dict[Split, str] = {"train": "training", "val": "validation", "test": "test"}

_CHARACTERS = 20  # a piece has fewer; longer lines are left out before the vocabulary is made

Ids = npt.NDArray[np.int32]


class Texts(NamedTuple):
    """The sentences of a split.

    Args:
        source: N sentences.
        target: Their N translations.
        lines: Where each pair stood in its file, from 1.
    """

    source: list[str]
    target: list[str]
    lines: list[int]

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """The sentences of both languages."""
        return self.source, self.target

    def only(self, rows: list[int]) -> Texts:
        """Some of the pairs."""
        source, target = ([side[row] for row in rows] for side in self.sides)
        return Texts(source, target, [self.lines[row] for row in rows])


class Side(NamedTuple):
    """One language of a split: N sentences of tokens, one behind the other.

    Args:
        ids: All tokens.
        ends: Where each sentence ends (N,), int64.
    """

    ids: Ids
    ends: npt.NDArray[np.int64]

    def __getitem__(self, row: Any) -> Ids:  # type: ignore[override]
        return self.ids[self.ends[row - 1] if row else 0 : self.ends[row]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens in each sentence (N,)."""
        return np.diff(self.ends, prepend=0)

    @classmethod
    def join(cls, sentences: list[Ids]) -> Side:
        """Sentences put one behind the other."""
        joined = np.concatenate(sentences) if sentences else np.zeros(0, np.int32)
        return cls(joined, np.cumsum([len(one) for one in sentences], dtype=np.int64))


class Pairs(DataModule):
    """Sentences and their translations, in batches of similar length.

    Both languages have a byte-pair vocabulary of their own, made from the training split alone. In every epoch the
    sentences come in another order; of a pool of fifty batches those of similar length go together, so that little is
    padding, and every sentence comes once. Validation and test take the sentences by length, behind a first batch
    of every length.

    Tokens of the source that training does not have read as padding does, as a vector of zeros.

    A batch holds ``source`` (B, S) and ``source_length`` (B,), ``input`` (B, T), which is the target one step later
    behind the token that begins a sentence, and ``target`` (B, T), which ends with the token that ends one; all int64,
    and padded with 0.

    Args:
        batch_size: Sentences in one batch over all processes together, at most.
        source_pieces: Size of the source vocabulary, at least 259 (three special tokens and every byte).
        target_pieces: Size of the target vocabulary, at least 259.
        lowercase_source: Whether capitals of the source become small letters.
        lowercase_target: Whether those of the target do, in the references as well.
        max_length: Pairs in which either side has more tokens are left out; the first line says how many.
        num_workers: Processes that load ahead; 0 loads in the training process, which takes little.

    Raises:
        UserError: If a figure is out of range; and, when the text is first needed, if there is none.
    """

    def __init__(
        self,
        batch_size: int = 64,
        source_pieces: int = 8000,
        target_pieces: int = 8000,
        lowercase_source: bool = False,
        lowercase_target: bool = False,
        max_length: int = 100,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        for name, pieces in (("source_pieces", source_pieces), ("target_pieces", target_pieces)):
            if pieces < 259:
                remedy = "give at least 259: three special tokens and one for each byte"
                raise UserError(f"{name} is {pieces}", remedy, f"data.{name}")
        at_least(1, "data.", max_length=max_length)
        self.pieces = source_pieces, target_pieces
        self.lowercase = lowercase_source, lowercase_target
        self.max_length = max_length

    @property
    @abstractmethod
    def languages(self) -> tuple[str, str]:
        """What the source and the target are called."""

    @abstractmethod
    def texts(self) -> Mapping[Split, Texts]:
        """All sentences, as they are read or made."""

    def content(self) -> tuple[Mapping[Split, Texts] | None, list[str]]:
        """What the result is kept by: the sentences themselves, and they, as they are read already."""
        texts = self.texts()
        return texts, ["\n".join(side) for split in SPLITS for side in texts[split].sides]

    # What the model and the task need to know.

    @property
    def source_vocab_size(self) -> int:
        """Tokens of the source."""
        return int(self.source_tokenizer.get_vocab_size())

    @property
    def target_vocab_size(self) -> int:
        """Tokens of the target V."""
        return int(self.target_tokenizer.get_vocab_size())

    @cached_property
    def source_tokenizer(self) -> Tokenizer:
        """Turns a sentence of the source into tokens."""
        return read_tokenizer(str(self._processed["tokenizers"][0]))

    @cached_property
    def target_tokenizer(self) -> Tokenizer:
        """Turns tokens into a sentence of the target."""
        return read_tokenizer(str(self._processed["tokenizers"][1]))

    @property
    def source_seen(self) -> Tensor:
        """Which tokens of the source the training split has, bool."""
        return torch.from_numpy(self._processed["seen"])

    def prepare_data(self) -> None:
        """Read, make the vocabularies and encode, once on every machine."""
        _ = self._processed

    def setup(self, stage: str) -> None:
        """Read in every process.

        Args:
            stage: What the trainer is about to do; all splits are read whatever it is.
        """
        _ = self._sides

    def describe(self) -> str:
        """The languages, how many pairs there are, the vocabularies, and what was left out."""
        sizes = ", ".join(f"{self.size(split):,} {name}" for split, name in SPLITS.items())
        pieces = f"{self.source_vocab_size:,} and {self.target_vocab_size:,} pieces"
        told = f"{' → '.join(self.languages)}: {sizes} pairs, {pieces}"
        left_out = str(self._processed["left_out"])
        return f"{told}; left out {left_out}" if left_out else told

    def baselines(self) -> dict[str, dict[str, float]]:
        """What leaving the source as it is scores on the test split."""
        sides = self._sides["test"]
        source, target = (
            [decode(tokenizer, side[row].tolist()) for row in range(self.size("test"))]
            for tokenizer, side in zip((self.source_tokenizer, self.target_tokenizer), sides, strict=True)
        )
        equal = sum(a == b for a, b in zip(source, target, strict=True)) / len(source)
        name = "the source as it is"
        return {"test/bleu": {name: corpus_bleu(source, target, self.lowercase[1])}, "test/exact_match": {name: equal}}

    def save(self, folder: str) -> None:
        """Write ``source-tokenizer.json`` and ``target-tokenizer.json``, which ``tokenizers.Tokenizer`` reads.

        Args:
            folder: The run folder.
        """
        for name, tokenizer in (("source", self.source_tokenizer), ("target", self.target_tokenizer)):
            tokenizer.save(str(Path(folder) / f"{name}-tokenizer.json"))

    # Batches.

    def size(self, split: Split) -> int:
        """The number of pairs N of a split."""
        return len(self._sides[split][0].ends)

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch of a split."""
        return -(-self.size(split) // self.batch_size)

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of one batch, padded to the length of the whole batch."""
        rows = self._rows(split, epoch)[index]
        if len(rows) < world:
            what = f"a batch of the {SPLITS[split]} split has {len(rows)} pairs for {world} processes"
            raise UserError(what, "give a larger data.batch_size, or more pairs", "data.batch_size")
        source, target = ([torch.from_numpy(side[row].astype(np.int64)) for row in rows] for side in self._sides[split])
        begin, end = torch.tensor([BEGIN]), torch.tensor([END])
        whole = {
            "source": pad_sequence(source, batch_first=True, padding_value=PAD),
            "source_length": torch.tensor([len(one) for one in source]),
            "input": pad_sequence([torch.cat((begin, one)) for one in target], batch_first=True, padding_value=PAD),
            "target": pad_sequence([torch.cat((one, end)) for one in target], batch_first=True, padding_value=PAD),
        }
        return {name: tensor[rank::world] for name, tensor in whole.items()}

    def _rows(self, split: Split, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Which pairs each batch of an epoch has."""
        key = (self.seed, epoch) if split == "train" else None
        known = self.__dict__.setdefault("_orders", {})
        if known.get(split, (None, None))[0] != (key, self.batch_size):
            source, target = (side.lengths for side in self._sides[split])
            known[split] = (key, self.batch_size), buckets(source, target, self.batch_size, key)
        rows: list[npt.NDArray[np.int64]] = known[split][1]
        return rows

    @cached_property
    def _sides(self) -> dict[Split, tuple[Side, Side]]:
        found = self._processed
        return {
            split: tuple(Side(found[f"{split}_{name}"], found[f"{split}_{name}_ends"]) for name in ("source", "target"))  # type: ignore[misc]
            for split in SPLITS
        }

    # From text to tokens.

    @cached_property
    def _processed(self) -> Arrays:
        settings = {
            "pieces": self.pieces,
            "lowercase": self.lowercase,
            "max_length": self.max_length,
            "tokenizers": tokenizers.__version__,
            "format": 1,
        }
        texts, content = self.content()
        found = cached("pairs", settings, content, lambda: self._process(self.texts() if texts is None else texts))
        for split, name in SPLITS.items():
            if not len(found[f"{split}_source_ends"]):
                what = f"the {name} split has no pair of sentences"
                left_out = f"; left out {found['left_out']}" if str(found["left_out"]) else ""
                raise UserError(what + left_out, "give more text, or a larger data.max_length", "data")
        return found

    def _process(self, texts: Mapping[Split, Texts]) -> Arrays:
        """Everything that is kept: vocabularies, the tokens of each split, and what was left out of it."""
        kept = {split: self._short(found) for split, found in texts.items()}
        train = [[side[row] for row in kept["train"]] for side in texts["train"].sides]
        makers = [train_tokenizer(*each) for each in zip(train, self.pieces, self.lowercase, strict=True)]
        seen = np.zeros(makers[0].get_vocab_size(), bool)
        found: Arrays = {}
        told: list[str] = []
        for split in SPLITS:  # training first: it says what is seen
            rows = kept[split]
            sides = [
                encode(maker, [side[row] for row in rows])
                for maker, side in zip(makers, texts[split].sides, strict=True)
            ]
            sizes = [sorted((len(a), len(b))) for a, b in zip(*sides, strict=True)]
            fits = [0 < shorter and longer <= self.max_length for shorter, longer in sizes]
            sides = [[one for one, fit in zip(side, fits, strict=True) if fit] for side in sides]
            if split == "train" and sides[0]:
                seen[np.concatenate(sides[0])] = True
            sides[0] = [np.where(seen[one], one, PAD).astype(np.int32) for one in sides[0]]
            for name, joined in zip(("source", "target"), map(Side.join, sides), strict=True):
                found[f"{split}_{name}"], found[f"{split}_{name}_ends"] = joined
            left = set(range(len(texts[split].lines))) - {row for row, fit in zip(rows, fits, strict=True) if fit}
            told += self._left_out(split, texts[split], left)
        found["tokenizers"] = np.array([maker.to_str() for maker in makers])
        found["seen"], found["left_out"] = seen, np.array("; ".join(told))
        return found

    def _short(self, texts: Texts) -> list[int]:
        """The pairs that have two sides, neither of which is so long that it cannot fit."""
        longest = _CHARACTERS * self.max_length
        pairs = enumerate(zip(*texts.sides, strict=True))
        return [row for row, pair in pairs if all(0 < len(side.strip()) <= longest for side in pair)]

    def _left_out(self, split: Split, texts: Texts, rows: set[int]) -> Iterator[str]:
        """What was left out of a split, in words."""
        empty = sorted(row for row in rows if not (texts.source[row].strip() and texts.target[row].strip()))
        for kind, group in (("empty", empty), ("too long", sorted(rows - set(empty)))):
            if group:
                first = f"line {texts.lines[group[0]]:,}" + (" first" if len(group) > 1 else "")
                yield f"{len(group):,} {SPLITS[split]} pair{'s' * (len(group) > 1)} {kind} ({first})"
