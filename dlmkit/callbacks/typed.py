"""What is typed when a run is resumed wins over what its checkpoint holds."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from dlmkit.screen import console

__all__ = ["TypedOptions"]


class TypedOptions(Callback):
    """Sets the optimiser's options that were typed, after the checkpoint has set those of the run before.

    Args:
        options: Name to value, such as ``lr``.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set them, and say so."""
        rate = self.options.get("lr")
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                scheduled = group["lr"] / group["initial_lr"] if group.get("initial_lr") else 1.0
                group.update(self.options)
                if rate is not None:
                    group["lr"] = rate * scheduled
                    group["initial_lr"] = rate
        for config in trainer.lr_scheduler_configs:
            if rate is not None and hasattr(config.scheduler, "base_lrs"):
                config.scheduler.base_lrs = [rate] * len(config.scheduler.base_lrs)
        if self.options and trainer.is_global_zero:
            told = ", ".join(f"{name} {value}" for name, value in self.options.items())
            console.print(f"typed, so not as in the checkpoint: {told}")
