"""A U-Net that translates a picture, and a discriminator that looks at patches of it.

Dimensions: B pictures of a batch, C channels, S side, Z numbers of noise, P patches along one side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["PATCHES", "Normalisation", "PatchDiscriminator", "UNet", "norm_layer", "receptive_field", "start"]

Normalisation = Literal["instance", "batch", "none"]
PATCHES = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
"""Pixels along the side of a patch, to the number of convolutions that halve the picture."""

_DROPPED = 3  # levels of the decoder whose maps are dropped


class UNet(nn.Module):
    r"""Translates a picture: down to one pixel and up again, with a connection across at every size.

    .. math::
        e_i = \operatorname{norm}(\operatorname{conv}_{4,2}(\operatorname{lrelu}(e_{i-1}))), \qquad
        d_i = [\operatorname{drop}(\operatorname{norm}(\operatorname{conv}^\top_{4,2}(\operatorname{relu}(d_{i+1}))));
        e_i]

    The noise is dropout, in use and in training alike: a number of z that lies in the lower half of the normal
    distribution drops a value of the decoder's first three levels, and the others are doubled.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017), section 3.2 and
          appendix 6.1.1
        | U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger, Fischer & Brox, 2015)

    Args:
        in_channels: Channels of the given picture.
        out_channels: Channels of the made one.
        side: Pixels S along one side, a power of two from 16 to 256.
        width: Maps at half the size; with every further halving there are twice as many, up to eight times.
        normalisation: Of the maps: over a picture, over the batch, or none.

    Raises:
        ValueError: If the side is no such number.
    """

    def __init__(
        self, in_channels: int, out_channels: int, side: int, width: int = 64, normalisation: Normalisation = "instance"
    ) -> None:
        super().__init__()
        levels = round(math.log2(side)) if side > 0 else 0
        if side != 2**levels or not 16 <= side <= 256:
            raise ValueError(f"a side of {side} pixels is no power of two from 16 to 256")
        maps = [width * min(2**i, 8) for i in range(levels)]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, count in enumerate(maps):
            before = maps[level - 1] if level else in_channels
            plain = level in (0, levels - 1)  # a norm over the one pixel at the bottom would leave nothing
            self.down.append(_step(nn.Conv2d, before, count, level > 0, "none" if plain else normalisation))
        for level in reversed(range(levels)):
            before = maps[level] * (1 if level == levels - 1 else 2)
            after = maps[level - 1] if level else out_channels
            self.up.append(_step(nn.ConvTranspose2d, before, after, True, normalisation if level else "none"))
        shapes = [(maps[levels - 2 - i], 2 ** (i + 1)) for i in range(min(_DROPPED, levels - 1))]
        self.dropped = [(count, size, size) for count, size in shapes]
        self.noise_size = sum(math.prod(shape) for shape in self.dropped)
        start(self)

    def forward(self, picture: Tensor, z: Tensor) -> Tensor:
        """Pictures (B, C', S, S) of pictures (B, C, S, S), both from 0 to 1, and normal numbers z (B, noise_size)."""
        kept = z > 0
        x = 2 * picture - 1
        encoded = []
        for step in self.down:
            x = step(x)
            encoded.append(x)
        masks = torch.split(kept, [math.prod(shape) for shape in self.dropped], dim=1)
        for level, step in enumerate(self.up):
            x = step(x if level == 0 else torch.cat([x, encoded[-1 - level]], dim=1))
            if level < len(self.dropped):
                x = 2 * x * masks[level].view(-1, *self.dropped[level])
        return (torch.tanh(x) + 1) / 2


def _step(
    kind: type[nn.Conv2d | nn.ConvTranspose2d], before: int, after: int, active: bool, norm: Normalisation
) -> nn.Module:
    layers: list[nn.Module] = []
    if active:
        layers.append(nn.ReLU() if kind is nn.ConvTranspose2d else nn.LeakyReLU(0.2))
    # What a norm over the maps takes away need not be added before.
    layers.append(kind(before, after, 4, stride=2, padding=1, bias=norm == "none"))
    return nn.Sequential(*layers, *norm_layer(norm, after))


class PatchDiscriminator(nn.Module):
    """Tells real pictures from made ones patch by patch: each output sees one square of the picture.

    With instance normalisation the mean and the deviation of a map, over the whole picture, reach every output as well.

    References:
        | Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017), section 3.2.2 and
          appendix 6.1.2

    Args:
        channels: Channels of what it looks at: those of both pictures, where it is shown the given one too.
        patch: Pixels along the side of a patch: 1, 16, 34, 70, 142 or 286.
        width: Maps of its first layer; with every halving there are twice as many, up to eight times.
        normalisation: Of the maps: over a picture, over the batch, or none.
        side: Pixels S along one side of the pictures, where it is known.

    Raises:
        ValueError: If there is no such patch, or the pictures are too small for it.
    """

    def __init__(
        self,
        channels: int,
        patch: int = 70,
        width: int = 64,
        normalisation: Normalisation = "instance",
        side: int | None = None,
    ) -> None:
        super().__init__()
        if patch not in PATCHES:
            raise ValueError(f"a patch of {patch} pixels cannot be made; there are {', '.join(map(str, PATCHES))}")
        halvings = PATCHES[patch]
        least = 3 << halvings if halvings else 2  # the two last layers, of kernel 4, take a pixel each
        if side is not None and side < least:
            raise ValueError(f"a patch of {patch} pixels needs pictures of {least} or more along one side, not {side}")
        strides = [2] * halvings + [1]
        kernel, padding = (4, 1) if halvings else (1, 0)
        layers: list[nn.Module] = []
        before = channels
        for index, stride in enumerate(strides):
            after = width * min(2**index, 8)
            norm = normalisation if index else "none"
            layers.append(nn.Conv2d(before, after, kernel, stride, padding, bias=norm == "none"))
            layers += [*norm_layer(norm, after), nn.LeakyReLU(0.2)]
            before = after
        if not halvings:  # the pixel discriminator has one layer more
            layers += [nn.Conv2d(before, 2 * before, 1, bias=normalisation == "none")]
            layers += [*norm_layer(normalisation, 2 * before), nn.LeakyReLU(0.2)]
            before *= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, kernel, 1, padding))
        start(self)

    def forward(self, *pictures: Tensor) -> Tensor:
        """Logits (B, P, P), positive for what seems real, of pictures (B, C, S, S) that lie on each other."""
        logits: Tensor = self.layers(2 * torch.cat(pictures, dim=1) - 1)
        return logits[:, 0]


def receptive_field(net: nn.Module) -> int:
    """How many pixels along one side an output of stacked convolutions sees.

    Going back from one output, r pixels of a layer with kernel k and stride s come from (r - 1) s + k pixels before it.

    Args:
        net: Its convolutions are stacked in the order in which they are its children.
    """
    pixels = 1
    for layer in reversed([layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]):
        pixels = (pixels - 1) * layer.stride[0] + layer.kernel_size[0]
    return pixels


def norm_layer(normalisation: Normalisation, maps: int) -> Iterable[nn.Module]:
    """A normalisation with learnt scale and shift, or nothing.

    Args:
        normalisation: Over a picture, over the batch, or none.
        maps: How many there are.
    """
    if normalisation == "none":
        return []
    return [nn.InstanceNorm2d(maps, affine=True) if normalisation == "instance" else nn.BatchNorm2d(maps)]


def start(net: nn.Module) -> None:
    """Weights as in the paper: normal, with a deviation of 0.02.

    Args:
        net: Is changed.
    """
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm2d, nn.InstanceNorm2d)):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
