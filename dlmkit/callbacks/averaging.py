"""Running averages of the weights of one network among several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor, nn

from dlmkit.errors import UserError, at_least

__all__ = ["GeneratorAveraging"]


class GeneratorAveraging(EMAWeightAveraging):
    r"""Validates, saves and samples from a running average of the generator; the other networks stay as they are.

    .. math::
        \bar\theta_1 = \theta_1, \qquad \bar\theta_s = \beta \bar\theta_{s-1} + (1 - \beta) \theta_s

    The statistics of batch normalisation are averaged with the weights. Lightning's ``EMAWeightAveraging`` averages a
    discriminator too, and of one that is normalised spectrally the singular vectors, of which an average is too short.

    References:
        | The Unusual Effectiveness of Averaging in GAN Training (Yazıcı et al., 2019)

    Args:
        decay: How much of the average β stays at every step.
        network: Name of the network in the task that is averaged.

    Raises:
        UserError: If the decay is out of range, or, when the run begins, if the task has no such network.
    """

    def __init__(self, decay: float = 0.999, network: str = "generator") -> None:
        at_least(0, "trainer.callbacks.", below=1, decay=decay)
        super().__init__(decay=decay)
        self.network = network

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin the average with the network as it is."""
        if not isinstance(getattr(pl_module, self.network, None), nn.Module):
            what = f"{type(pl_module).__name__} has no network called {self.network}"
            raise UserError(what, "name one that it has", "trainer.callbacks")
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            self._average_model = None  # or Lightning would load the current weights over the averages, to be tested

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the average; a test and a validation by themselves have been given it as the weights already."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the average where the network is by now."""
        averages: Any = self._average_model
        averages.to(pl_module.device)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        """Take the step into the average, and all other networks as they are now."""
        super().on_train_batch_end(trainer, pl_module, *args)
        averages: Any = self._average_model
        for (name, kept), (_, now) in zip(_tensors(averages.module), _tensors(pl_module), strict=True):
            if not name.startswith(f"{self.network}."):
                kept.data.copy_(now.data)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return itertools.chain(module.named_parameters(), module.named_buffers())
