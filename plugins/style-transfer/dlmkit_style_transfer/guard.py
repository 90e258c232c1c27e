"""A step that leads astray is taken back.

Dimensions: H height, W width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["Guard"]

_JUMP = 1.1  # times the loss of the step before


class Guard(nn.Module):
    """Keeps the picture that the last good step led to.

    L-BFGS without a search for the step's length costs one look at the picture a step, and now and then jumps out of
    where its quadratic holds. A step is good when the loss there is at most a tenth larger than before it.

    Args:
        pixels: The picture that is optimised (1, 3, H, W).
    """

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.register_buffer("picture", pixels.detach().clone())
        self.register_buffer("loss", torch.tensor(math.inf))
        self._looked = self._jumped = False

    picture: Tensor
    loss: Tensor

    def begin(self, optimizer: torch.optim.Optimizer, *, anew: bool = False) -> None:
        """A step begins.

        Args:
            optimizer: Of the pixels; it forgets what it knows when all begins anew.
            anew: Whether the loss is another one from now on.
        """
        self._looked = False
        if anew:
            self.loss.fill_(math.inf)
            optimizer.state.clear()

    @torch.no_grad()
    def look(self, pixels: Tensor, loss: Tensor) -> None:
        """See where the step before has led; only the first look in a step counts.

        Args:
            pixels: The picture (1, 3, H, W).
            loss: Of that picture.
        """
        if self._looked:
            return
        self._looked = True
        self._jumped = not bool(loss.detach() <= _JUMP * self.loss)  # what is not a number is a jump, too
        if not self._jumped:
            self.picture.copy_(pixels)
            self.loss.copy_(loss)

    def end(self, pixels: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """A step is done: it is taken back, and the one before it, if that had jumped.

        Args:
            pixels: The picture (1, 3, H, W), which is changed.
            optimizer: Of the pixels, which begins anew then.
        """
        if self._jumped:
            pixels.data.copy_(self.picture)
            optimizer.state.clear()
            self._jumped = False
