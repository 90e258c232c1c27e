"""Pictures of a translation: where the attention looked, and the shape of the problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from dlmkit.figures import sequence_shape_figure

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["attention_figure", "unaligned_figure"]


def attention_figure(attention: Tensor, source: Sequence[str], target: Sequence[str], title: str) -> Figure:
    """The attention as a matrix: a row for each word that is written, a column for each word that is read.

    Args:
        attention: Weights (T, S) from 0 to 1.
        source: S words, for the horizontal axis.
        target: T words, for the vertical axis.
        title: Above all.
    """
    rows, columns = attention.shape
    source, target = ([_label(word, 16) for word in side] for side in (source, target))
    figure = Figure(figsize=(max(5.0, 2.2 + 0.55 * columns), max(3.2, 1.8 + 0.45 * rows)), layout="constrained")
    ax = figure.subplots()
    image = ax.imshow(attention.float().cpu().numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
    size = 16 if max(rows, columns) <= 24 else 12
    ax.xaxis.tick_top()
    ax.set_xticks(
        range(columns), source, rotation=55, ha="left", rotation_mode="anchor", fontsize=size, parse_math=False
    )
    ax.set_yticks(range(rows), target, fontsize=size, parse_math=False)
    ax.set_xticks([x + 0.5 for x in range(columns - 1)], minor=True)
    ax.set_yticks([y + 0.5 for y in range(rows - 1)], minor=True)
    ax.grid(which="minor", color="0.85", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    figure.colorbar(image, ax=ax, ticks=[0, 0.5, 1], pad=0.02, label="attention")
    figure.suptitle(title, fontsize=18)
    return figure


def unaligned_figure(source: Sequence[str], target: Sequence[str], name: str) -> Figure:
    """The shape of the problem: all words go in before the first one comes out.

    Args:
        source: Words that go in, at the bottom.
        target: Words that come out, at the top, after the last has gone in.
        name: The shape's name, above all.
    """
    read, written = ([_label(word, 13) for word in side] for side in (source, target))
    inputs = [*read, *[""] * (len(written) - 1)]
    outputs = [*[""] * (len(read) - 1), *written]
    return sequence_shape_figure(name, inputs, outputs, encoder=len(read) - 1)


def _label(word: str, longest: int) -> str:
    """A word that is short enough, with a square for each character that the font does not have."""
    font = get_font(findfont(FontProperties()))
    shown = word if len(word) <= longest else f"{word[: longest - 1]}…"
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "□" for c in shown)
