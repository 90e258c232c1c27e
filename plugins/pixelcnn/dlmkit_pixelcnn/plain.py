"""The net of the first paper: masked convolutions, and the blind spot that they leave.

B batch, C colour channels, H height, W width, R features, L layers, K kernel size, O outputs, G groups: the parts of a
pixel that are predicted one after the other.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dlmkit_pixelcnn.model import MaskedConv2d, pixel_groups, require_sizes, spread, with_border

__all__ = ["PlainPixelCNN"]


class PlainPixelCNN(nn.Module):
    """The first paper's convolutions: one stack of masked K × K kernels, with a blind spot above on the right.

    What lies far to the right in the row above a pixel is beyond the masks, however many layers there are.

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016)

    Args:
        channels: Colour channels C.
        outputs: Numbers O that the net tells of each pixel, those of the first group first.
        groups: Parts G of a pixel, each of which is predicted from those before it: C, or 1.
        width: Features R, a multiple of G.
        layers: Layers L.
        kernel_size: Columns K that a convolution looks at; an odd number.
        first_kernel_size: The same in the first layer.

    Raises:
        ValueError: If a size is out of range.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        groups: int = 1,
        width: int = 48,
        layers: int = 6,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
    ) -> None:
        super().__init__()
        require_sizes(channels, outputs, groups, width, layers, kernel_size, first_kernel_size, width)
        pixels, features = pixel_groups(channels, groups), spread(width, groups)
        sizes = [first_kernel_size] + [kernel_size] * (layers - 1)
        self.layers = nn.ModuleList(
            MaskedConv2d(features if number else pixels, features, (k, k), (k // 2, k // 2), own=number > 0)
            for number, k in enumerate(sizes)
        )
        self.readout = MaskedConv2d(features, spread(outputs, groups))

    def forward(self, x: Tensor) -> Tensor:
        """What the net tells (B, O, H, W) of each pixel of pictures (B, C, H, W) from 0 to 1."""
        u = F.relu(self.layers[0](with_border(x)))
        for layer in self.layers[1:]:
            u = u + F.relu(layer(u))
        return self.readout(u)
