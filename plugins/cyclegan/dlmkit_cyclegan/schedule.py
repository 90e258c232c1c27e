"""The learning-rate schedule of the paper."""

from __future__ import annotations

from torch.optim import Optimizer

from dlmkit import RunSchedule

__all__ = ["LinearDecay"]


class LinearDecay(RunSchedule):
    r"""A constant learning rate, and from a point of the run on a straight line down to 0.

    .. math::
        \eta_s = \eta \cdot \min\left(1, \frac{S - s}{S - c S}\right)

    The number of steps S comes from the run, so ``--trainer.max_steps`` changes both.

    References:
        | Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017), section 4

    Args:
        optimizer: Whose learning rates :math:`\eta` are scaled.
        constant: Part :math:`c` of the run, from 0 to 1, in which it stays as it is; one half in the paper.
        total_steps: Steps :math:`S`; when left out, those of the run.
    """

    settings = ("constant",)

    def __init__(self, optimizer: Optimizer, constant: float = 0.5, total_steps: int | None = None) -> None:
        self.constant = constant
        super().__init__(optimizer, total_steps)

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied with at a step."""
        if self.total_steps is None or step < self.constant * self.total_steps:
            return 1.0
        return max(0.0, (self.total_steps - step) / max(1.0, (1 - self.constant) * self.total_steps))
