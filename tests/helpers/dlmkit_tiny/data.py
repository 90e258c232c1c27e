"""Streams of symbols that are drawn, not read."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.module import Batch, DataModule, Split

_SPLITS = ("train", "val", "test")


class Beats(DataModule):
    """A walk over a ring of symbols; streams run on from batch to batch, every epoch is another walk.

    Args:
        symbols: Size of the ring.
        count: Batches in an epoch of training; validation and test have two.
        length: Time steps in a batch.
        batch_size: Streams.
        num_workers: Processes that load ahead.
    """

    def __init__(
        self, symbols: int = 6, count: int = 10, length: int = 5, batch_size: int = 4, num_workers: int = 0
    ) -> None:
        super().__init__(batch_size, num_workers)
        self.symbols, self.count, self.length = symbols, count, length

    @property
    def vocab_size(self) -> int:
        """Number of symbols."""
        return self.symbols

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch."""
        return self.count if split == "train" else 2

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's rows of one batch."""
        rows = self.batch_size // world
        seed = (self.seed, _SPLITS.index(split), epoch)
        walk = _walk(seed, self.batch_size, self.batches(split) * self.length + 1, self.symbols)
        part = walk[rank * rows : (rank + 1) * rows, index * self.length : (index + 1) * self.length + 1]
        return {
            "input": part[:, :-1],
            "target": part[:, 1:],
            "reset": torch.full((rows,), index == 0),
            "characters": torch.full((rows,), self.length),
        }

    def describe(self) -> str:
        """The ring."""
        return f"walks over {self.symbols} symbols"


class Bare(Beats):
    """The same data, which does not tell how many symbols there are."""

    vocab_size = None  # type: ignore[assignment]


@lru_cache
def _walk(seed: tuple[int, ...], rows: int, size: int, symbols: int) -> Tensor:
    draw = np.random.default_rng(np.random.SeedSequence(seed))
    steps = draw.choice([1, 1, 1, 2, symbols - 1], size=(rows, size))
    return torch.from_numpy(steps.cumsum(1) % symbols)
