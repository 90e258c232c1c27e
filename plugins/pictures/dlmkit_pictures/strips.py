"""Rows of pictures that belong together, with a caption beside each.

Dimensions: N pictures, C channels, S side.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from lightning.pytorch import LightningModule
from matplotlib.figure import Figure
from torch import Tensor

from dlmkit.data.examples import Examples
from dlmkit.data.module import Batch, Split
from dlmkit.figures import picture_grid

__all__ = ["first_of", "strips_figure"]


def strips_figure(rows: Mapping[str, Tensor], title: str, least: int = 64) -> Figure:
    """Rows of pictures under each other: what stands in one column belongs together.

    Args:
        rows: Caption to pictures (N, C, S, S) with C = 1 or 3, from 0 to 1; equally many in each row.
        title: Above all.
        least: Pixels that the width of a picture is enlarged to at least.
    """
    grids = [picture_grid(pictures, columns=len(pictures), least=least) for pictures in rows.values()]
    high, wide = grids[0].shape[:2]
    figure = Figure(figsize=((wide + 160) / 100, (high * len(grids) + 60) / 100), layout="constrained")
    ax = figure.subplots()
    ax.imshow(np.concatenate(grids), interpolation="nearest")
    ax.set_yticks([high * (i + 0.5) for i in range(len(grids))], list(rows), fontsize=11, parse_math=False)
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=12, parse_math=False)
    return figure


def first_of(task: LightningModule, batch: Batch, count: int) -> Batch:
    """The first pictures to show: those of a batch, or where it has too few of them, the first of its split.

    Args:
        task: In a run, or without a trainer.
        batch: The first one of the validation or of the test.
        count: How many are wanted.
    """
    trainer = task._trainer
    data = getattr(trainer, "datamodule", None)
    if len(next(iter(batch.values()))) >= count or trainer is None or not isinstance(data, Examples):
        return {name: tensor[:count] for name, tensor in batch.items()}
    split: Split = "test" if trainer.testing else "val"
    rows = torch.arange(min(count, data.size(split)))
    return {name: tensor.to(task.device) for name, tensor in data.take(split, rows).items()}
