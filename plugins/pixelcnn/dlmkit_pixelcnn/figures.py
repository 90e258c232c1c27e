"""What a PixelCNN shows: pictures in labelled columns, where it is surprised, and what it can see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from dlmkit.figures import picture_grid
from dlmkit_pixelcnn.model import GatedPixelCNN
from dlmkit_pixelcnn.plain import PlainPixelCNN

__all__ = ["grid_figure", "influence", "sight_figure", "surprise_figure"]

_SIDE, _PIXEL, _LAYERS = 11, (7, 5), 4
"""Of the picture that shows what a net can see: how large it is, which pixel is predicted, and by how many layers."""


def grid_figure(pictures: Tensor, heads: Sequence[str], title: str, sides: Sequence[str] = ()) -> Figure:
    """Pictures in columns that have heads.

    Args:
        pictures: (N, C, H, W) from 0 to 1, row by row.
        heads: One for each column.
        title: Above all.
        sides: One for each row, on its left.
    """
    columns = len(heads)
    pixels = picture_grid(pictures, columns)
    high, wide = pixels.shape[0] / (-(-len(pictures) // columns)), pixels.shape[1] / columns
    size = 0.75 * columns, 0.75 * columns * pixels.shape[0] / pixels.shape[1] + 0.6
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.subplots()
    ax.imshow(pixels, interpolation="nearest")
    ax.set_xticks([wide * (column + 0.5) for column in range(columns)], heads, fontsize=11)
    ax.set_yticks([high * (row + 0.5) for row in range(len(sides))], sides, fontsize=11)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=12)
    return figure


def surprise_figure(pictures: Tensor, bits: Tensor, nats: Tensor, most: float) -> Figure:
    """Real pictures, and below each what every pixel of it costs.

    Args:
        pictures: (N, C, H, W) from 0 to 1.
        bits: -log2 of each pixel's probability, (N, H, W).
        nats: -ln of each picture's probability, (N,).
        most: Bits of the brightest colour, and of all above.
    """
    count = len(pictures)
    figure = Figure(figsize=(1.5 * count, 3.6), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for column in range(count):
        pixels = pictures[column].permute(1, 2, 0).float().cpu().expand(-1, -1, 3)
        axes[0, column].imshow(pixels.numpy(), vmin=0, vmax=1, interpolation="nearest")
        axes[0, column].set_title(f"{nats[column]:.0f} nats", fontsize=11)
        shown = axes[1, column].imshow(bits[column].float().cpu().numpy(), cmap="magma", vmin=0, vmax=most)
    for ax in axes.flat:
        ax.set_axis_off()
    figure.colorbar(shown, ax=axes[1], label="bits", pad=0.01, extend="max")
    figure.suptitle("Where is it surprised? What each pixel costs, given those before it", fontsize=13)
    return figure


def influence(net: Callable[[Tensor], Tensor], pictures: Tensor, row: int, column: int) -> Tensor:
    """How much each pixel changes what is told of one, (C, H, W): the mean absolute gradient.

    Args:
        net: Makes outputs (B, O, H, W) of pictures.
        pictures: (B, C, H, W) from 0 to 1.
        row: Of the pixel that is predicted.
        column: Of it.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = pictures.clone().requires_grad_()
        told = net(x)[:, :, row, column]
        mixed = told * torch.linspace(1, 2, told.shape[1], device=told.device, dtype=told.dtype)  # nothing cancels out
        (gradient,) = torch.autograd.grad(mixed.sum(), x)
    return gradient.abs().mean(dim=0)


def sight_figure(net: Callable[[Tensor], Tensor], pictures: Tensor) -> Figure:
    """What a net can see: the plain one with its blind spot, the gated one without, and how far the trained one looks.

    Args:
        net: The trained one: makes outputs (B, O, H, W) of pictures.
        pictures: Real ones (B, C, H, W) from 0 to 1.
    """
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    plain, gated, trained = figure.subplots(1, 3)
    seen = {name: _seen(name) for name in ("plain", "gated")}
    _draw_sight(plain, seen["plain"], seen["gated"], "masked convolutions: a blind spot")
    _draw_sight(gated, seen["gated"], seen["gated"], "two stacks: no blind spot")
    side = pictures.shape[-1]
    row, column = int(0.7 * side), side // 2
    found = influence(net, pictures, row, column).sum(dim=0).float().cpu()
    shown = trained.imshow((found / found.max()).clamp(min=1e-4).log10().numpy(), cmap="viridis", vmin=-4, vmax=0)
    trained.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="#111111", edgecolor="white"))
    trained.set_title("this net: how much a pixel matters to ■", fontsize=12)
    figure.colorbar(shown, ax=trained, ticks=range(-4, 1), format="$10^{%d}$", pad=0.02)
    for ax in (plain, gated, trained):
        ax.set(xticks=[], yticks=[])
    title = f"What can the pixel ■ see? On the left and in the middle: after {_LAYERS} layers of 3 × 3"
    figure.suptitle(title, fontsize=13)
    return figure


def _seen(name: str) -> Tensor:
    """Which pixels (H, W), bool, an untrained net of some layers sees from one."""
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        torch.manual_seed(0)
        net = (PlainPixelCNN if name == "plain" else GatedPixelCNN)(1, 1, 1, 4, _LAYERS, 3, 3)
        return influence(net, torch.rand(16, 1, _SIDE, _SIDE), *_PIXEL)[0] > 0


def _draw_sight(ax: Any, seen: Tensor, within: Tensor, title: str) -> None:
    """Seen pixels, those that could be, the pixel itself, and all others."""
    kinds = torch.zeros(seen.shape)
    kinds[within] = 1
    kinds[seen] = 2
    kinds[_PIXEL] = 3
    colours = ListedColormap(["#eeeeee", "#e4572e", "#4f8fc0", "#111111"])
    ax.imshow(kinds.numpy(), cmap=colours, norm=BoundaryNorm(range(5), 4), interpolation="nearest")
    for line in range(_SIDE + 1):
        ax.axhline(line - 0.5, color="white", linewidth=1)
        ax.axvline(line - 0.5, color="white", linewidth=1)
    missed = int((within & ~seen).sum())
    ax.set_title(title, fontsize=12)
    ax.set_xlabel(f"{int(seen.sum())} seen" + (f", {missed} missed" if missed else ""), fontsize=11)
