"""The figure of a comparison: the same curve of several runs over steps, over seconds, and their own tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlmkit.errors import UserError

__all__ = ["Panel", "draw"]

# Okabe & Ito's colours, which people with any colour vision tell apart; then the same with dashes.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C564B")
_STROKES = ("-", "--", ":", "-.")
_MOST_POINTS = 200

Curve = list[tuple[float, float]]


@dataclass
class Panel:
    """One pair of axes.

    Args:
        title: Above it; may be empty.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        curves: Run to its curve; names in place of numbers in x stand side by side, with a point for each.
        noisy: Whether to average over neighbours where there are many points.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Sequence[tuple[Any, float]]]
    noisy: bool = False


def draw(panels: list[Panel], runs: list[str], path: Path) -> None:
    """Draw the panels side by side, with one legend below.

    Args:
        panels: What to draw.
        runs: Every run's name, in the order of colours.
        path: The file; its ending says of which kind.

    Raises:
        UserError: If it cannot be written.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = len(panels) if len(panels) <= 3 else 2 if len(panels) == 4 else 3
    rows = math.ceil(len(panels) / columns)
    width = max(7.5, 5.4 * columns)
    legend_columns = max(1, min(len(runs), int(width * 9 / (max(map(len, runs)) + 6))))
    below = 0.3 * math.ceil(len(runs) / legend_columns)
    figure = Figure(figsize=(width, 4.2 * rows + below), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    drawn: dict[str, Any] = {}
    for ax, panel in zip(axes, panels, strict=False):
        drawn = _panel(ax, panel, runs) | drawn  # the first panel has a line for each
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    shown = [run for run in runs if run in drawn]
    lines = [drawn[run] for run in shown]
    figure.legend(lines, shown, loc="outside lower center", ncols=legend_columns, frameon=False, fontsize=13)
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error).partition(" (")[0]
        remedy = "give another file, such as --out compare.png"
        raise UserError(f"cannot be written: {why}", remedy, str(path)) from None


def _panel(ax: Any, panel: Panel, runs: list[str]) -> dict[str, Any]:
    """Draw one panel; the line of each run."""
    lines = {}
    for number, run in enumerate(runs):
        curve = panel.curves.get(run)
        if curve:
            style = {"color": _COLOURS[number % 8], "linestyle": _STROKES[number // 8 % 4], "linewidth": 2}
            marker = "o" if len(curve) <= 12 else ""
            smooth = _averaged(list(curve)) if panel.noisy else curve
            if isinstance(curve[0][0], str):
                style["linestyle"] = "none"
            (lines[run],) = ax.plot(*zip(*smooth, strict=True), marker=marker, markersize=5, **style)
    if _spans_decades([y for curve in panel.curves.values() for _, y in curve]):
        ax.set_yscale("log", nonpositive="mask")
    if panel.x == "steps":  # there are no halves
        ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel(panel.x, fontsize=14)
    ax.set_ylabel(panel.y, fontsize=14)
    ax.set_title(panel.title, fontsize=15)
    ax.tick_params(labelsize=12)
    ax.grid(color="0.9")
    ax.spines[["top", "right"]].set_visible(False)
    return lines


def _spans_decades(values: list[float]) -> bool:
    """Whether only a logarithmic axis shows them all."""
    finite = [value for value in values if math.isfinite(value)]
    positive = [value for value in finite if value > 0]
    return bool(positive) and min(finite) >= 0 and max(positive) / min(positive) > 100


def _averaged(curve: Curve) -> Curve:
    """Means over neighbours, so that no more points are left than one can see."""
    size = math.ceil(len(curve) / _MOST_POINTS)
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
