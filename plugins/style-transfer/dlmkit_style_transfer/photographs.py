"""Pictures by name or from files: photographs that other packages install, and a painting that is drawn here.

Dimensions: H height, W width.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from dlmkit_pictures.files import appended, read_picture
from torch import Tensor

from dlmkit.errors import UserError, did_you_mean
from dlmkit_style_transfer.strokes import strokes

__all__ = ["LEAST", "NAMES", "PHOTOGRAPHS", "changed", "fit", "get_picture", "too_small"]

LEAST = 32
"""Pixels along the shorter side that the features need."""

PHOTOGRAPHS = {
    "china": ("sklearn.datasets.images", "china.jpg"),
    "flower": ("sklearn.datasets.images", "flower.jpg"),
    "hopper": ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
}
"""Photographs that scikit-learn and matplotlib install: a name, and where the file lies."""

NAMES = (*PHOTOGRAPHS, "strokes")


def get_picture(source: str, option: str, size: int | None = None) -> Tensor:
    """A picture (3, H, W), float32 from 0 to 1.

    Args:
        source: ``china``, ``flower``, ``hopper``, ``strokes``, or a file.
        option: Where the user gives it, for what is told of a fault.
        size: Pixels along the longer side; as it is when left out.

    Raises:
        UserError: If there is no such picture, or it cannot be read, or it is too small or too narrow.
    """
    if source in PHOTOGRAPHS:
        package, file = PHOTOGRAPHS[source]
        with importlib.resources.as_file(importlib.resources.files(package) / file) as path:
            pixels = read_picture(path).pixels
    elif source == "strokes":
        pixels = strokes()
    elif not Path(source).suffix and not Path(source).expanduser().exists():
        remedy = did_you_mean(source, NAMES, f"give a file, or {', '.join(NAMES)}")
        raise UserError(f"there is no picture called {source}", remedy, option)
    else:
        pixels = read_picture(Path(source).expanduser()).pixels
    pixels = fit(pixels, size) if size else pixels.contiguous()
    high, wide = pixels.shape[1:]
    if min(high, wide) < LEAST:
        raise too_small(high, wide, source)
    return pixels


def too_small(high: int, wide: int, source: str) -> UserError:
    """The fault of a picture that is too small or too narrow.

    Args:
        high: Its rows.
        wide: Its columns.
        source: Where it is from.
    """
    remedy = f"{LEAST} pixels are needed along the shorter side; give a larger size or another picture"
    return UserError(f"this picture has {wide} × {high} pixels", remedy, source)


def fit(pixels: Tensor, size: int) -> Tensor:
    """A picture with a longer side of so many pixels, averaged where it is made smaller.

    Args:
        pixels: (3, H, W), from 0 to 1.
        size: Pixels along the longer side.
    """
    high, wide = pixels.shape[1:]
    factor = size / max(high, wide)
    shape = max(1, round(high * factor)), max(1, round(wide * factor))
    if shape == (high, wide):
        return pixels.contiguous()
    scaled = F.interpolate(pixels[None], shape, mode="bicubic", antialias=factor < 1, align_corners=False)
    return scaled[0].clamp(0, 1).contiguous()


def changed(sources: Sequence[str]) -> str:
    """What had to be changed in those pictures that are files, for the end of a description; empty where nothing had.

    Args:
        sources: As `get_picture` takes them.
    """
    files = [source for source in sources if source not in NAMES]
    return appended([(source, read_picture(Path(source).expanduser()).changes) for source in files])
