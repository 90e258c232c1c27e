"""Every random number of a training step follows from (seed, epoch, batch, process)."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from dlmkit.seeds import run_seed

__all__ = ["Seeding"]


class Seeding(Callback):
    """Seeds torch, NumPy and Python before each training batch.

    A run that is resumed in front of a batch therefore draws what the uninterrupted one drew, whatever validation or
    a picture has drawn in between. Every process draws its own.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed."""
        sequence = np.random.SeedSequence((run_seed(), trainer.current_epoch, batch_idx, trainer.global_rank))
        words = sequence.generate_state(2)
        torch.manual_seed(int(words[0]))
        np.random.seed(int(words[1]))
        random.seed(int(words[1]))
