"""Fixed nets whose activations say what a picture shows, and how it is painted.

Dimensions: B pictures, C channels, H height, W width, K kernel.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Features", "FrozenLayer", "SmoothPool", "fold", "random_convnet", "tiny_darknet", "vgg19"]

_DARKNET = (16, 32, 16, 128, 16, 128, 32, 256, 32, 256, 64, 512, 64, 512, 128)  # maps of its layers
_DARKNET_POOLED = (2, 3, 7, 11)  # layers in front of which the picture is halved
_VGG = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # maps and layers of its blocks


class FrozenLayer(nn.Module):
    r"""A convolution and what follows it, of which nothing is trained.

    .. math::
        y = \max(z, a z), \qquad z = W * \operatorname{pool}(x) + b

    Weights are buffers: there is nothing that an optimiser could change, and no gradient is computed for them.

    Args:
        weight: (C', C, K, K), K odd; the picture keeps its size.
        bias: (C',).
        slope: Of the activation below zero, a.
        pool: What halves the picture before.
        reflect: Whether the picture is mirrored at its edges; else there are zeros beyond them.
        kept: Whether the weights are part of the state that is saved; else whoever loads it has to have them.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        slope: float = 0.0,
        pool: nn.Module | None = None,
        reflect: bool = False,
        kept: bool = False,
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous(), persistent=kept)
        self.register_buffer("bias", bias.contiguous(), persistent=kept)
        self.slope, self.reflect, self.pool = slope, reflect, pool or nn.Identity()

    weight: Tensor
    bias: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C', H, W), or half as high and wide, of maps (B, C, H, W)."""
        x = self.pool(x)
        edge = self.weight.shape[-1] // 2
        if self.reflect and edge:
            x = F.conv2d(F.pad(x, (edge,) * 4, mode="reflect"), self.weight, self.bias)
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=edge)
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)


class SmoothPool(nn.Module):
    """Halves maps after smoothing them with binomial weights, so that no raster of squares is left."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H / 2, W / 2) of maps (B, C, H, W)."""
        weights = x.new_tensor([1.0, 3.0, 3.0, 1.0]) / 8
        kernel = torch.outer(weights, weights).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), kernel, stride=2, groups=x.shape[1])


