"""The base of every task: a child says its loss and what it shows, the rest is here once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.distributed
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.trainer.states import TrainerStatus
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from dlmkit.data.module import Batch
from dlmkit.errors import UserError
from dlmkit.media import Media
from dlmkit.schedules import RunSchedule
from dlmkit.seeds import run_seed
from dlmkit.tasks.plateau import StepOnPlateau

__all__ = ["Metrics", "Optimisation", "Task", "optimisation_options", "with_metrics"]

Stage = Literal["train", "val", "test"]
Metrics = Mapping[str, Tensor | tuple[Tensor, int]]


def with_metrics(out: Tensor | tuple[Tensor, Metrics]) -> tuple[Tensor, Metrics]:
    """What a loss function returns, with no metrics where it returns none.

    Raises:
        UserError: If the loss or a metric is not a single number.
    """
    loss, metrics = out if isinstance(out, tuple) else (out, {})
    for name, value in {"the loss": loss, **metrics}.items():
        number = value[0] if isinstance(value, tuple) else value
        if number.numel() != 1:
            raise UserError(f"{name} has the shape {tuple(number.shape)}", "return its mean")
    return loss, metrics


class Optimisation(NamedTuple):
    """What makes an optimiser and its schedule.

    Args:
        option: The task's option that makes the optimiser.
        optimizer: Makes it.
        parameters: Of what.
        schedule_option: The task's option that makes the schedule.
        schedule: Makes it, if there is one.
    """

    option: str
    optimizer: OptimizerCallable
    parameters: Iterable[nn.Parameter]
    schedule_option: str
    schedule: LRSchedulerCallable | None


def optimisation_options(module: LightningModule) -> list[tuple[str, str]]:
    """The options that make each optimiser and its schedule; a module that is no task has Lightning's usual ones."""
    if isinstance(module, Task):
        return [(each.option, each.schedule_option) for each in module.optimisations()]
    return [("optimizer", "lr_scheduler")]


