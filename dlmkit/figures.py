"""Pictures that several plugins draw alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["picture_grid", "sequence_shape_figure", "units_figure", "visible"]


def units_figure(
    panels: Mapping[str, tuple[Tensor, float, float]], order_by: Tensor, tokens: Sequence[str], title: str
) -> Figure:
    """A heat map for each quantity of a recurrent layer along a text, its characters on the axis.

    The units shown are those whose ``order_by`` changes most, the slow ones on top, the quick ones below.

    Args:
        panels: Name to values (T, H) and the ends of their colour scale; a scale from 0 is sequential, else diverging.
        order_by: (T, H), by which units are chosen and sorted: the layer's memory.
        tokens: T labels of the horizontal axis.
        title: Above all.
    """
    liveliest = order_by.std(dim=0).topk(min(16, order_by.shape[1])).indices
    units = liveliest[order_by.diff(dim=0).abs().mean(dim=0)[liveliest].argsort()]
    figure = Figure(figsize=(14, 1 + 2 * len(panels)), layout="constrained")
    rows = figure.subplots(len(panels), 1, sharey=True, squeeze=False)[:, 0]
    for ax, (name, (values, low, high)) in zip(rows, panels.items(), strict=True):
        _heat_map(figure, ax, values[:, units].T.float().cpu().numpy(), low, high)
        ax.set_ylabel(name, fontsize=14)
        ax.set_xticks(range(len(tokens)), tokens, fontsize=13, family="monospace")
    figure.suptitle(title, fontsize=18)
    rows[0].set_title(f"a row is one of {len(units)} units; slow ones on top, quick ones below")
    return figure


def _heat_map(figure: Figure, ax: Any, picture: Any, low: float, high: float) -> None:
    colours = "viridis" if low == 0 else "RdBu_r"
    image = ax.imshow(picture, aspect="auto", cmap=colours, norm=Normalize(low, high), interpolation="nearest")
    ax.set_yticks([])
    ax.tick_params(axis="x", length=0)
    figure.colorbar(image, ax=ax, ticks=[low, (low + high) / 2, high], pad=0.01)


def visible(token: str) -> str:
    """A token as it can stand on an axis."""
    return {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(token, token if token.isprintable() else "·")


def sequence_shape_figure(name: str, inputs: Sequence[str], outputs: Sequence[str], encoder: int = 0) -> Figure:
    """One of the five shapes of a sequence problem, drawn as a net unrolled over time.

    Args:
        name: The shape, such as ``many to one``.
        inputs: What goes in at each step, from the bottom; an empty word where nothing does.
        outputs: What is asked for at each step, at the top; an empty word where nothing is.
        encoder: How many steps at the beginning belong to an encoder, which reads from both ends.
    """
    steps = len(inputs)
    figure = Figure(figsize=(max(5.0, 1.2 * steps), 3.6), layout="constrained")
    ax = figure.subplots()
    arrow = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.5}
    for t, (below, above) in enumerate(zip(inputs, outputs, strict=True)):
        _box(ax, t, 1, "", "#f6d186" if encoder and t >= encoder else "#8fd19e")
        if t:
            style = "<|-|>" if t <= encoder else "-|>"
            ax.annotate("", (t - 0.36, 1), (t - 0.64, 1), arrowprops=arrow | {"arrowstyle": style})
        if below:
            _box(ax, t, 0, below, "#f4a6a6")
            ax.annotate("", (t, 0.72), (t, 0.28), arrowprops=arrow)
        if above:
            _box(ax, t, 2, above, "#9ec5f4")
            ax.annotate("", (t, 1.72), (t, 1.28), arrowprops=arrow)
    ax.set(xlim=(-0.6, steps - 0.4), ylim=(-0.45, 2.45))
    ax.set_axis_off()
    ax.set_title(name, fontsize=18)
    return figure


def _box(ax: Any, x: float, y: float, word: str, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    ax.add_patch(FancyBboxPatch((x - 0.32, y - 0.24), 0.64, 0.48, boxstyle="round,pad=0.04", fc=colour, ec="0.3"))
    size = min(14.0, 90 / max(1, len(word)))
    ax.text(x, y, word, ha="center", va="center", fontsize=size, parse_math=False)


def picture_grid(pictures: Tensor, columns: int = 8, least: int = 48) -> NDArray[np.uint8]:
    """Pictures side by side in rows, on white; small ones are enlarged by a whole factor, pixel by pixel.

    Args:
        pictures: (N, C, H, W) with C = 1 or 3, from 0 to 1; all in the same range of colours.
        columns: How many stand in a row.
        least: Pixels that the width of a picture is enlarged to at least.

    Returns:
        (rows, columns, 3), uint8.
    """
    pixels = (pictures.detach().float().cpu().clamp(0, 1) * 255).round().byte().numpy().transpose(0, 2, 3, 1)
    factor = -(-least // pixels.shape[2])
    pixels = np.broadcast_to(pixels, (*pixels.shape[:3], 3)).repeat(factor, axis=1).repeat(factor, axis=2)
    gap = max(2, pixels.shape[2] // 16)
    pixels = np.pad(pixels, ((0, -len(pixels) % columns), (0, gap), (0, gap), (0, 0)), constant_values=255)
    pixels[len(pictures) :] = 255
    _, high, wide, _ = pixels.shape
    rows = pixels.reshape(-1, columns, high, wide, 3).swapaxes(1, 2).reshape(-1, columns * wide, 3)
    return np.pad(rows, ((gap, 0), (gap, 0), (0, 0)), constant_values=255)
