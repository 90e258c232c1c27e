"""Two networks of a few numbers that are trained against each other, and what they are trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dlmkit import Adversarial, DataModule, Media, Text
from dlmkit.data.module import Batch, Split


class Rivals(Adversarial):
    """A generator of points in the plane against a discriminator.

    Args:
        width: Units of each network.
        **kwargs: Those of every adversarial task.
    """

    def __init__(self, width: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

    def discriminator_loss(self, batch: Batch) -> Tensor:
        """Real points are to be told from made ones."""
        real, made = self.discriminator(batch["point"]), self.discriminator(self.made(batch))
        return F.softplus(-real).mean() + F.softplus(made).mean()

    def generator_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Made points are to pass."""
        made = self.discriminator(self.made(batch))
        return F.softplus(-made).mean(), {"passed": (made > 0).float().mean()}

    def made(self, batch: Batch) -> Tensor:
        """Points (B, 2) that the generator makes."""
        points: Tensor = self.generator(self.noise(len(batch["point"]), 3))
        return points

    def show(self, batch: Batch) -> dict[str, Media]:
        """Some points."""
        return {"points": Text(str(self.made(batch)[:2].tolist()))}


class Points(DataModule):
    """Points on a circle.

    Args:
        count: Batches in an epoch of training; validation and test have two.
        batch_size: Points in a batch.
        num_workers: Processes that load ahead.
    """

    def __init__(self, count: int = 10, batch_size: int = 4, num_workers: int = 0) -> None:
        super().__init__(batch_size, num_workers)
        self.count = count

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch."""
        return self.count if split == "train" else 2

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's points of one batch."""
        seed = (self.seed, ("train", "val", "test").index(split), epoch, index)
        angles = 2 * np.pi * np.random.default_rng(seed).random(self.batch_size)
        points = np.stack([np.cos(angles), np.sin(angles)], axis=1)[rank::world]
        return {"point": torch.from_numpy(points).float()}