class Task(LightningModule, ABC):
    """A network with a loss, trained by Lightning.

    A child gives :meth:`loss` and usually :meth:`show`. The three steps, the names ``train/loss``, ``val/loss``,
    ``test/loss``, the optimiser and its schedule, and gradients that do not depend on the number of processes are
    here.

    Args:
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    monitor: ClassVar[str] = "val/loss"
    """The metric by which the best checkpoint is chosen, unless the recipe's own ModelCheckpoint says otherwise."""

    monitor_mode: ClassVar[Literal["min", "max"]] = "min"

    headline: ClassVar[str] = "test/loss"
    """The metric that the run's last lines report."""

    conformance: ClassVar[Mapping[str, str]] = {}
    """Checks of the conformance kit that make no sense here: name to reason."""

    conformance_options: ClassVar[Sequence[str]] = ()
    """Command-line words such as ``--model.hidden_size=32`` that make the network small for the conformance kit."""

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=0.001),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self._batch_idx = self._draws = 0
        self._stands_for: tuple[int, int] | None = None  # rank and number of processes, without their being there
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from a checkpoint; known before that is read."""
        return any(getattr(callback, "resumed", None) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """The quantity that is minimised.

        Args:
            batch: What the data module gives.

        Returns:
            The mean over the batch, and optionally further metrics: name to value, or to (value, number of items
            that it is the mean of).
        """

    def show(self, batch: Batch) -> Mapping[str, Media]:
        """What to look at; called in evaluation mode, without gradients, on the first validation batch."""
        return {}

    def count(self, batch: Batch) -> int:
        """How many items the loss of a batch is the mean of: targets if there are any, else examples."""
        tensor = batch["target"] if "target" in batch else next(iter(batch.values()))
        return tensor.numel() if "target" in batch else len(tensor)

    def noise(self, count: int, *size: int) -> Tensor:
        """Standard normal numbers (count, *size) for a loss: this process's share of what one process would draw.

        In a run they follow from its seed, the batch, how many were drawn for that batch before, and in training the
        epoch; so validations and tests of the same weights have the same figures. The processes' parts of a batch are
        taken to lie one after the other.

        Args:
            count: Examples on this process; every process has as many.
            *size: Numbers for each.
        """
        trainer = self._trainer
        running = trainer is not None and trainer.state.status == TrainerStatus.RUNNING
        if self._stands_for is None and not running:
            return torch.randn(count, *size, device=self.device)
        rank, world = self._stands_for or (self.trainer.global_rank, self.trainer.world_size)
        epoch = self.current_epoch if running and self.trainer.training else 0
        known = (run_seed() if running else 0, epoch, self._batch_idx, self._draws)
        self._draws += 1
        word = int(np.random.SeedSequence(known).generate_state(1)[0])
        draw = torch.Generator().manual_seed(word)  # on the CPU, so that it is the same on every device
        whole = torch.randn(count * world, *size, generator=draw)
        return whole.chunk(world)[rank].to(self.device)

    def _begin(self, batch_idx: int) -> None:
        self._batch_idx, self._draws = batch_idx, 0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch of training; the gradient is that of the mean over all processes' items."""
        self._begin(batch_idx)
        loss, metrics, count = self._evaluate(batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=count)
        self._log_metrics("train", metrics, count)
        return loss * self._share(count)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of validation."""
        self._begin(batch_idx)
        self._evaluation_step("val", batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test."""
        self._begin(batch_idx)
        self._evaluation_step("test", batch)

    def optimisations(self) -> list[Optimisation]:
        """What makes each of the optimisers and schedules, in their order."""
        return [Optimisation("optimizer", self.optimizer, self.parameters(), "lr_scheduler", self.lr_scheduler)]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimiser and, if asked for, its schedule, stepped after every batch."""
        optimizer = self.optimizer(self.parameters())
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self._schedule(self.lr_scheduler, optimizer)
        if isinstance(scheduler, ReduceLROnPlateau):
            # Stepped by StepOnPlateau; Lightning only saves and restores it.
            waiting: Any = {"scheduler": scheduler, "monitor": scheduler.monitor, "frequency": 10**9}
            return {"optimizer": optimizer, "lr_scheduler": waiting}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_callbacks(self) -> list[Callback]:
        """What the task itself needs beside training."""
        return [StepOnPlateau()] if self.lr_scheduler is not None else []

    def _schedule(self, make: LRSchedulerCallable, optimizer: torch.optim.Optimizer) -> LRScheduler | ReduceLROnPlateau:
        """A schedule that knows how long the run is, if it wants to."""
        scheduler = make(optimizer)
        if isinstance(scheduler, RunSchedule) and scheduler.total_steps is None:
            steps = self.trainer.estimated_stepping_batches
            scheduler.total_steps = int(steps) if steps != float("inf") else None
            # To count an epoch's batches Lightning makes the loader, and would not set it to where a resumed run is.
            self.trainer.fit_loop._combined_loader = None
        return scheduler

    def _evaluate(self, batch: Batch) -> tuple[Tensor, Metrics, int]:
        loss, metrics = with_metrics(self.loss(batch))
        return loss, metrics, self.count(batch)

    def _evaluation_step(self, stage: Stage, batch: Batch) -> None:
        loss, metrics, count = self._evaluate(batch)
        self._log_metrics(stage, {"loss": loss, **metrics}, count)

    def _log_metrics(self, stage: Stage, metrics: Metrics, count: int) -> None:
        """Log means that are right over unequal batches and several processes."""
        evaluating = stage != "train"
        for name, value in metrics.items():
            mean, items = value if isinstance(value, tuple) else (value, count)
            # A whole number would lose its fraction where Lightning takes the mean of the counts of several processes.
            weight: Any = float(items)
            self.log(f"{stage}/{name}", mean.detach(), batch_size=weight, sync_dist=evaluating, prog_bar=evaluating)

    def _share(self, count: int) -> float | Tensor:
        """What this process's mean weighs, so that the average over processes is the mean over all items."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return 1.0
        total = torch.tensor(float(count), device=self.device)
        torch.distributed.all_reduce(total)
        return count * torch.distributed.get_world_size() / total  # a tensor, so that a GPU need not wait

    def sample(self, prompt: str = "", n: int = 1, **options: Any) -> list[Media]:
        """Generate from the trained network; a generative child overrides this.

        Raises:
            UserError: If the task generates nothing.
        """
        raise UserError(f"{type(self).__name__} generates nothing", "look at the run's media folder instead")
