"""Schedules that wait for a plateau see every validation, and a checkpoint holds what they have seen."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from dlmkit.errors import UserError, did_you_mean

__all__ = ["StepOnPlateau"]


class StepOnPlateau(Callback):
    """Steps every ``ReduceLROnPlateau`` at the end of each validation, before checkpoints are written.

    Lightning steps them later, so that a run resumed from a validation's checkpoint would lack a step.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Step.

        Raises:
            UserError: If nobody logs the metric that a schedule waits for.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for config in trainer.lr_scheduler_configs:
            if not config.reduce_on_plateau:
                continue
            metric = trainer.callback_metrics.get(str(config.monitor))
            if metric is None:
                remedy = did_you_mean(str(config.monitor), trainer.callback_metrics, "val/loss is logged")
                raise UserError(f"the schedule waits for {config.monitor}, which nobody logs", remedy, "lr_scheduler")
            config.scheduler.step(metric)  # type: ignore[arg-type]  # a plateau's step takes the metric
