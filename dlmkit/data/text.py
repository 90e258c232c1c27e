"""Text as contiguous streams, for language models that carry their state from batch to batch.

Dimensions: B streams of one batch, T time steps, N tokens of a split, V vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import pad

from dlmkit.data.module import Batch, DataModule, Split
from dlmkit.data.ngrams import NGrams
from dlmkit.data.sources import STDLIB, Corpus, read_corpus
from dlmkit.data.tokens import (
    character_tokenizer,
    characters_per_token,
    encode_characters,
    encode_subwords,
    subword_tokenizer,
)
from dlmkit.errors import UserError, at_least

__all__ = ["Characters", "Subwords", "Text"]

_NAMES: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}


class _Streams(NamedTuple):
    """How a split is read: ``rows`` streams of ``size`` targets each, the next beginning ``spacing`` tokens later."""

    rows: int
    spacing: int
    size: int


class Text(DataModule):
    """A text, cut into streams that run on from one batch to the next.

    Row r of a batch goes on where row r of the batch before it stopped, so that a recurrent state carried over
    batches sees one long text (truncated back-propagation through time). ``reset`` says where a stream begins. In
    training every epoch starts at another offset, which follows from the seed and the epoch. Validation and test
    score every token but the first, save for a remainder at the very end that is smaller than the number of streams;
    a text that is too short for streams of ``length`` has fewer of them.

    A batch holds ``input`` and ``target`` (B, T), int64, the target being the input one step later; ``reset`` (B,),
    bool; and ``characters`` (B,), int64, the number of characters that a row's targets stand for.

    References:
        | An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories
        | (Williams, Peng, 1990): truncated back-propagation through time

    Args:
        source: What to read: python-stdlib (the source text of the Python standard library as it is installed here),
            one or several text files (~ and * are expanded), a folder of text, jsonl or parquet files, or the name of
            a Hugging Face dataset.
        subset: Which configuration of a Hugging Face dataset.
        column: The column of a dataset that holds the text.
        batch_size: Streams in one batch over all processes together.
        length: Time steps in one batch, the reach of truncated back-propagation.
        val_fraction: Share of the text for validation. A dataset that has a split of its own keeps it.
        val_place: Where validation is cut off the training text: its end, next to the test split, or its start, so that
            training reads up to the very place where the test begins.
        test_fraction: Share of the text, its end, for the test. A dataset that has a split of its own keeps it.
        own_splits: Whether a dataset keeps the splits that it comes with; otherwise they are joined and cut anew.
        num_workers: Processes that load ahead; 0 loads in the training process, which takes microseconds a batch.

    Raises:
        UserError: If a figure is out of range; and, when the text is first needed, if it cannot be read or is too
            short.
    """

    # What a child calls its tokens, and the entries of its vocabulary.
    _unit: str
    _vocabulary: str

    def __init__(
        self,
        source: str | list[str] = STDLIB,
        subset: str | None = None,
        column: str = "text",
        batch_size: int = 32,
        length: int = 128,
        val_fraction: float = 0.1,
        val_place: Literal["start", "end"] = "end",
        test_fraction: float = 0.1,
        own_splits: bool = True,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        if not source:
            raise UserError("data.source is empty", f"give {STDLIB}, a text file or a dataset", "data.source")
        at_least(1, "data.", length=length)
        for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            if not 0 < fraction < 1:
                raise UserError(f"{name} is {fraction}", "give a share between 0 and 1, such as 0.1", f"data.{name}")
        if val_fraction + test_fraction >= 1:
            what = f"val_fraction {val_fraction} and test_fraction {test_fraction} leave nothing for training"
            raise UserError(what, "give shares that stay below 1 together", "data.val_fraction")
        self.source, self.subset, self.column, self.length = source, subset, column, length
        self.val_fraction, self.val_place = val_fraction, val_place
        self.test_fraction, self.own_splits = test_fraction, own_splits

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, made from the training split alone; it also decodes what a model writes."""
        return self._tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of different tokens V."""
        _ = self._tokens  # so that a text that is too short is found before there is a run
        return int(self._tokenizer.get_vocab_size())

    def prepare_data(self) -> None:
        """Read, and make the tokenizer, once on every machine."""
        _ = self._tokenizer

    def setup(self, stage: str) -> None:
        """Read in every process.

        Args:
            stage: What the trainer is about to do; all splits are read whatever it is.
        """
        _ = self._tokens

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch, the same in every epoch."""
        world = self.trainer.world_size if self.trainer else 1
        return -(-self._streams(split, world).size // self.length)

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's rows of one batch; the last of validation and test may have fewer time steps."""
        streams = self._streams(split, world)
        if not 0 <= index * self.length < streams.size:
            raise IndexError(f"batch {index} of {self.batches(split)}")
        rows = streams.rows // world
        steps = min(self.length, streams.size - index * self.length)
        start = rank * rows * streams.spacing + index * self.length
        if split == "train":
            start += _offset(self.seed, epoch, self.length)
        window = self._tokens[split][start : start + (rows - 1) * streams.spacing + steps + 1]
        window = window.unfold(0, steps + 1, streams.spacing)  # (B, T + 1), a view of the text
        return {
            "input": window[:, :-1].long(),
            "target": window[:, 1:].long(),
            "reset": torch.full((rows,), index == 0),
            "characters": self._characters(split, start + 1 + streams.spacing * torch.arange(rows), steps),
        }

    def describe(self) -> str:
        """The source, its size, its vocabulary and how it is split."""
        sizes = {_NAMES[split]: len(text) for split, text in self._texts.items()}
        total = sum(sizes.values())
        shares = ", ".join(f"{100 * size / total:.0f} % {name}" for name, size in sizes.items())
        return f"{self._corpus.label}: {total:,} characters, {self.vocab_size:,} {self._vocabulary}; {shares}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """Bits per character of n-gram models on what is scored of the test split, counted on the training split."""
        known = character_tokenizer(self._texts["train"])
        train, test = (encode_characters(known, self._texts[split]).numpy() for split in ("train", "test"))
        model = NGrams(train, known.get_vocab_size(), order=3)
        streams = self._streams("test", 1)
        first = int(self._characters("test", torch.tensor([0]), 1))
        end = int(self._characters("test", torch.tensor([0]), 1 + streams.rows * streams.size))
        bits = {name: model.bits(test[:end], first, order) for name, order in (("unigram", 1), ("trigram", 3))}
        return {"test/bits_per_character": bits}

    def save(self, folder: str) -> None:
        """Write ``tokenizer.json``, which ``tokenizers.Tokenizer.from_file`` reads.

        Args:
            folder: The run folder.
        """
        self._tokenizer.save(str(Path(folder) / "tokenizer.json"))

    @abstractmethod
    def _make_tokenizer(self, text: str) -> Tokenizer:
        """A tokenizer made from the training text."""

    @abstractmethod
    def _encode(self, text: str) -> Tensor:
        """A text's ids (N,), of the smallest integer type that holds them."""

    @abstractmethod
    def _characters(self, split: Split, starts: Tensor, steps: int) -> Tensor:
        """The number of characters in ``steps`` tokens from each of the positions ``starts`` (B,) on: (B,), int64."""

    @cached_property
    def _corpus(self) -> Corpus:
        return read_corpus(self.source, self.subset, self.column)

    @cached_property
    def _texts(self) -> dict[Split, str]:
        """The text of each split; what the source does not have is cut off the end of its training text."""
        own = self._corpus.texts
        if not self.own_splits:
            own = {"train": "".join(own[split] for split in _NAMES if split in own)}
        text = own["train"]
        end = len(text) if "test" in own else len(text) - round(self.test_fraction * len(text))
        size = 0 if "val" in own else round(self.val_fraction * len(text))
        start, stop = (0, size) if self.val_place == "start" else (end - size, end)
        train = text[:start] + text[stop:end]
        return {"train": train, "val": own.get("val", text[start:stop]), "test": own.get("test", text[end:])}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._make_tokenizer(self._texts["train"])

    @cached_property
    def _tokens(self) -> dict[Split, Tensor]:
        """The ids of each split (N,), long enough to be read."""
        tokens = {split: self._encode(text) for split, text in self._texts.items()}
        self._check_training(len(tokens["train"]))
        for split in ("val", "test"):
            self._check_scored(split, len(tokens[split]), 1)
        return tokens

    def _streams(self, split: Split, world: int) -> _Streams:
        count = len(self._tokens[split])
        if split == "train":
            # The offset of an epoch is below ``length``; the last stream needs room for it.
            spacing = (count - self.length) // self.batch_size
            return _Streams(self.batch_size, spacing, spacing - spacing % self.length)
        rows = _scored_rows(count, self.batch_size, self.length, world)
        self._check_scored(split, count, rows)
        # The last target of a stream is the first input of the next: no token in between is lost.
        return _Streams(rows, (count - 1) // rows, (count - 1) // rows)

    def _check_training(self, count: int) -> None:
        needed = (self.batch_size + 1) * self.length
        if count >= needed:
            return
        what = (
            f"the training split has {count:,} {self._unit}; {self.batch_size} streams of {self.length} need {needed:,}"
        )
        sizes = {"data.batch_size": count // self.length - 1, "data.length": count // (self.batch_size + 1)}
        fitting = [f"{name} up to {size}" for name, size in sizes.items() if size >= 1]
        raise UserError(what, "give " + " or ".join([*fitting, "more text"]), self._corpus.where)

    def _check_scored(self, split: Split, count: int, rows: int) -> None:
        if count <= rows:
            what = f"the {_NAMES[split]} split has {count} {self._unit}; {rows + 1} are needed"
            raise UserError(what, f"give more text or a larger data.{split}_fraction", self._corpus.where)


class Characters(Text):
    """Text by characters, for character-level language models.

    The vocabulary is the characters of the training split, in the order of their code points, after one symbol
    (id 0, U+FFFD) for every other. For the streams, and for all options, see the base class `Text`.
    """

    _unit = "characters"
    _vocabulary = "symbols"

    def _make_tokenizer(self, text: str) -> Tokenizer:
        return character_tokenizer(text)

    def _encode(self, text: str) -> Tensor:
        return encode_characters(self._tokenizer, text)

    def _characters(self, split: Split, starts: Tensor, steps: int) -> Tensor:
        return torch.full_like(starts, steps)


class Subwords(Text):
    """Text by sub-words, for language models that read further with as many steps.

    The vocabulary is a byte-level byte-pair encoding of the training split, so that no text is unknown. It is kept
    in ``~/.cache/dlmkit`` (or where the environment variable DLMKIT_CACHE says). For the streams see `Text`.

    References:
        | Neural Machine Translation of Rare Words with Subword Units (Sennrich, Haddow, Birch, 2016), algorithm 1

    Args:
        *args: The parameters of `Text`.
        pieces: Size of the vocabulary, at least 256, the number of bytes; a short text may give fewer.
        **kwargs: The parameters of `Text`.

    Raises:
        UserError: If ``pieces`` is too small, and as `Text` does.
    """

    _unit = "tokens"
    _vocabulary = "pieces"

    def __init__(self, *args: Any, pieces: int = 2000, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if pieces < 256:
            raise UserError(f"pieces is {pieces}", "give at least 256, one for each byte", "data.pieces")
        self.pieces = pieces

    def _make_tokenizer(self, text: str) -> Tokenizer:
        return subword_tokenizer(text, self.pieces)

    def _encode(self, text: str) -> Tensor:
        return encode_subwords(self._tokenizer, text)

    @cached_property
    def _ends(self) -> dict[Split, Tensor]:
        """The number of characters in the first 0, 1, ..., N tokens of each split (N + 1,), int64."""
        each = characters_per_token(self._tokenizer)
        return {split: pad(each[ids.long()].cumsum(0), (1, 0)) for split, ids in self._tokens.items()}

    def _characters(self, split: Split, starts: Tensor, steps: int) -> Tensor:
        ends = self._ends[split]
        return ends[starts + steps] - ends[starts]


@lru_cache
def _offset(seed: int, epoch: int, length: int) -> int:
    """Where an epoch begins, from 0 to ``length - 1``."""
    return int(np.random.default_rng(np.random.SeedSequence((seed, epoch))).integers(length))


@lru_cache
def _scored_rows(count: int, batch_size: int, length: int, world: int) -> int:
    """How many streams a split of ``count`` tokens is scored in.

    The largest divisor of the batch size that gives each stream ``length`` targets and each process as many rows; it
    is the same for any number of processes, unless there are more of them than such streams.
    """
    divisors = [rows for rows in range(batch_size, 0, -1) if batch_size % rows == 0 and rows % world == 0]
    return next((rows for rows in divisors if (count - 1) // rows >= length), divisors[-1])
