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
    where its quadratic holds. A step is good when the loss there is at most a tenth larger than before it. After a jump
    the picture is that of before, and L-BFGS keeps what the jump has shown of the curvature: it is told that the way
    back was its last step. Where it jumps once more from there, it forgets the curvature, and goes down the gradient by
    a quarter of its scale. Other optimisers begin anew.

    L-BFGS does not know that pixels are brought back into their range. It takes a step for longer than it was, and so
    the loss for flatter than it is along pixels that are black or white already. That makes it bolder, which is well
    until it jumps; from its first jump on it is told what is left of each step within the range.

    Args:
        pixels: The picture that is optimised (1, 3, H, W).
    """

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.register_buffer("picture", pixels.detach().clone())
        self.register_buffer("loss", torch.tensor(math.inf))
        self.register_buffer("jumps", torch.tensor(0))  # one after the other
        self.register_buffer("careful", torch.tensor(False))  # since the first jump
        self._looked = False
        self._astray: Tensor | None = None  # where a jump has led

    picture: Tensor
    loss: Tensor
    jumps: Tensor
    careful: Tensor

    def begin(self, optimizer: torch.optim.Optimizer, *, anew: bool = False) -> None:
        """A step begins.

        Args:
            optimizer: Of the pixels; it forgets what it knows when all begins anew.
            anew: Whether the loss is another one from now on.
        """
        self._looked = False
        if anew:
            self.loss.fill_(math.inf)
            self.careful.fill_(False)
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
        if bool(loss.detach() <= _JUMP * self.loss):  # what is not a number is a jump, too
            if not torch.equal(pixels, self.picture):  # it has come from there at last
                self.jumps.zero_()
            self.picture.copy_(pixels)
            self.loss.copy_(loss)
        else:
            self._astray = pixels.detach().clone()
            self.jumps.add_(1)
            self.careful.fill_(True)

    def end(self, pixels: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """A step is done: it is taken back, and the one before it, if that had jumped.

        Args:
            pixels: The picture (1, 3, H, W), which is changed.
            optimizer: Of the pixels.
        """
        state = optimizer.state.get(pixels, {}) if isinstance(optimizer, torch.optim.LBFGS) else {}
        if self._astray is None:
            if self.careful and "d" in state and optimizer.param_groups[0]["max_iter"] == 1:
                state["d"], state["t"] = (pixels.data.clamp(0, 1) - self.picture).flatten(), 1.0
            return
        pixels.data.copy_(self.picture)
        way_back, self._astray = (self.picture - self._astray).flatten(), None
        if "d" not in state or not bool(way_back.isfinite().all()):
            optimizer.state.clear()
        elif self.jumps == 1:
            state["d"], state["t"] = way_back, 1.0  # direction and length of its last step
        else:
            state.update(d=torch.zeros_like(way_back), old_dirs=[], old_stps=[], ro=[], H_diag=state["H_diag"] / 4)
