"""A text in rows of words, with all that word2vec draws at random, so that what trains leaves nothing to chance.

V words, B rows of one batch, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dlmkit import DataModule, UserError
from dlmkit.data.module import Batch, Split
from dlmkit_word2vec.corpus import Corpus, Reading, read_corpus
from dlmkit_word2vec.groups import chance
from dlmkit_word2vec.sampling import PAD, Noise, compact, draw_windows, keep_probability, pairs
from dlmkit_word2vec.sources import PYTHON_DOCS, open_source

__all__ = ["Words"]

_NUMBERS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Words(DataModule):
    """A text as words, frequent ones thinned out, each with the reach of its window and a word of noise.

    The text is read once and kept on disk as word numbers, so that it may be larger than memory, and a later start with
    the same text and settings is quick. It is cut into rows of ``length`` words, whose order is new in every epoch.
    Frequent words are passed over at random, and what is left of a row moves together. A batch holds ``input``,
    ``window`` and ``noise`` (B, T), int64: the words, -1 behind the end of a row; how many words to each side a centre
    sees; and one word each from the noise distribution. ``words`` and ``pairs`` (B,), int64, tell how many words of the
    text, and how many pairs of a centre and a word around it, a row stands for.

    References:
        | Distributed Representations of Words and Phrases and their Compositionality (Mikolov et al., 2013), section 2
        | An Efficient Method for Generating Discrete Random Variables with General Distributions (Walker, 1977)

    Args:
        source: What to read: python-docs (the documentation of Python and of the packages that dlmkit needs, as they
            are installed here), one or several text files (~ and * are expanded; .gz, .xz and .bz2 are unpacked), a
            folder of text, jsonl or parquet files, or the name of a Hugging Face dataset.
        subset: Which configuration of a Hugging Face dataset.
        column: The column of a dataset that holds the text.
        split: What a word is: letters takes runs of letters, spaces whatever white space separates.
        lowercase: Whether capital letters become small.
        min_count: Words that occur less often are left out.
        max_words: Size of the vocabulary at most, the most frequent words; 0 for all.
        sample: Words whose share of the text is above this are thinned out; 0 for none.
        window: How far a centre sees to each side at most; how far in fact is drawn evenly from 1 to this.
        negatives: Words of noise K against which each word that was seen is told.
        power: The noise is drawn in proportion to this power of the words' counts.
        length: Words of the text in one row.
        batch_size: Rows in one batch over all processes together.
        val_fraction: Share of the text for validation, cut off before the test split.
        test_fraction: Share of the text, its end, for the test.
        num_workers: Processes that load ahead; 0 loads in the training process, which takes 3 ms for 100,000 words.

    Raises:
        UserError: If a figure is out of range; and, when the text is first needed, if it cannot be read or is too
            short.
    """

    def __init__(
        self,
        source: str | list[str] = PYTHON_DOCS,
        subset: str | None = None,
        column: str = "text",
        split: Literal["letters", "spaces"] = "letters",
        lowercase: bool = True,
        min_count: int = 5,
        max_words: int = 0,
        sample: float = 0.001,
        window: int = 5,
        negatives: int = 5,
        power: float = 0.75,
        length: int = 1000,
        batch_size: int = 50,
        val_fraction: float = 0.01,
        test_fraction: float = 0.01,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        if not source:
            raise UserError("data.source is empty", f"give {PYTHON_DOCS}, a text file or a dataset", "data.source")
        least = {"min_count": (min_count, 1), "max_words": (max_words, 0), "window": (window, 1), "length": (length, 2)}
        for name, (value, bound) in (least | {"negatives": (negatives, 1)}).items():
            if value < bound:
                raise UserError(f"{name} is {value}", f"give at least {bound}", f"data.{name}")
        for name, share in (("val_fraction", val_fraction), ("test_fraction", test_fraction), ("sample", sample)):
            if not (0 <= share < 0.5 and (share or name == "sample")):
                raise UserError(
                    f"{name} is {share}", "give a share between 0 and a half, such as 0.001", f"data.{name}"
                )
        if not 0 <= power <= 1:
            raise UserError(f"power is {power}", "give 0 to 1; the paper has 0.75", "data.power")
        self.source, self.subset, self.column = source, subset, column
        self.reading = Reading(split, lowercase, min_count, max_words)
        self.sample, self._window, self._negatives, self.power, self.length = sample, window, negatives, power, length
        self.fractions = {"val": val_fraction, "test": test_fraction}

    @property
    def vocab_size(self) -> int:
        """Number of different words V."""
        return len(self.vocabulary)

    @property
    def window(self) -> int:
        """How far a centre sees to each side at most."""
        return self._window

    @property
    def negatives(self) -> int:
        """Words of noise K for each word that was seen."""
        return self._negatives

    @cached_property
    def corpus(self) -> Corpus:
        """The whole text.

        Raises:
            UserError: If there is too little of it.
        """
        source = open_source(self.source, self.subset, self.column)
        corpus = read_corpus(source, self.reading)
        if len(corpus.words) < 2:
            what = f"{source.label} has {corpus.total:,} words, and {len(corpus.words)} of them occur often enough"
            raise UserError(what, f"give more text, or less than {self.reading.min_count} as data.min_count", "data")
        if len(corpus.tokens) < 200:
            what = f"{source.label} has {len(corpus.tokens):,} words that occur often enough"
            raise UserError(what, "give more text, 200 words at the very least", "data.source")
        self._label = source.label
        return corpus

    @property
    def vocabulary(self) -> list[str]:
        """The words, the most frequent first."""
        return self.corpus.words

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each word occurs in the whole text (V,)."""
        return self.corpus.counts

    def prepare_data(self) -> None:
        """Read, once on every machine."""
        _ = self.corpus

    def describe(self) -> str:
        """How much text there is."""
        corpus = self.corpus
        told = f"{corpus.total:,} words, {len(corpus.words):,} different ones"
        return f"{self._label}: {told}, {self.batches('train')} batches of {self.batch_size * self.length:,} words"

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch; the last may be smaller."""
        return -(-self._rows(split) // self.batch_size)

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's rows of one batch; rows without words fill up the last one."""
        generator = np.random.default_rng((self.seed, _NUMBERS[split], epoch, index + 1))
        tokens = self._tokens(split, epoch, index)  # (B, T')
        size = (tokens != PAD).sum(axis=1)
        kept = generator.random(tokens.shape, dtype=np.float32) < self._keep[tokens]  # the last entry is that of PAD
        tokens = compact(tokens, kept)
        windows = draw_windows(tokens.shape, self._window, generator)
        noise = self._noise.draw(tokens.shape, generator)
        found = {"input": tokens, "window": windows, "noise": noise, "words": size, "pairs": pairs(tokens, windows)}
        part = self.batch_size // world
        return {k: torch.from_numpy(v[rank * part : (rank + 1) * part]) for k, v in found.items()}

    def baselines(self) -> dict[str, dict[str, float]]:
        """What the loss is when words are told from noise by their frequency alone, and what chance groups together."""
        found = {"test/loss": {"frequency alone": self.frequency_loss("test")}}
        lucky = chance(self.vocabulary)
        return found | ({"test/groups": {"chance": lucky}} if lucky else {})

    def frequency_loss(self, split: Split) -> float:
        r"""The loss of the best answer that does not look at the words around.

        Word w is a centre with probability p(w) and noise K times with q(w); the best score that depends on w alone has
        :math:`\sigma(s_w) = p(w) / (p(w) + K q(w))`.

        Args:
            split: Its centres are counted; p is taken from the whole text.
        """
        seen = np.zeros(self.vocab_size)
        for index in range(self.batches(split)):
            batch = self.batch(split, 0, index, 0, 1)
            for row, windows in zip(batch["input"].numpy(), batch["window"].numpy(), strict=True):
                size, at = int((row != PAD).sum()), np.arange(len(row))
                around = np.minimum(windows, at) + np.minimum(windows, size - 1 - at)
                np.add.at(seen, row[:size], around[:size])
        p = self.counts * self._keep[:-1]
        p, q = p / p.sum(), self._negatives * self._noise.probabilities()
        right, wrong = -np.log(p / (p + q)), -np.log(q / (p + q))
        return float((seen / seen.sum()) @ right + q @ wrong)

    @cached_property
    def _keep(self) -> NDArray[np.float32]:
        keep = keep_probability(self.counts, self.sample)
        return np.append(keep, 0).astype(np.float32)  # nothing of what stands behind a row's end

    @cached_property
    def _noise(self) -> Noise:
        return Noise.of(self.counts, self.power)

    def _span(self, split: Split) -> tuple[int, int]:
        """Where a split begins and ends."""
        size = len(self.corpus.tokens)
        test = size - max(2, round(self.fractions["test"] * size))
        val = test - max(2, round(self.fractions["val"] * size))
        return {"train": (0, val), "val": (val, test), "test": (test, size)}[split]

    def _rows(self, split: Split) -> int:
        start, end = self._span(split)
        return -(-(end - start) // self.length)

    def _tokens(self, split: Split, epoch: int, index: int) -> NDArray[np.int64]:
        """The text of a batch (B, length)."""
        out = np.full((self.batch_size, self.length), PAD, dtype=np.int64)
        start, end = self._span(split)
        for number, row in enumerate(self._chosen(split, epoch, index)):
            part = self.corpus.tokens[start + row * self.length : min(end, start + (row + 1) * self.length)]
            out[number, : len(part)] = part
        return out

    def _chosen(self, split: Split, epoch: int, index: int) -> Iterator[int]:
        """The rows of a batch."""
        places = range(index * self.batch_size, min((index + 1) * self.batch_size, self._rows(split)))
        yield from (int(row) for row in self._order(split, epoch)[places.start : places.stop])

    def _order(self, split: Split, epoch: int) -> NDArray[np.int64]:
        """All rows, shuffled for training; the last order is kept, since every batch of an epoch asks for it."""
        key = (split, epoch, self.seed)
        if getattr(self, "_last_order", (None,))[0] != key:
            rows = np.arange(self._rows(split))
            if split == "train":
                rows = np.random.default_rng((self.seed, 0, epoch, 0)).permutation(rows)
            self._last_order = key, rows
        return self._last_order[1]
