"""Pairs of pictures: one that is given, and one that it should become.

Dimensions: B pairs of a batch, N pairs of a split, C channels, S side.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from dlmkit.data.examples import Examples
from dlmkit.data.module import Batch, Split
from dlmkit.errors import at_least
from dlmkit_pictures.fidelity import fidelity
from dlmkit_pictures.files import luminance

__all__ = ["PicturePairs", "as_channels"]


class PicturePairs(Examples):
    """Pairs of square pictures of one size, which lie on each other pixel by pixel.

    A batch holds ``input`` (B, C, S, S) and ``target`` (B, C', S, S), float32 from 0 to 1.

    Args:
        batch_size: Pairs in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
        mirror: Turn half of the training pairs round, left to right.
        shift: Move each training pair by up to so many pixels to any side; the edge's pixels fill what is laid bare.
    """

    def __init__(self, batch_size: int = 16, num_workers: int = 0, mirror: bool = False, shift: int = 0) -> None:
        super().__init__(batch_size, num_workers)
        at_least(0, "data.", shift=shift)
        self.mirror, self.shift = mirror, shift

    @abstractmethod
    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pairs of a split (N, C, S, S) and (N, C', S, S), uint8."""

    @property
    def in_channels(self) -> int:
        """Of the given pictures: 1 for grey, 3 for colour."""
        return int(self.table("train")[0].shape[1])

    @property
    def out_channels(self) -> int:
        """Of the pictures that they should become."""
        return int(self.table("train")[1].shape[1])

    @property
    def side(self) -> int:
        """Pixels along one side."""
        return int(self.table("train")[0].shape[2])

    def size(self, split: Split) -> int:
        """The number of pairs N of a split."""
        return len(self.table(split)[0])

    def take(self, split: Split, rows: Tensor) -> Batch:
        """Some pairs."""
        given, wanted = self.table(split)
        return {"input": given[rows] / 255, "target": wanted[rows] / 255}

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of one batch; both pictures of a training pair are moved alike."""
        batch = super().batch(split, epoch, index, rank, world)
        if split != "train" or not (self.mirror or self.shift):
            return batch
        draw = np.random.default_rng(np.random.SeedSequence((self.seed, epoch, index)))
        turned = torch.from_numpy(draw.random(self.batch_size) < (0.5 if self.mirror else 0))
        moved = torch.from_numpy(draw.integers(-self.shift, self.shift + 1, (self.batch_size, 2)))
        part = slice(self.batch_size * rank // world, self.batch_size * (rank + 1) // world)
        return {name: _moved(pictures, turned[part], moved[part]) for name, pictures in batch.items()}

    def baselines(self) -> dict[str, dict[str, float]]:
        """What the given picture itself reaches, and the answer to the most similar picture of the training set."""
        given, wanted = (table.float() / 255 for table in self.table("test"))
        known, answers = self.table("train")
        nearest = torch.cat([_nearest(part, known) for part in torch.split(self.table("test")[0], 50)])
        shown = {
            "the input as it is": as_channels(given, wanted.shape[1]),
            "the nearest training pair": answers[nearest].float() / 255,
        }
        figures = {name: _mean_fidelity(made, wanted) for name, made in shown.items()}
        first = next(iter(figures.values()))
        return {f"test/{n}": {who: f[n] for who, f in figures.items()} for n in first}


def as_channels(pictures: Tensor, channels: int) -> Tensor:
    """Pictures (N, C, S, S) with another number of channels: grey repeated, or the luminance of the colours.

    Args:
        pictures: Of any range.
        channels: 1 or 3.
    """
    if pictures.shape[1] == channels:
        return pictures
    return luminance(pictures) if channels == 1 else pictures.expand(-1, channels, -1, -1)


def _mean_fidelity(made: Tensor, wanted: Tensor) -> dict[str, float]:
    parts = [fidelity(*pair) for pair in zip(made.split(50), wanted.split(50), strict=True)]  # SSIM takes much memory
    return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}


def _nearest(pictures: Tensor, known: Tensor) -> Tensor:
    """Which of the known pictures each is most similar to, by the distance of their pixels (N,)."""
    here, parts = pictures.flatten(1).float(), known.split(1000)  # of a large set not all at once as float32
    far = torch.cat([torch.cdist(here, part.flatten(1).float()) for part in parts], dim=1)
    return far.argmin(dim=1)


def _moved(pictures: Tensor, turned: Tensor, moved: Tensor) -> Tensor:
    """Pictures (B, C, S, S), some of them turned round (B,), each moved by (B, 2) pixels."""
    pictures = torch.where(turned[:, None, None, None], pictures.flip(3), pictures)
    places = torch.arange(pictures.shape[2])
    down, right = ((places + moved[:, axis, None]).clamp(0, len(places) - 1) for axis in (0, 1))  # (B, S)
    rows = torch.arange(len(pictures))[:, None, None]
    return pictures.transpose(1, 2).transpose(2, 3)[rows, down[:, :, None], right[:, None]].permute(0, 3, 1, 2)
