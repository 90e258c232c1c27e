"""A residual network that translates a picture, and a buffer of what was made before.

Dimensions: B pictures of a batch, K pictures in the buffer, C channels, S side.
"""

from __future__ import annotations

import torch
from dlmkit_pix2pix.model import PatchDiscriminator, start
from torch import Tensor, nn

__all__ = ["PatchDiscriminator", "ReplayBuffer", "ResNetGenerator"]


class ResNetGenerator(nn.Module):
    r"""Translates a picture: a few halvings, residual blocks at the small size, and as many doublings.

    .. math::
        x \leftarrow x + \operatorname{norm}(\operatorname{conv}_3(\operatorname{relu}(\operatorname{norm}(
        \operatorname{conv}_3(x)))))

    References:
        | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017), appendix
          7.2
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson, Alahi & Fei-Fei, 2016)

    Args:
        in_channels: Channels of the given picture.
        out_channels: Channels of the made one.
        side: Pixels S along one side, a multiple of what the halvings divide by, and at least 8.
        width: Maps at full size; with every halving there are twice as many.
        halvings: How often the picture is halved; 2 in the paper.
        blocks: Residual blocks; 6 in the paper for pictures of 128 pixels, 9 from 256 on.

    Raises:
        ValueError: If the side is too small, or cannot be halved so often.
    """

    def __init__(
        self, in_channels: int, out_channels: int, side: int, width: int = 64, halvings: int = 2, blocks: int = 9
    ) -> None:
        super().__init__()
        if side % 2**halvings or side < max(8, 2 ** (halvings + 1)):
            least = f"{max(8, 2 ** (halvings + 1))} pixels or more, a multiple of {2**halvings}"
            raise ValueError(f"a side of {side} pixels does not suit halvings {halvings}, which need {least}")
        maps = width
        layers = _convolution(in_channels, maps, 7)
        for _ in range(halvings):
            layers += [nn.Conv2d(maps, 2 * maps, 3, stride=2, padding=1, bias=False), *_normed(2 * maps)]
            maps *= 2
        layers += [ResidualBlock(maps) for _ in range(blocks)]
        for _ in range(halvings):
            doubled = nn.ConvTranspose2d(maps, maps // 2, 3, stride=2, padding=1, output_padding=1, bias=False)
            layers += [doubled, *_normed(maps // 2)]
            maps //= 2
        self.layers = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(maps, out_channels, 7))
        start(self)

    def forward(self, picture: Tensor) -> Tensor:
        """Pictures (B, C', S, S) of pictures (B, C, S, S), both from 0 to 1."""
        return (torch.tanh(self.layers(2 * picture - 1)) + 1) / 2


class ResidualBlock(nn.Module):
    """Adds to its input what two convolutions make of it.

    Args:
        maps: Of the input and of the output.
    """

    def __init__(self, maps: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_convolution(maps, maps, 3), *_convolution(maps, maps, 3)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Of the same shape."""
        out: Tensor = x + self.layers(x)
        return out


def _convolution(before: int, after: int, kernel: int) -> list[nn.Module]:
    """A convolution that mirrors the picture at its edge, normalisation and rectifier."""
    return [nn.ReflectionPad2d(kernel // 2), nn.Conv2d(before, after, kernel, bias=False), *_normed(after)]


def _normed(maps: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(maps, affine=True), nn.ReLU()]


class ReplayBuffer(nn.Module):
    """Keeps pictures that were made before, and hands out one of them for every second new one.

    As long as it is not full, a new picture is kept and handed out itself. Later a new picture is handed out half of
    the time, and otherwise takes the place of an old one, which is handed out. So a discriminator also sees what the
    generator made a while ago, and the two are less likely to run in circles.

    References:
        | Learning from Simulated and Unsupervised Images through Adversarial Training (Shrivastava et al., 2017)
        | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017), section 4

    Args:
        size: Pictures K that it holds, 1 or more; 50 in the paper of Zhu et al.
        channels: Channels C of a picture.
        side: Pixels S along one side.
    """

    def __init__(self, size: int, channels: int, side: int) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(size, channels, side, side))
        self.register_buffer("held", torch.zeros((), dtype=torch.int64))

    pictures: Tensor
    held: Tensor

    def forward(self, made: Tensor, draws: Tensor) -> Tensor:
        """Exchange pictures.

        Args:
            made: New ones (B, C, S, S).
            draws: Numbers from 0 to 1 (B, 2): whether an old one is handed out, and which.

        Returns:
            As many, each new or old (B, C, S, S).
        """
        size, held = len(self.pictures), int(self.held)
        given = made.clone()
        for index, (whether, which) in enumerate(draws.tolist()):
            if held < size:
                self.pictures[held] = made[index]
                held += 1
            elif whether < 0.5:
                place = min(int(which * size), size - 1)
                given[index] = self.pictures[place]
                self.pictures[place] = made[index]
        self.held.fill_(held)
        return given
