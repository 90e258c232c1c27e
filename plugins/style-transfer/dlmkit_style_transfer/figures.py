"""Pictures side by side, each with a caption.

Dimensions: N pictures, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["side_by_side"]

_HIGH = 3.2  # inches


def side_by_side(pictures: Mapping[str, Tensor], title: str, columns: int = 4) -> Figure:
    """Pictures of any sizes in rows, each with its caption above it.

    Args:
        pictures: Caption to picture (3, H, W), from 0 to 1.
        title: Above all.
        columns: How many stand in a row at most.
    """
    shown = {caption: picture.detach().float().cpu().clamp(0, 1) for caption, picture in pictures.items()}
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    shares = [picture.shape[2] / picture.shape[1] for picture in shown.values()][:columns]
    figure = Figure(figsize=(_HIGH * sum(shares), (_HIGH + 0.4) * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, width_ratios=shares).flatten()
    for ax, (caption, picture) in zip(axes, shown.items(), strict=False):
        ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="lanczos", vmin=0, vmax=1)
        ax.set_title(caption, fontsize=11, parse_math=False)
    for ax in axes:
        ax.set_axis_off()
    figure.suptitle(title, fontsize=13)
    return figure
