"""Callbacks through which the checks look into a run, or stop it."""

from __future__ import annotations

import signal
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from dlmkit.callbacks.media import ShowMedia

__all__ = ["Gradients", "Killed", "Losses", "Stop", "Unseen"]


class Killed(Exception):
    """Stands for a process that ended between two lines of code."""


class Stop(Callback):
    """Stops a run as Ctrl-C does, or as a power cut does.

    Args:
        after: Training batches until then.
        kill: Whether to end at once in front of the next batch, as a power cut does, saving nothing.
    """

    def __init__(self, after: int, kill: bool = False) -> None:
        self.after, self.kill = after, kill
        self.seen = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Pull the plug."""
        if self.kill and self.seen == self.after:
            raise Killed

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Press Ctrl-C while the batch is at its end."""
        self.seen += 1
        if not self.kill and self.seen == self.after:
            signal.raise_signal(signal.SIGINT)


class Unseen(Callback):
    """Keeps a run from showing media; in processes of their own there is no other way to."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the folder of the media away; the run's own callbacks have been set up before."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ShowMedia):
                callback.folder = None


class Gradients(Callback):
    """Notes which parameters a gradient has reached.

    Several steps are looked at, because what lies below a layer that starts at zero gets its gradient only later.
    """

    def __init__(self) -> None:
        self.reached: set[str] = set()
        self.used: set[str] = set()
        self.broken: set[str] = set()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at every gradient."""
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                self.used.add(name)
                if not torch.isfinite(parameter.grad).all():
                    self.broken.add(name)
                elif parameter.grad.any():
                    self.reached.add(name)


class Losses(Callback):
    """Follows the training loss, and ends the run once it has fallen far enough.

    Args:
        share: What is to be left of the first loss.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.values: list[float] = []

    @property
    def goal(self) -> float:
        """The loss to fall below; a loss may be negative, as that of a density is."""
        return self.values[0] - (1 - self.share) * abs(self.values[0])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss of this batch."""
        loss = trainer.callback_metrics.get("train/loss")
        if loss is None:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            self.values.append(float(loss))
            trainer.should_stop = self.values[-1] < self.goal
