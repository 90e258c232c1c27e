"""A painting that nobody painted: drawn when it is needed, so that a style is there without any file.

Dimensions: N strokes, T points of a stroke.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["strokes"]

Numbers = NDArray[np.float64]

_NIGHT = np.array([(18, 34, 92), (32, 66, 140), (60, 110, 178), (112, 160, 206), (178, 204, 214)])
_LIGHT = np.array([(238, 186, 48), (250, 222, 110), (255, 244, 190)])
_EARTH = np.array([(16, 38, 40), (28, 62, 46), (66, 88, 40), (20, 26, 58)])
_LIGHTS = ((0.20, 0.24, 0.085), (0.52, 0.34, 0.12), (0.84, 0.18, 0.10), (0.70, 0.60, 0.06), (0.33, 0.56, 0.055))
_BRUSHES = ((13.0, 1600), (8.0, 3600), (5.0, 5200))  # how thick, and how many strokes
_HIGH, _WIDE = 480, 600
_ASPECT = _HIGH / _WIDE


@lru_cache(maxsize=1)
def strokes(seed: int = 4) -> Tensor:
    """A night in strokes of a brush, which run around lights and along hills (3, 480, 600), from 0 to 1.

    Args:
        seed: Of places and shades.
    """
    from PIL import Image, ImageDraw

    draw = np.random.default_rng(seed)
    scale = 2  # drawn larger, then averaged, so that edges are soft
    canvas = Image.new("RGB", (scale * _WIDE, scale * _HIGH), tuple(_NIGHT[0]))
    brush = ImageDraw.Draw(canvas)
    for thickness, count in _BRUSHES:
        starts = draw.random((count, 2))
        lengths = draw.integers(6, 11, count)
        paths = _paths(starts, int(lengths.max()), 1.26 * thickness / _WIDE) * scale * (_WIDE, _HIGH)
        colours = _colours(starts, draw)
        for path, length, colour in zip(paths, lengths, colours, strict=True):
            points = [(float(x), float(y)) for x, y in path[:length]]
            brush.line(points, fill=tuple(colour), width=round(scale * thickness), joint="curve")
    small = canvas.resize((_WIDE, _HIGH), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small).transpose(2, 0, 1).copy()).float() / 255


def _paths(starts: Numbers, count: int, step: float) -> Numbers:
    """Points (N, T, 2) along the field from places (N, 2), all from 0 to 1."""
    points = [starts]
    for _ in range(count - 1):
        x, y = points[-1].T
        across, down = _direction(x, y)
        points.append(np.stack([x + step * across, y + step * down / _ASPECT], axis=1))
    return np.stack(points, axis=1)


def _direction(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """Which way a stroke runs: around the lights, else along waves; of length 1."""
    across, down = np.ones_like(x), 0.35 * np.cos(7 * x + 3 * y)
    for index, (cx, cy, radius) in enumerate(_LIGHTS):
        dx, dy = x - cx, (y - cy) * _ASPECT
        length = np.hypot(dx, dy) + 1e-6
        near = (6 if index % 2 else -6) * np.exp(-((length / (2.1 * radius)) ** 2))
        across, down = across - near * dy / length, down + near * dx / length
    earth = y > _horizon(x)
    across, down = np.where(earth, 0.5, across), np.where(earth, 0.9 * np.sin(9 * x) - 0.4, down)
    length = np.hypot(across, down) + 1e-9
    return across / length, down / length


def _horizon(x: Numbers) -> Numbers:
    return 0.78 + 0.05 * np.sin(5 * x) + 0.03 * np.sin(13 * x + 1)


def _colours(starts: Numbers, draw: np.random.Generator) -> NDArray[np.int64]:
    """Of strokes that begin in these places (N, 3): yellow at a light, bright in rings around it, dark below."""
    x, y = starts.T
    count = len(x)
    rings = [np.hypot(x - cx, (y - cy) * _ASPECT) / radius for cx, cy, radius in _LIGHTS]
    ring = np.min(rings, axis=0)
    bright = np.where(ring < 2.6, 0.5 + 0.5 * np.cos(4.2 * ring + 1.2), 0.35 + 0.35 * np.sin(6 * x + 9 * y))
    shades = _NIGHT[np.clip(bright * 4 + 0.9 * draw.normal(size=count), 0, 4).round().astype(int)]
    golden = (ring < 1.2) & (draw.random(count) < 0.35)
    shades = np.where(golden[:, None], _LIGHT[draw.integers(2, size=count)], shades)
    inside = ring < 0.45 + 0.1 * draw.random(count)
    shades = np.where(inside[:, None], _LIGHT[2 - np.clip(ring / 0.25, 0, 2).astype(int)], shades)
    earth = y > _horizon(x)
    shades = np.where(earth[:, None], _EARTH[draw.integers(len(_EARTH), size=count)], shades)
    return np.clip(shades + draw.integers(-14, 15, (count, 3)), 0, 255)
