"""Two sets of pictures that do not belong to each other, one of each look.

Dimensions: B pictures of a batch, N and M pictures of a split in look a and in look b, C channels, S side.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.examples import Examples
from dlmkit.data.module import Batch, Split

__all__ = ["Unpaired"]


class Unpaired(Examples):
    """Two sets of square pictures of one size; which of them stand in a batch together is chance.

    A batch holds ``a`` (B, C, S, S) and ``b`` (B, C', S, S), float32 from 0 to 1. An epoch of the training has every
    picture of the larger set once, and those of the smaller one as often as it takes. Validation and test take as many
    of each as the smaller set has. There, a child that knows how a picture looks in the other look may add it.

    Args:
        batch_size: Pictures of each look in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    @abstractmethod
    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pictures of a split, of look a (N, C, S, S) and of look b (M, C', S, S), uint8."""

    def known(self, split: Split, rows: Tensor) -> Batch:
        """What is known of pictures of the validation or the test beyond themselves."""
        return {}

    @property
    def scored(self) -> bool:
        """Whether classifiers (``judges``, one for each look) say how many translated pictures are what they were."""
        return hasattr(type(self), "judges")

    @property
    def a_channels(self) -> int:
        """Of the pictures of look a: 1 for grey, 3 for colour."""
        return int(self.table("train")[0].shape[1])

    @property
    def b_channels(self) -> int:
        """Of the pictures of look b."""
        return int(self.table("train")[1].shape[1])

    @property
    def side(self) -> int:
        """Pixels along one side."""
        return int(self.table("train")[0].shape[2])

    def size(self, split: Split) -> int:
        """Pictures of an epoch: of the larger set in training, of the smaller one elsewhere."""
        counts = [len(table) for table in self.table(split)]
        return max(counts) if split == "train" else min(counts)

    def take(self, split: Split, rows: Tensor) -> Batch:
        """The pictures of these places in both sets; the smaller set begins anew where it ends."""
        return self._of(split, rows, rows) | (self.known(split, rows) if split != "train" else {})

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of one batch; the two sets are shuffled independently of each other."""
        if split != "train":
            return super().batch(split, epoch, index, rank, world)
        if not 0 <= index < self.batches(split):
            raise IndexError(f"batch {index} of {self.batches(split)}")
        first = index * self.batch_size + self.batch_size * rank // world
        last = index * self.batch_size + self.batch_size * (rank + 1) // world
        orders = np.random.SeedSequence((self.seed, epoch)).spawn(2)
        rows = [np.random.default_rng(order).permutation(self.size(split))[first:last] for order in orders]
        return self._of(split, *(torch.from_numpy(part) for part in rows))

    def _of(self, split: Split, a_rows: Tensor, b_rows: Tensor) -> Batch:
        a, b = self.table(split)
        return {"a": a[a_rows % len(a)] / 255, "b": b[b_rows % len(b)] / 255}
