"""Squares out of photographs, on which a net learns to paint.

Dimensions: B squares of a batch, S side.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from dlmkit_pictures.files import appended, as_bytes, list_pictures, look_at
from torch import Tensor

from dlmkit.data.module import Batch, DataModule, Split
from dlmkit.errors import at_least
from dlmkit_style_transfer.data import read_styles
from dlmkit_style_transfer.photographs import LEAST, PHOTOGRAPHS, changed, fit, get_picture, too_small

__all__ = ["PhotographCrops"]

_KEPT = 0.25  # of each photograph's width, at its right edge: never trained on
_LARGEST = 3.0  # times the side of a square, from which it is made smaller
_MEMORY = 200  # photographs that are kept in memory


class PhotographCrops(DataModule):
    """Squares of photographs, cut out at random places and sizes, and the style pictures.

    The right quarter of each photograph is never trained on; the validation's squares lie in its upper half, the
    test's in the lower. A batch holds ``content`` (B, 3, S, S) and ``style_1``, … (1, 3, H, W), float32 from 0 to 1.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016), section 4.1

    Args:
        folder: Of photographs; when left out, the three that scikit-learn and matplotlib install.
        style: Files, or names of those that need none: ``strokes``, ``china``, ``flower``, ``hopper``.
        crop: Pixels along one side of a square S.
        style_size: Pixels along the longer side of the styles.
        size: Pixels along the longer side that photographs are brought to at most.
        batches_per_epoch: Batches in an epoch.
        batch_size: Squares in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for a few photographs.

    Raises:
        UserError: If a size is too small, or a picture cannot be read.
    """

    def __init__(
        self,
        folder: str | None = None,
        style: list[str] = ["strokes"],  # noqa: B006  (jsonargparse reads it, nobody changes it)
        crop: int = 128,
        style_size: int = 256,
        size: int = 640,
        batches_per_epoch: int = 100,
        batch_size: int = 4,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(32, "data.", crop=crop, style_size=style_size)
        at_least(64, "data.", size=size)
        at_least(1, "data.", batches_per_epoch=batches_per_epoch)
        self.folder, self.style, self.crop, self.style_size, self.size = folder, style, crop, style_size, size
        self.batches_per_epoch = batches_per_epoch
        self._read: dict[int, Tensor] = {}

    @cached_property
    def _sources(self) -> list[str]:
        return list(PHOTOGRAPHS) if self.folder is None else [str(path) for path in list_pictures(self.folder)]

    @cached_property
    def _changes(self) -> list[tuple[str, tuple[str, ...]]]:
        """What has to be changed in each photograph of the folder, from the heads of their files."""
        found = []
        for source in self._sources if self.folder is not None else ():
            (high, wide), changes = look_at(Path(source))
            factor = min(1, self.size / max(high, wide))
            if round(factor * min(high, wide)) < LEAST:
                raise too_small(high, wide, source)
            found.append((source, changes))
        return found

    @cached_property
    def _styles(self) -> dict[str, Tensor]:
        return read_styles(self.style, self.style_size)

    def photograph(self, number: int) -> Tensor:
        """One of the photographs, whole (3, H, W).

        Args:
            number: From 0; counted round.
        """
        number %= len(self._sources)
        if number not in self._read:
            pixels = get_picture(self._sources[number], "data.folder")
            pixels = fit(pixels, self.size) if max(pixels.shape[1:]) > self.size else pixels
            if len(self._read) >= _MEMORY:
                del self._read[next(iter(self._read))]
            self._read[number] = as_bytes(pixels)
        return self._read[number] / 255

    def setup(self, stage: str | None = None) -> None:
        """Read the styles, the first photograph and the heads of all others, so that a fault is told at once."""
        _ = self._styles, self._changes
        self.photograph(0)

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch of a split."""
        return self.batches_per_epoch if split == "train" else 1

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """One process's part of the squares, and all styles."""
        words = (self.seed, epoch, index) if split == "train" else (0, split == "test")
        draw = np.random.default_rng(np.random.SeedSequence(words))
        numbers = draw.integers(len(self._sources), size=self.batch_size)
        places = draw.random((self.batch_size, 4))  # how large, how far down, how far to the right, turned round
        part = range(self.batch_size * rank // world, self.batch_size * (rank + 1) // world)
        squares = [self._square(split, int(numbers[row]), places[row].tolist()) for row in part]
        return {"content": torch.stack(squares), **self._styles}

    def _square(self, split: Split, number: int, place: list[float]) -> Tensor:
        pixels = _region(self.photograph(number), split)
        high, wide = pixels.shape[1:]
        most = min(high, wide, round(_LARGEST * self.crop))
        side = most if most < self.crop else round(self.crop + place[0] * (most - self.crop))
        top, left = round(place[1] * (high - side)), round(place[2] * (wide - side))
        square = pixels[None, :, top : top + side, left : left + side]
        size = (self.crop, self.crop)
        if side != self.crop:
            square = F.interpolate(square, size, mode="bilinear", antialias=side > self.crop, align_corners=False)
        return square[0].flip(2) if place[3] < 0.5 and split == "train" else square[0].contiguous()

    def describe(self) -> str:
        """How many photographs, and which styles."""
        names = ", ".join(self._sources) if self.folder is None else f"{len(self._sources):,} photographs"
        styles = ", ".join(Path(style).name for style in self.style)
        squares = f"squares of {self.crop} × {self.crop} pixels out of {names}{appended(self._changes)}"
        return f"{squares}, in the style of {styles}{changed(self.style)}"


def _region(pixels: Tensor, split: Split) -> Tensor:
    """The part of a photograph (3, H, W) that belongs to a split."""
    high, wide = pixels.shape[1:]
    edge = wide - round(_KEPT * wide)
    if split == "train":
        return pixels[:, :, :edge]
    return pixels[:, : high // 2, edge:] if split == "val" else pixels[:, high // 2 :, edge:]
