"""Small handwritten digits that come with scikit-learn."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dlmkit.data.module import Split
from dlmkit_pictures.pictures import Pictures

__all__ = ["Digits", "read_digits"]

_PARTS: dict[Split, slice] = {"train": slice(0, 1297), "val": slice(1297, 1497), "test": slice(1497, None)}


class Digits(Pictures):
    """Handwritten digits of 8 × 8 pixels with 17 shades of grey, which come with scikit-learn.

    The 1,797 pictures are shuffled once and for all; 1,297 are for training, 200 for validation and 300 for the test.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository

    Args:
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    @property
    def levels(self) -> int:
        """The shades of grey."""
        return 17

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All pictures of a split (N, 1, 8, 8), float32 from 0 to 1, and their digits (N,), int64."""
        return read_digits(split)

    def describe(self) -> str:
        """Size and splits."""
        return f"handwritten digits of 8 × 8 pixels; {self.sizes('pictures')}"


def read_digits(split: Split) -> tuple[Tensor, Tensor]:
    """The pictures of a split (N, 1, 8, 8), from 0 to 1, and digits (N,), in an order that never changes.

    Args:
        split: ``train``, ``val`` or ``test``.
    """
    pictures, digits = _digits()
    return pictures[_PARTS[split]], digits[_PARTS[split]]


@lru_cache(maxsize=1)
def _digits() -> tuple[Tensor, Tensor]:
    """All pictures (1797, 1, 8, 8) and digits (1797,)."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    pictures = torch.from_numpy(found.images / 16).float()[:, None]
    return pictures[order], torch.from_numpy(found.target).long()[order]
