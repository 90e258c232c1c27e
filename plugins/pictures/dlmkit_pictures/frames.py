"""How pictures came about in the course of a run: a row of them is kept at every validation.

Dimensions: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit import Animation
from dlmkit.figures import picture_grid
from dlmkit_pictures.files import as_bytes

__all__ = ["Frames"]

_PIXELS = 400_000  # in a frame at most, because every checkpoint has all frames


class Frames:
    """Pictures made of the same things at several steps of a run; they travel with its checkpoints."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.pictures: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: int, pictures: Tensor) -> None:
        """Keep pictures (N, C, H, W), from 0 to 1, of a step; large ones are made smaller."""
        count, _, high, wide = pictures.shape
        scale = math.sqrt(_PIXELS / (count * high * wide))
        if scale < 1:
            size = [max(1, int(side * scale)) for side in (high, wide)]
            pictures = F.interpolate(pictures.float(), size, mode="bilinear", antialias=True).clamp(0, 1)
        self.steps.append(step)
        self.pictures.append(as_bytes(pictures))

    def animation(self, columns: int) -> Animation:
        """One frame for each step, which stands above it.

        Args:
            columns: How many pictures stand in a row.
        """
        grids = [picture_grid(pictures / 255, columns) for pictures in self.pictures]
        return Animation(grids, captions=[f"step {step:,}" for step in self.steps])

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "pictures": torch.stack(self.pictures) if self.pictures else torch.empty(0)}

    def load(self, state: dict[str, Any]) -> None:
        """Take it up."""
        self.steps, self.pictures = list(state["steps"]), list(state["pictures"])
