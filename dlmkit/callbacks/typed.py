"""What is given when a run is resumed wins over what its checkpoint holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dlmkit.screen import console
from dlmkit.tasks.task import optimisation_options

__all__ = ["TypedOptions"]


class TypedOptions(Callback):
    """Sets the options of optimisers that were given anew, after the checkpoint has set the old ones.

    Args:
        typed: Tells of an option that makes an optimiser or a schedule what was typed of it or laid over it, name to
            value, such as ``lr``. A schedule's is only told: a curve over the run is not in the checkpoint.
    """

    def __init__(self, typed: Callable[[str], dict[str, Any]]) -> None:
        self.typed = typed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set them, and say so."""
        made = optimisation_options(pl_module)
        told: dict[str, None] = {}
        for optimizer, (option, schedule_option) in zip(trainer.optimizers, made, strict=False):
            typed = self.typed(option)
            for word, given in ((option, typed), (schedule_option, self.typed(schedule_option))):
                told |= dict.fromkeys(f"{word}.{name} {value}" for name, value in given.items())
            rate = typed.get("lr")
            for group in optimizer.param_groups:
                scheduled = group["lr"] / group["initial_lr"] if group.get("initial_lr") else 1.0
                group.update(typed)
                if rate is not None:
                    group["lr"] = rate * scheduled
                    group["initial_lr"] = rate
            for config in trainer.lr_scheduler_configs:
                ours = getattr(config.scheduler, "optimizer", None) is optimizer
                if ours and rate is not None and hasattr(config.scheduler, "base_lrs"):
                    config.scheduler.base_lrs = [rate] * len(config.scheduler.base_lrs)
        if told and trainer.is_global_zero:
            console.print(f"given anew, so not as in the checkpoint: {', '.join(told)}")
