"""Adversarial tasks: several networks, each with a loss and an optimiser of its own, which take turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable, ReduceLROnPlateau
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from dlmkit.data.module import Batch
from dlmkit.errors import UserError, at_least
from dlmkit.tasks.task import Metrics, Optimisation, Task, with_metrics

__all__ = ["Adversarial", "Player"]


@dataclass(frozen=True)
class Player:
    """One of the networks that take turns.

    Args:
        network: Whose parameters are updated in its turn, and in no other.
        optimizer: Makes its optimiser.
        lr_scheduler: Makes its learning-rate schedule, which is stepped after every round.
        every: It takes its turn once in so many rounds.
    """

    network: nn.Module
    optimizer: OptimizerCallable
    lr_scheduler: LRSchedulerCallable | None = None
    every: int = 1


class Adversarial(Task):
    r"""Networks that are trained against each other, in turn on every batch.

    .. math::
        \phi \leftarrow \phi - \eta_D \nabla_\phi \mathcal{L}_D(\phi, \theta), \qquad
        \theta \leftarrow \theta - \eta_G \nabla_\theta \mathcal{L}_G(\phi, \theta)

    A child makes ``self.discriminator`` and ``self.generator``, each a module, and says ``discriminator_loss(batch)``
    and ``generator_loss(batch)``, as `Task.loss` does. Other networks, or more of them, are named by :meth:`players`.

    One round of turns is one step of the trainer: ``max_steps`` counts batches, or groups of batches where
    ``accumulate_grad_batches`` makes groups; the networks are then updated together, at the end of a group.
    ``gradient_clip_val`` clips the gradient of each network by itself. In its turn only the parameters of a network
    require gradients, so a turn leaves the other networks' parameters as they are; running statistics, such as those
    of batch normalisation, are taken whenever pictures go through a network in training, as with everyone. Under
    ``ddp`` the gradients are those of one process on the whole batch, as long as no layer mixes the examples of a
    batch; for batch normalisation on GPUs, ``trainer.sync_batchnorm`` sees to it.

    `GeneratorAveraging` among the trainer's callbacks keeps a running average of the generator. The average is taken
    away when the epoch of a validation ends, before the task's ``on_validation_epoch_end``; who judges it does so in
    ``on_validation_batch_end``.

    References:
        | Generative Adversarial Nets (Goodfellow et al., 2014), algorithm 1
        | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford, Metz &
          Chintala, 2016), for the optimiser's settings

    Args:
        optimizer: Makes the generator's optimiser from its parameters.
        discriminator_optimizer: Makes the discriminator's; when left out, as the generator's.
        lr_scheduler: Makes the generator's learning-rate schedule; it is stepped after every round.
        discriminator_lr_scheduler: Makes the discriminator's; when left out, as the generator's.
        generator_every: The generator is updated once in so many rounds, the discriminator in each.

    Raises:
        UserError: If ``generator_every`` is not positive.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=0.0002),
        discriminator_optimizer: OptimizerCallable | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        discriminator_lr_scheduler: LRSchedulerCallable | None = None,
        generator_every: int = 1,
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        at_least(1, "model.", generator_every=generator_every)
        self.automatic_optimization = False
        self.discriminator_optimizer = discriminator_optimizer or optimizer
        self.discriminator_lr_scheduler = discriminator_lr_scheduler or lr_scheduler
        self.generator_every = generator_every
        self._taken: tuple[Any, int] = (None, 1)

    def players(self) -> Mapping[str, Player]:
        """Who takes turns, in this order; at least one of them in every round."""
        critic = Player(self.discriminator, self.discriminator_optimizer, self.discriminator_lr_scheduler)
        maker = Player(self.generator, self.optimizer, self.lr_scheduler, self.generator_every)
        return {"discriminator": critic, "generator": maker}

    def player_loss(self, name: str, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """What a player minimises: the child's ``<name>_loss``.

        Args:
            name: Of the player.
            batch: What the data module gives.
        """
        loss: Tensor | tuple[Tensor, Metrics] = getattr(self, f"{name}_loss")(batch)
        return loss

    def loss(self, batch: Batch) -> tuple[Tensor, Metrics]:
        """The losses of all players, for validation and test: their sum, and each of them."""
        metrics: dict[str, Any] = {}
        for name in self.players():
            value, further = with_metrics(self.player_loss(name, batch))
            metrics |= {f"{name}_loss": value, **further}
        return torch.stack([metrics[f"{name}_loss"] for name in self.players()]).sum(), metrics

    # ------------------------------------------------------------------------------------------------ the round

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        """One round: every player whose turn it is computes its loss and is updated."""
        trainer = self.trainer
        group = trainer.accumulate_grad_batches
        complete = (batch_idx + 1) % group == 0 or batch_idx + 1 == trainer.num_training_batches
        self._begin(batch_idx)
        players = self.players()
        optimizers = dict(zip(players, self._optimizers(), strict=True))
        due = {n: p for n, p in players.items() if trainer.global_step % p.every == 0}
        counted = next(n for n, p in due.items() if p.every == 1)
        for name in due:
            self._backward(name, batch, optimizers[name], group)
            if group == 1:
                self._update(optimizers[name], name == counted)
        last = list(due)[-1]
        for name in due if group > 1 and complete else ():
            with nullcontext() if name == last else self._scale_kept():
                self._update(optimizers[name], name == counted)
        for scheduler in self._schedulers() if complete else ():
            scheduler.step()

    def _backward(self, name: str, batch: Batch, optimizer: LightningOptimizer, group: int) -> None:
        """Add to a player's gradient, and to no other's."""
        self.toggle_optimizer(optimizer)
        loss, metrics = with_metrics(self.player_loss(name, batch))
        count = self.count(batch)
        self.log(f"train/{name}_loss", loss.detach(), prog_bar=True, batch_size=count)
        self._log_metrics("train", metrics, count)
        self.manual_backward(loss * self._share(count) / group)
        self.untoggle_optimizer(optimizer)

    def _update(self, optimizer: LightningOptimizer, counted: bool) -> None:
        if not counted:  # Lightning counts the steps of every optimiser
            optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
        optimizer.step()
        optimizer.zero_grad()

    @contextmanager
    def _scale_kept(self) -> Iterator[None]:
        """Leave the loss scale of fp16 as it is: gradients that are still to be used were accumulated with it."""
        scaler: Any = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is None:
            yield
            return
        scaler.update = do_nothing_closure
        try:
            yield
        finally:
            del scaler.update

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient of the player whose turn it is; with mixed precision it is unscaled by now."""
        trainer = self.trainer
        if trainer.gradient_clip_val:
            algorithm = trainer.gradient_clip_algorithm
            self.clip_gradients(optimizer, trainer.gradient_clip_val, str(algorithm.value) if algorithm else "norm")

    def _optimizers(self) -> list[LightningOptimizer]:
        found: Any = self.optimizers()
        return found if isinstance(found, list) else [found]

    def _schedulers(self) -> list[LRScheduler]:
        found: Any = self.lr_schedulers()
        return found if isinstance(found, list) else [] if found is None else [found]

    # ---------------------------------------------------------------------------------------- what the trainer is told

    def optimisations(self) -> list[Optimisation]:
        """What makes the optimiser and the schedule of each player; a discriminator may have options of its own."""
        return [
            Optimisation(
                "optimizer" if player.optimizer is self.optimizer else "discriminator_optimizer",
                player.optimizer,
                player.network.parameters(),
                "lr_scheduler" if player.lr_scheduler is self.lr_scheduler else "discriminator_lr_scheduler",
                player.lr_scheduler,
            )
            for player in self.players().values()
        ]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """An optimiser for each player, and the schedules that are asked for.

        Raises:
            UserError: If no player takes its turn in every round, or a schedule waits for a plateau.
        """
        players = self.players()
        if all(player.every != 1 for player in players.values()):
            raise UserError("no network is updated in every round", "let one have every=1", type(self).__name__)
        optimizers: list[torch.optim.Optimizer] = []
        schedulers: list[LRScheduler] = []
        for _, make, parameters, schedule_option, schedule in self.optimisations():
            optimizers.append(make(parameters))
            if schedule is None:
                continue
            scheduler = self._schedule(schedule, optimizers[-1])
            if isinstance(scheduler, ReduceLROnPlateau):
                what = "a schedule that waits for a plateau has none: adversarial losses do not fall"
                remedy = "take one that goes by steps, such as dlmkit.WarmupCosine"
                raise UserError(what, remedy, f"model.{schedule_option}")
            schedulers.append(scheduler)
        return optimizers, schedulers

    def configure_callbacks(self) -> list[Callback]:
        """Take clipping and accumulation off the trainer: Lightning refuses them here, and they work all the same."""
        trainer = self.trainer
        self._taken = (trainer.gradient_clip_val, trainer.accumulate_grad_batches)
        trainer.gradient_clip_val, trainer.accumulate_grad_batches = None, 1
        return []

    def setup(self, stage: str) -> None:
        """Give clipping and accumulation back, and let ``ddp`` know that a turn does not use every parameter."""
        trainer = self.trainer
        trainer.gradient_clip_val, trainer.accumulate_grad_batches = self._taken
        if isinstance(trainer.strategy, DDPStrategy):
            trainer.strategy._ddp_kwargs["find_unused_parameters"] = True
