"""One content picture and the style pictures.

Dimensions: H height, W width.
"""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from dlmkit.data.module import Batch, DataModule, Split
from dlmkit.errors import UserError
from dlmkit_style_transfer.photographs import changed, get_picture

__all__ = ["STEPS_PER_EPOCH", "ContentAndStyle", "read_styles"]

STEPS_PER_EPOCH = 50
"""There is one picture, so every step sees the same; an epoch is so many steps."""


def read_styles(style: list[str], size: int) -> dict[str, Tensor]:
    """The style pictures (1, 3, H, W), by the names that a batch has for them: style_1, style_2 and so on.

    Args:
        style: Names or files.
        size: Pixels along each longer side.

    Raises:
        UserError: If there is none, or one cannot be read.
    """
    if not style:
        raise UserError("there is no style", "give at least one picture", "data.style")
    return {f"style_{n}": get_picture(source, "data.style", size)[None] for n, source in enumerate(style, 1)}


class ContentAndStyle(DataModule):
    """A picture that says what is to be seen, and pictures that say how it is to be painted.

    A batch holds ``content`` (1, 3, H, W) and ``style_1``, ``style_2``, … (1, 3, H', W'), float32 from 0 to 1. It is
    always the same.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys, Ecker & Bethge, 2016)

    Args:
        content: A picture's file, or one of those that need none: ``china``, ``flower`` (photographs that scikit-learn
            installs), ``hopper`` (a portrait that matplotlib installs), ``strokes`` (a night in strokes of a brush,
            drawn when it is needed).
        style: Files or such names, one or several.
        size: Pixels along the longer side of the content, and of the picture that is made.
        style_size: Pixels along the longer side of the styles; as ``size`` when left out. Larger ones give larger
            strokes.

    Raises:
        UserError: If a size is not 32 to 8192 pixels, or a picture cannot be read.
    """

    def __init__(
        self,
        content: str = "china",
        style: list[str] = ["strokes"],  # noqa: B006  (jsonargparse reads it, nobody changes it)
        size: int = 256,
        style_size: int | None = None,
    ) -> None:
        super().__init__(batch_size=1)
        for name, value in (("size", size), ("style_size", style_size)):
            if value is not None and not 32 <= value <= 8192:
                raise UserError(f"{name} is {value}", "give 32 to 8192 pixels", f"data.{name}")
        self.content, self.style, self.size, self.style_size = content, style, size, style_size or size

    @cached_property
    def _batch(self) -> Batch:
        content = get_picture(self.content, "data.content", self.size)[None]
        return {"content": content, **read_styles(self.style, self.style_size)}

    @property
    def height(self) -> int:
        """Pixels H of the content."""
        return int(self._batch["content"].shape[2])

    @property
    def width(self) -> int:
        """Pixels W of the content."""
        return int(self._batch["content"].shape[3])

    def batches(self, split: Split) -> int:
        """The number of batches in one epoch of a split."""
        return STEPS_PER_EPOCH if split == "train" else 1

    def batch(self, split: Split, epoch: int, index: int, rank: int, world: int) -> Batch:
        """The pictures."""
        return self._batch

    def describe(self) -> str:
        """Which pictures."""
        notes = changed([self.content, *self.style])
        return f"{self.content}, {self.width} × {self.height} pixels, in the style of {', '.join(self.style)}{notes}"
