"""Data that is a set of examples: who comes when, in which process.

Dimensions: B examples of a batch, N examples of a split.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.module import Batch, DataModule, Split
from dlmkit.errors import UserError

__all__ = ["Examples"]


class Examples(DataModule):
    """A data module over numbered examples; a child says how many each split has, and what some of them are.

    The training examples come in an order that follows from the seed and the epoch, and those that fill no batch at
    the epoch's end are left out. Validation and test take every example once, in their order;
    their batches are larger than ``batch_size`` where that leaves no small one over.

    Args:
        batch_size: Examples in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    @abstractmethod
    def size(self, split: Split) -> int:
        """The number of examples N of a split."""

    @abstractmethod
    def take(self, split: Split, rows: Tensor) -> Batch:
        """Some examples.

        Args:
            split: ``train``, ``val`` or ``test``.
            rows: Which (B,), int64, from 0 to N - 1.
        """

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch of a split."""
        full = self.size(split) // self.batch_size
        if split == "train" and not full:
            what = f"a batch of {self.batch_size} is more than the {self.size(split):,} training examples"
            raise UserError(what, f"give at most {self.size(split):,}", "data.batch_size")
        return max(1, full) if self.size(split) else 0

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of one batch; the last ones of validation and test share out what there is."""
        count = self.batches(split)
        if not 0 <= index < count:
            raise IndexError(f"batch {index} of {count}")
        if split == "train":
            rows = _order(self.seed, epoch, self.size(split))[index * self.batch_size : (index + 1) * self.batch_size]
        else:  # batches of nearly equal size, the batch size or a little more, so that none is too small
            rows = torch.arange(self.size(split) * index // count, self.size(split) * (index + 1) // count)
            if len(rows) < world:
                what = f"a batch of {split} has {len(rows)} examples, too few for {world} processes"
                raise UserError(what, "give more data, a larger data.batch_size, or fewer processes", "trainer.devices")
        return self.take(split, rows[len(rows) * rank // world : len(rows) * (rank + 1) // world])

    def sizes(self, what: str = "examples") -> str:
        """How many examples there are, in words.

        Args:
            what: What they are called.
        """
        train, val, test = (self.size(split) for split in ("train", "val", "test"))
        return f"{train:,} training, {val:,} validation and {test:,} test {what}"


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> Tensor:
    """The order of the training examples in an epoch (N,), int64."""
    return torch.from_numpy(np.random.default_rng(np.random.SeedSequence((seed, epoch))).permutation(count))
