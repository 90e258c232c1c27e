"""Learning-rate schedules that know how long the run is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["RunSchedule", "WarmupCosine"]


class RunSchedule(LRScheduler, ABC):
    """A schedule over the length of the run, which the task tells it.

    A child gives :meth:`factor`. A resumed run that is asked for more steps follows the curve of the longer run from
    there on.

    Args:
        optimizer: Whose learning rates are scaled.
        total_steps: Steps; when left out, those of the run.
    """

    settings: ClassVar[tuple[str, ...]] = ()
    """Attributes by which the curve is drawn, which belong to the recipe and not to a checkpoint."""

    def __init__(self, optimizer: Optimizer, total_steps: int | None = None) -> None:
        self.total_steps = total_steps
        super().__init__(optimizer)

    @abstractmethod
    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with at a step."""

    def get_lr(self) -> list[float | Tensor]:
        """The learning rate of each parameter group at the current step."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """The position on the curve, not the curve, which belongs to the run."""
        return {k: v for k, v in super().state_dict().items() if k not in ("total_steps", *self.settings)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the position; the next step is taken at the rate of this run's curve, not of the one before."""
        super().load_state_dict(state_dict)
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        self._last_lr = self.get_lr()


class WarmupCosine(RunSchedule):
    r"""A linear warm-up, then half a cosine down to a floor.

    .. math::
        \eta_s = \eta \cdot \begin{cases} (s + 1) / w & s < w \\
        \phi + (1 - \phi) \tfrac12 (1 + \cos \pi \tfrac{s - w}{S - w}) & \text{otherwise} \end{cases}

    The number of steps S comes from the run, so ``--trainer.max_steps`` changes both. A resumed run that is asked for
    more steps follows the curve of the longer run from there on.

    References:
        | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov & Hutter, 2017), equation 5

    Args:
        optimizer: Whose learning rates :math:`\eta` are scaled.
        warmup: Steps :math:`w` of linear warm-up.
        floor: What is left at the end, as a fraction :math:`\phi` of the learning rate.
        total_steps: Steps :math:`S`; when left out, those of the run.
    """

    settings = ("warmup", "floor")

    def __init__(
        self, optimizer: Optimizer, warmup: int = 100, floor: float = 0.0, total_steps: int | None = None
    ) -> None:
        self.warmup, self.floor = warmup, floor
        super().__init__(optimizer, total_steps)

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.total_steps is None:
            return 1.0
        progress = min(1.0, (step - self.warmup) / max(1, self.total_steps - self.warmup))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * progress))
