"""A generator and a discriminator of convolutions, for square pictures of 8 pixels or more.

Dimensions: B pictures of a batch, Z numbers that a picture is made of, C channels, S side.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

__all__ = ["Discriminator", "Generator", "Normalisation", "stages"]

Normalisation = Literal["none", "batch", "spectral"]


def stages(side: int) -> tuple[int, int]:
    """The side that a generator begins with, from 4 to 7 pixels, and how often it is doubled.

    Raises:
        ValueError: If the side is not such a number, doubled once or more often.
    """
    count = 0
    start = side
    while start > 7 and start % 2 == 0:
        start, count = start // 2, count + 1
    if not (4 <= start <= 7 and count):
        raise ValueError(f"a side of {side} pixels is not 4, 5, 6 or 7 doubled, such as 8, 28, 32 or 64")
    return start, count


class Generator(nn.Module):
    """Makes a picture of a random vector: transposed convolutions, of which all but the first double the side.

    Unlike in the paper the last layer is a 3 × 3 convolution at full size, so that pictures of 8 pixels have one too,
    and its sigmoid gives pixels from 0 to 1.

    References:
        | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford, Metz &
          Chintala, 2016)

    Args:
        latent_size: Numbers Z in a random vector.
        channels: Channels C of a picture.
        side: Pixels S along one side.
        width: Maps at full size; with every halving of the side there are twice as many.

    Raises:
        ValueError: If the side cannot be reached by doubling.
    """

    def __init__(self, latent_size: int, channels: int, side: int, width: int) -> None:
        super().__init__()
        start, count = stages(side)
        maps = width << count
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent_size, maps, start, bias=False)]
        for _ in range(count):
            doubled = nn.ConvTranspose2d(maps, maps // 2, 4, stride=2, padding=1, bias=False)
            layers += [nn.BatchNorm2d(maps), nn.ReLU(), doubled]
            maps //= 2
        layers += [nn.BatchNorm2d(maps), nn.ReLU(), nn.Conv2d(maps, channels, 3, padding=1)]
        self.layers = nn.Sequential(*layers)
        _start(self)

    def forward(self, z: Tensor) -> Tensor:
        """Pictures (B, C, S, S), from 0 to 1, of vectors (B, Z)."""
        return torch.sigmoid(self.layers(z[:, :, None, None]))


class Discriminator(nn.Module):
    """Tells real pictures from made ones: convolutions, of which all between the first and the last halve the side.

    Unlike in the paper of 2016 the first layer is a 3 × 3 convolution at full size, and the weights are normalised
    spectrally unless it is asked for something else.

    References:
        | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford, Metz &
          Chintala, 2016)
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018)

    Args:
        channels: Channels C of a picture.
        side: Pixels S along one side.
        width: Maps at full size; with every halving of the side there are twice as many.
        normalisation: ``batch`` normalises the maps of the layers in between over the batch, as in the paper of 2016,
            ``spectral`` the weights of every layer, which leaves the pictures of a batch independent of each other.
        dropout: Probability in [0, 1] that a map is dropped, which keeps it from learning a small set by heart.

    Raises:
        ValueError: If the side cannot be halved down to 4 to 7.
    """

    def __init__(
        self, channels: int, side: int, width: int, normalisation: Normalisation = "spectral", dropout: float = 0.0
    ) -> None:
        super().__init__()
        start, count = stages(side)
        norm = spectral_norm if normalisation == "spectral" else nn.Identity()
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
        maps = width
        for _ in range(count):
            layers.append(nn.Conv2d(maps, 2 * maps, 4, stride=2, padding=1))
            maps *= 2
            layers += [nn.BatchNorm2d(maps)] if normalisation == "batch" else []
            layers += [nn.LeakyReLU(0.2), nn.Dropout2d(dropout)]
        layers.append(nn.Conv2d(maps, 1, start))
        self.layers = nn.Sequential(*layers)
        _start(self)
        for index, layer in enumerate(self.layers):
            if isinstance(layer, nn.Conv2d):
                self.layers[index] = norm(layer)

    def forward(self, picture: Tensor) -> Tensor:
        """Logits (B,), positive for what seems real, of pictures (B, C, S, S), from 0 to 1."""
        return self.layers(2 * picture - 1).flatten()


def _start(net: nn.Module) -> None:
    """Weights as in the paper: normal, with a deviation of 0.02."""
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
