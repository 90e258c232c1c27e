"""Pictures of a translation: where the attention looked, and the shape of the problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import FancyBboxPatch

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
    steps, first = len(source) + len(target) - 1, len(source) - 1
    figure = Figure(figsize=(max(5.0, 1.2 * steps), 3.6), layout="constrained")
    ax = figure.subplots()
    arrow = {"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0, "linewidth": 1.5}
    for step in range(steps):
        _box(ax, step, 1, "", "#8fd19e" if step < first else "#f6d186")
        if step:
            style = "<|-|>" if step <= first else "-|>"  # the encoder reads from both ends
            ax.annotate("", (step - 0.36, 1), (step - 0.64, 1), arrowprops=arrow | {"arrowstyle": style})
        if step <= first:
            _box(ax, step, 0, source[step], "#f4a6a6")
            ax.annotate("", (step, 0.72), (step, 0.28), arrowprops=arrow)
        if step >= first:
            _box(ax, step, 2, target[step - first], "#9ec5f4")
            ax.annotate("", (step, 1.72), (step, 1.28), arrowprops=arrow)
    ax.set(xlim=(-0.6, steps - 0.4), ylim=(-0.45, 2.45))
    ax.set_axis_off()
    ax.set_title(name, fontsize=18)
    return figure


def _box(ax: Any, x: float, y: float, word: str, colour: str) -> None:
    ax.add_patch(FancyBboxPatch((x - 0.32, y - 0.24), 0.64, 0.48, boxstyle="round,pad=0.04", fc=colour, ec="0.3"))
    word = _label(word, 13)
    size = min(14.0, 90 / max(1, len(word)))
    ax.text(x, y, word, ha="center", va="center", fontsize=size, parse_math=False)


def _label(word: str, longest: int) -> str:
    """A word that is short enough, with a square for each character that the font does not have."""
    font = get_font(findfont(FontProperties()))
    shown = word if len(word) <= longest else f"{word[: longest - 1]}…"
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "□" for c in shown)
