"""Outlines of letters, and the letters as they look when they are cut from striped paper; made at run time.

Dimensions: N glyphs, S side, F side of the fine drawing that is averaged to S.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit.data.module import Split
from dlmkit_pictures.files import as_bytes
from dlmkit_pictures.pairs import PicturePairs

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

__all__ = ["CHARACTERS", "Glyphs", "draw_glyphs"]

_SIDE, _FINE = 32, 3
_FONTS = ("DejaVuSans-Bold", "DejaVuSans-BoldOblique", "DejaVuSerif-Bold", "DejaVuSansMono-Bold")
# A letter stands where its capital does, and none has a twin in another split.
CHARACTERS: dict[Split, str] = {
    "train": "BbCcDdFfIiJjLlMmNnOoPpQqSsTtUuVvWwXxZz0134679%@!$€§{}()*+<>ΓΔΘΞΠΩβδθλμξπτωБИЛЦШЫЮЭЧбилцшщыэюч",
    "val": "EeHh5#Φж",
    "test": "AaGgKkRrYy28&?ΣΨДЯ",
}
_COUNTS: dict[Split, int] = {"train": 3000, "val": 160, "test": 320}


class Glyphs(PicturePairs):
    """Outlines of letters and signs, and the letters themselves: coloured, embossed and hatched, 32 × 32 pixels.

    The letters are those of fonts that come with matplotlib, at random sizes and angles. The outline has the colour of
    the letter. Light falls from the top left. The hatching runs at a fixed angle, but where its lines lie is random and
    not to be seen in the outline: whoever must be right on average leaves it out. No letter of the test is a letter of
    the training, and the pairs are the same in every run.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017), section 4, for edges
          that become photographs

    Args:
        batch_size: Pairs in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
        mirror: Turn half of the training pairs round, left to right; the light then falls from the other side.
        shift: Move each training pair by up to so many pixels to any side.
    """

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All outlines of a split (N, 3, 32, 32), and letters (N, 3, 32, 32), uint8."""
        return _table(split)

    def describe(self) -> str:
        """Size and splits."""
        return f"outlines of letters, and the letters, 32 × 32 pixels; {self.sizes('pairs')}"


@lru_cache(maxsize=3)
def _table(split: Split) -> tuple[Tensor, Tensor]:
    given, wanted = draw_glyphs(CHARACTERS[split], _COUNTS[split], seed=("train", "val", "test").index(split))
    return as_bytes(given), as_bytes(wanted)


def draw_glyphs(characters: str, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw letters, as an outline and in full.

    Args:
        characters: Those to choose from.
        count: Pairs N.
        seed: Of every choice.

    Returns:
        Outlines and letters, both (N, 3, 32, 32), float32 from 0 to 1.
    """
    draw = np.random.default_rng(np.random.SeedSequence((seed, 20_171)))
    fine = torch.stack([_mask(characters[i], draw) for i in draw.integers(len(characters), size=count)])[:, None]
    hue, phase = (torch.from_numpy(draw.random((count, 1, 1, 1))).float() for _ in range(2))
    colour = _colour(hue)  # (N, 3, 1, 1)
    edge = F.avg_pool2d(fine + F.max_pool2d(-fine, 5, stride=1, padding=2), _FINE)  # two fine pixels all around
    mask = F.avg_pool2d(fine, _FINE)  # (N, 1, S, S)
    return _paint(edge, colour * 0.75), _paint(mask, colour * _light(mask) * _hatching(phase))


def _mask(character: str, draw: np.random.Generator) -> Tensor:
    """A letter (F, F), 1 where it is and 0 where it is not, in the middle, at a random size and angle."""
    from PIL import Image, ImageDraw

    fine = _SIDE * _FINE
    sheet = Image.new("L", (fine, fine), 0)
    name = _FONTS[draw.integers(len(_FONTS))]
    left, top, right, bottom = _box(name, character)
    size = int(fine * draw.uniform(0.7, 0.95) * fine / max(right - left, bottom - top))
    scale = size / fine
    corner = ((fine - scale * (left + right)) / 2, (fine - scale * (top + bottom)) / 2)
    ImageDraw.Draw(sheet).text(corner, character, fill=255, font=_font(name, size))
    turned = sheet.rotate(draw.uniform(-25, 25), resample=Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(turned, dtype=np.float32) / 255)


@lru_cache(maxsize=1000)
def _box(name: str, character: str) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a letter in a font whose size is F pixels."""
    return _font(name, _SIDE * _FINE).getbbox(character)


@lru_cache(maxsize=1000)
def _font(name: str, size: int) -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}.ttf", size)


def _colour(hue: Tensor) -> Tensor:
    """A strong colour (N, 3, 1, 1) of a hue from 0 to 1 (N, 1, 1, 1)."""
    thirds = torch.tensor([0.0, 1 / 3, 2 / 3])[None, :, None, None]
    return 0.5 + 0.4 * torch.cos(2 * torch.pi * (hue - thirds))


def _light(mask: Tensor) -> Tensor:
    """How bright a letter is (N, 1, S, S) that is raised from the paper, in light from the top left."""
    height = mask
    for _ in range(2):
        height = F.avg_pool2d(height, 3, stride=1, padding=1, count_include_pad=False)
    padded = F.pad(height, (1, 1, 1, 1), mode="replicate")
    slope = (padded[:, :, 2:] - padded[:, :, :-2])[..., 1:-1] + (padded[..., 2:] - padded[..., :-2])[:, :, 1:-1]
    return (1 + 0.4 * slope).clamp(0.5, 1.5)


def _hatching(phase: Tensor) -> Tensor:
    """Stripes (N, 1, S, S) that run from the bottom left to the top right, four pixels apart."""
    place = torch.arange(_SIDE)
    across = (place[:, None] + place[None]) / 2**0.5
    return 0.8 + 0.3 * torch.sin(2 * torch.pi * (across / 4 + phase))


def _paint(amount: Tensor, colour: Tensor) -> Tensor:
    """Colour on white paper (N, 3, S, S), as much as there is (N, 1, S, S)."""
    return (1 - amount * (1 - colour)).clamp(0, 1)
