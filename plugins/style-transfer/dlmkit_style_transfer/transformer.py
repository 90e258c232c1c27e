"""A net that paints a picture in one style, in one pass.

Dimensions: B pictures, C channels, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LEAST", "Residual", "TransformerNet"]

LEAST = 16
"""Pixels along a side that a picture needs at least, so that it can be mirrored at its edges."""


_TILE = 128  # pixels along the side of the square of noise


def _layers(before: int, after: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    # What the normalisation takes away need not be added before.
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)
    return [convolution, nn.InstanceNorm2d(after, affine=True)]


class Residual(nn.Module):
    r"""Two convolutions, and a way past them.

    .. math::
        y = x + \operatorname{norm}(W_2 * \operatorname{relu}(\operatorname{norm}(W_1 * x)))

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016), supplement
        | Deep Residual Learning for Image Recognition (He et al., 2016)

    Args:
        width: Maps C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_layers(width, width, 3), nn.ReLU(), *_layers(width, width, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) of maps of the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class TransformerNet(nn.Module):
    r"""Paints pictures of any size: down to a quarter, residual blocks, and up again.

    Each map of each picture is normalised by itself, which takes the picture's contrast away. Going up, maps are
    enlarged and then convolved, which leaves no raster as transposed convolutions do. Edges are mirrored. A fourth
    colour of the input is noise, always the same square of it over and over: where a picture is plain, as a sky is,
    strokes have something to begin with.

    References:
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson, Alahi & Fei-Fei, 2016)
        | Texture Networks: Feed-forward Synthesis of Textures and Stylized Images (Ulyanov et al., 2016), for the noise
        | Instance Normalization: The Missing Ingredient for Fast Stylization (Ulyanov, Vedaldi & Lempitsky, 2016)
        | Deconvolution and Checkerboard Artifacts (Odena, Dumoulin & Olah, 2016)

    Args:
        width: Maps at full size (32 in the paper); at half size twice, at a quarter four times as many.
        blocks: Residual blocks (5 in the paper).
    """

    def __init__(self, width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        w = width
        self.register_buffer("noise", torch.randn(1, 1, _TILE, _TILE) / 10)
        self.down = nn.Sequential(
            *_layers(4, w, 9), nn.ReLU(), *_layers(w, 2 * w, 3, 2), nn.ReLU(), *_layers(2 * w, 4 * w, 3, 2), nn.ReLU()
        )
        self.blocks = nn.Sequential(*(Residual(4 * w) for _ in range(blocks)))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            *_layers(4 * w, 2 * w, 3),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            *_layers(2 * w, w, 3),
            nn.ReLU(),
            nn.Conv2d(w, 3, 9, padding=4, padding_mode="reflect"),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    noise: Tensor

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) of pictures of the same size, both from 0 to 1.

        Raises:
            ValueError: If a side is shorter than `LEAST` pixels.
        """
        high, wide = pictures.shape[2:]
        if min(high, wide) < LEAST:
            raise ValueError(f"a picture of {wide} × {high} pixels is too small; {LEAST} × {LEAST} are needed")
        noise = self.noise.tile(1, 1, -(-high // _TILE), -(-wide // _TILE))[..., :high, :wide]
        x = torch.cat([2 * pictures - 1, noise.expand(len(pictures), -1, -1, -1)], dim=1)
        x = F.pad(x, (0, -wide % 4, 0, -high % 4), mode="reflect")  # to multiples of 4
        x = x.contiguous(memory_format=torch.channels_last)  # a quarter less time on a CPU
        x = self.up(self.blocks(self.down(x)))[..., :high, :wide]
        return torch.sigmoid(x)
