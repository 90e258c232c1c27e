"""Adagrad with one rate for each word: it keeps frequent words in check, whose gradients come many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["RowAdagrad"]


class RowAdagrad(torch.optim.Optimizer):
    r"""Adagrad that sums up the squares of whole rows.

    .. math::
        s_w \leftarrow s_w + \tfrac{1}{D} \lVert g_w \rVert^2, \qquad
        \theta_w \leftarrow \theta_w - \eta \, \frac{g_w}{\sqrt{s_w} + \epsilon}

    A row whose gradient is zero stays as it is, so that rare words lose nothing in batches that they are not in.

    References:
        | Adaptive Subgradient Methods for Online Learning and Stochastic Optimization (Duchi, Hazan, Singer, 2011)

    Args:
        params: Matrices (V, D), a row for each word.
        lr: The rate η.
        eps: ε, so that nothing is divided by zero.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 0.1, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step.

        Args:
            closure: Computes the loss and the gradients first.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, self.state[parameter], group["lr"], group["eps"])
        return loss

    @staticmethod
    def _update(parameter: Tensor, state: dict[str, Any], rate: float, eps: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if not state:
            state["sum"] = parameter.new_zeros(len(parameter), 1)
        total = state["sum"].add_(torch.linalg.vector_norm(gradient, dim=1, keepdim=True).square_() / gradient.shape[1])
        parameter.addcmul_(gradient, -rate / (total.sqrt() + eps))