class Features(nn.Module):
    """A fixed convnet that gives the activations of named layers, and goes no deeper than the last of these.

    Args:
        layers: By name, from the picture on.
        mean: What is taken from each colour, of pictures from 0 to 1.
        scale: What the difference is multiplied with.
        told: What these features are, in words.
    """

    def __init__(
        self, layers: Mapping[str, FrozenLayer], mean: Sequence[float], scale: Sequence[float], told: str
    ) -> None:
        super().__init__()
        self.names = tuple(layers)
        self.layers = nn.ModuleList(layers.values())
        self.told = told
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(scale)[:, None, None], persistent=False)

    mean: Tensor
    scale: Tensor

    def forward(self, picture: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """The activations (B, C, H, W) of the wanted layers, of pictures (B, 3, H, W) from 0 to 1.

        Args:
            picture: In colour.
            wanted: Names of layers; what lies behind the last of them is not computed.

        Raises:
            ValueError: If there is no such layer.
        """
        if unknown := [name for name in wanted if name not in self.names]:
            raise ValueError(f"there is no layer {unknown[0]} but {', '.join(self.names)}")
        found: dict[str, Tensor] = {}
        # Channels last: a fifth less time on a CPU, and the layout that mixed precision wants on a GPU.
        x = ((picture - self.mean) * self.scale).contiguous(memory_format=torch.channels_last)
        for name, layer in zip(self.names, self.layers, strict=True):
            if len(found) == len(set(wanted)):
                break
            x = layer(x)
            if name in wanted:
                found[name] = x
        return found


def random_convnet(widths: Sequence[int] = (32, 48, 64, 96, 128)) -> Features:
    r"""A convnet with random weights, one layer for each size of the picture.

    .. math::
        W \sim \mathcal{N}\left(0, \tfrac{2}{9 C}\right)

    The weights are drawn from torch's generator. They know nothing of what pictures show. That suffices for colours and
    textures: the Gram matrices of random filters tell these well.

    References:
        | What Does It Take to Generate Natural Textures? (Ustyuzhaninov, Brendel, Gatys & Bethge, 2017; in 2016 as
          Texture Synthesis Using Shallow Convolutional Networks with Random Filters)
        | A Powerful Generative Model Using Random Weights for the Deep Image Representation (He, Wang & Hopcroft, 2016)

    Args:
        widths: Maps of each layer; the picture is halved between two of them.
    """
    layers: dict[str, FrozenLayer] = {}
    before = 3
    for number, width in enumerate(widths, 1):
        weight = torch.randn(width, before, 3, 3) * math.sqrt(2 / (9 * before))
        pool = SmoothPool() if number > 1 else None
        layers[f"random{number}"] = FrozenLayer(weight, torch.zeros(width), pool=pool, reflect=True, kept=True)
        before = width
    told = f"a convnet of {len(layers)} layers with random weights, which was trained on nothing"
    return Features(layers, (0.45,) * 3, (4.0,) * 3, told)


def fold(kernel: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, eps: float) -> list[Tensor]:
    r"""A convolution and the batch normalisation behind it as one convolution.

    .. math::
        \gamma \frac{W * x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = W' * x + b', \qquad
        W' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} W, \quad
        b' = \beta - \frac{\gamma \mu}{\sqrt{\sigma^2 + \epsilon}}

    Args:
        kernel: W (C', C, K, K).
        scale: γ (C',).
        shift: β (C',).
        mean: μ (C',), as it was followed in training.
        variance: σ² (C',), likewise.
        eps: ε.

    Returns:
        Weight W' (C', C, K, K) and bias b' (C',).
    """
    factor = scale / torch.sqrt(variance + eps)
    return [kernel * factor[:, None, None, None], shift - mean * factor]


def tiny_darknet(arrays: Mapping[str, Tensor], average: bool = False) -> Features:
    """Tiny Darknet, a convnet of a million weights that tells the thousand classes of ImageNet.

    References:
        | Darknet: Open Source Neural Networks in C (Redmon, 2013-2016), for Tiny Darknet
        | YOLO9000: Better, Faster, Stronger (Redmon & Farhadi, 2017), for the form of its layers

    Args:
        arrays: By Keras's names: ``conv2d_1/kernel`` (K, K, C, C'), ``batch_normalization_1/gamma`` and so on.
        average: Whether means are taken instead of maxima where the picture is halved.

    Raises:
        ValueError: If an array is missing or has another shape; it says which.
    """
    layers: dict[str, FrozenLayer] = {}
    before = 3
    for number, width in enumerate(_DARKNET, 1):
        size = 3 if number in (1, 2) or (number % 2 == 0 and number < 15) else 1
        kernel = _take(arrays, f"conv2d_{number}/kernel", (size, size, before, width)).permute(3, 2, 0, 1)
        norm = ("gamma", "beta", "moving_mean", "moving_variance")
        scale, shift, mean, variance = (_take(arrays, f"batch_normalization_{number}/{p}", (width,)) for p in norm)
        weight, bias = fold(kernel, scale, shift, mean, variance, eps=1e-3)
        pool = (nn.AvgPool2d if average else nn.MaxPool2d)(2, ceil_mode=True) if number in _DARKNET_POOLED else None
        layers[f"conv{number}"] = FrozenLayer(weight, bias, slope=0.1, pool=pool)
        before = width
    return Features(layers, (0.0,) * 3, (1.0,) * 3, "Tiny Darknet, trained on ImageNet")


def vgg19(state: Mapping[str, Tensor], average: bool = False) -> Features:
    """The convolutions of VGG-19, whose layers are called as in the papers: relu1_1 to relu5_4.

    References:
        | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan & Zisserman, 2015), net E

    Args:
        state: By torchvision's names: ``features.0.weight`` (64, 3, 3, 3), ``features.0.bias`` and so on.
        average: Whether means are taken instead of maxima where the picture is halved, as Gatys et al. do.

    Raises:
        ValueError: If a tensor is missing or has another shape; it says which.
    """
    layers: dict[str, FrozenLayer] = {}
    before, place = 3, 0
    for block, (width, count) in enumerate(_VGG, 1):
        for number in range(1, count + 1):
            weight = _take(state, f"features.{place}.weight", (width, before, 3, 3))
            bias = _take(state, f"features.{place}.bias", (width,))
            pool = (nn.AvgPool2d if average else nn.MaxPool2d)(2) if number == 1 and block > 1 else None
            layers[f"relu{block}_{number}"] = FrozenLayer(weight, bias, pool=pool)
            before, place = width, place + 2
        place += 1  # where torchvision has its pooling
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Features(layers, mean, [1 / d for d in deviation], "VGG-19, trained on ImageNet")


def _take(arrays: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in arrays:
        raise ValueError(f"it has no {name}")
    found = arrays[name]
    if tuple(found.shape) != shape:
        raise ValueError(f"its {name} is {tuple(found.shape)}, not {shape}")
    if not torch.isfinite(found).all():
        raise ValueError(f"its {name} holds numbers that are not finite")
    return found.float()
