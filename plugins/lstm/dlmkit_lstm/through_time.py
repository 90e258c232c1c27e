r"""What every LSTM layer with a hand-written way back through time has in common, whatever its gates are.

``nn.LSTM`` runs as one kernel and shows only :math:`h_t`. Here the gates stay visible and can carry a loss, and the
backward pass is written by hand, because autograd would record a dozen small operations for each step. What differs
from one kind of LSTM to the next is inside the loop over time; that is its :class:`Equations`.

B batch, T time steps, D input width, H hidden width, G gates (blocks of H rows in the weights).
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Equations", "FromLoss", "Tape", "recorded", "sigmoid_slope", "tanh_into", "tanh_slope"]

# Each multiplies a factor with the slope of an activation s that is already known, in one pass over the memory:
# factor * s * (1 - s) for the sigmoid, factor * (1 - s^2) for tanh.
sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input
tanh_slope = torch.ops.aten.tanh_backward.grad_input


class Tape(NamedTuple):
    """What the loop over time writes and the way back reads; time comes first.

    Args:
        gates: (T, B, GH); before the loop what the inputs contribute, after it the gates.
        hidden: (T+1, B, H), the first one given; the others are written.
        cells: (T+1, B, H), the first one given; the others are written.
        squashed: tanh of the cells (T, B, H); written.
    """

    gates: Tensor
    hidden: Tensor
    cells: Tensor
    squashed: Tensor


class FromLoss(NamedTuple):
    """The loss's gradient by what the layer gives, time first; None where the loss does not look.

    Args:
        hidden: By the hidden states (T, B, H).
        cells: By the cells (T, B, H).
        gates: By what is inside the gates' σ and tanh (T, B, GH).
    """

    hidden: Tensor | None
    cells: Tensor | None
    gates: Tensor | None


class Equations(Protocol):
    """One kind of LSTM: what happens at each step, there and back."""

    blocks: tuple[str, ...]
    """What the G blocks of rows of the weights compute, in their order; the one called ``candidate`` is a tanh."""

    def forward(self, tape: Tape, w_hh: Tensor, *more: Tensor) -> None:
        """Turn the inputs' share of the gates into the gates, step by step and in place.

        Args:
            tape: See there.
            w_hh: Recurrent weights (H, GH).
            *more: The layer's further weights.
        """

    def backward(self, tape: Tape, from_loss: FromLoss, w_hh: Tensor, *more: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Carry the gradient from the last step to the first.

        Args:
            tape: As the forward pass left it.
            from_loss: What comes from the loss.
            w_hh: Recurrent weights (GH, H).
            *more: The layer's further weights.

        Returns:
            The whole gradient by what is inside the gates' σ and tanh (T, B, GH), and by h0 and c0, each (B, H).
        """

    def gradients(self, delta: Tensor, tape: Tape) -> tuple[Tensor, ...]:
        """The gradient of each of the layer's further weights, from what :meth:`backward` returned first."""


def recorded(
    equations: Equations,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor,
    b_hh: Tensor,
    *more: Tensor,
) -> dict[str, Tensor]:
    """Run one layer over a sequence and keep its gates.

    Gradients flow from each output to each tensor given, once (there is no second derivative). The computation is in
    the weights' dtype, also under autocast.

    References:
        | Backpropagation Through Time: What It Does and How to Do It (Werbos, 1990)

    Args:
        equations: The kind of LSTM.
        x: Inputs (B, T, D), floating point.
        h0: Hidden state before the first step (B, H).
        c0: Cell state before the first step (B, H).
        w_ih: Weights of the inputs (GH, D).
        w_hh: Weights of the hidden state (GH, H).
        b_ih: Bias (GH,).
        b_hh: A second bias that is added to the first (GH,).
        *more: Further weights that the equations have.

    Returns:
        The gates by their names in ``equations.blocks``, ``cell`` and ``hidden``, each (B, T, H); views of buffers that
        lie time first.

    Raises:
        RuntimeError: If the shapes do not fit together.
        ValueError: If there is no step.
    """
    if not x.shape[1]:
        raise ValueError("the sequence has no steps; give at least one")
    x, h0, c0 = (a.to(w_ih.dtype) for a in (x, h0, c0))
    with torch.autocast(x.device.type, enabled=False):
        outputs = _Recorded.apply(equations, x, h0, c0, w_ih, w_hh, b_ih, b_hh, *more)
    return dict(zip((*equations.blocks, "cell", "hidden"), outputs, strict=True))


class _Recorded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        equations: Equations,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        *more: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)  # most losses look at the hidden state alone
        (batch, steps, width), size = x.shape, h0.shape[1]
        pairs = x.new_empty(steps + 1, batch, size + width)  # [h_{t-1}, x_t], as the equations write it
        cells = x.new_empty(steps + 1, batch, size)  # C_{t-1}
        squashed = x.new_empty(steps, batch, size)  # tanh(C_t)
        pairs[:-1, :, size:] = x.transpose(0, 1)
        pairs[0, :, :size] = h0
        cells[0] = c0
        # The inputs are known in advance: one product for all steps leaves only the recurrent one to the loop.
        gates = torch.addmm(b_ih + b_hh, pairs[:-1, :, size:].flatten(0, 1), w_ih.t()).view(steps, batch, -1)
        equations.forward(Tape(gates, pairs[:, :, :size], cells, squashed), w_hh.t(), *more)
        ctx.equations = equations
        ctx.save_for_backward(gates, pairs, cells, squashed, w_ih, w_hh, *more)
        outputs = (*gates.chunk(len(equations.blocks), dim=2), cells[1:], pairs[1:, :, :size])
        return tuple(a.transpose(0, 1) for a in outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        gates, pairs, cells, squashed, w_ih, w_hh, *more = ctx.saved_tensors
        size = w_hh.shape[1]
        tape = Tape(gates, pairs[:, :, :size], cells, squashed)
        *by_gates, by_cells, by_hidden = (a if a is None else a.transpose(0, 1) for a in gradients)
        from_loss = FromLoss(by_hidden, by_cells, _onto_gates(gates, ctx.equations.blocks, by_gates))
        delta, dh0, dc0 = ctx.equations.backward(tape, from_loss, w_hh, *more)
        rows = delta.flatten(0, 1)  # (T*B, GH)
        # The net is one f, used T times with the same weights: their change is the sum of the changes of all T
        # instances. Stacked over time, that sum is a single product.
        dw = rows.t() @ pairs[:-1].flatten(0, 1)  # (GH, T*B) x (T*B, H+D) -> (GH, H+D)
        db = rows.sum(dim=0)
        dx = (rows @ w_ih).view(*delta.shape[:2], -1).transpose(0, 1) if ctx.needs_input_grad[1] else None
        return None, dx, dh0, dc0, dw[:, size:], dw[:, :size], db, db, *ctx.equations.gradients(delta, tape)


def _onto_gates(gates: Tensor, blocks: tuple[str, ...], gradients: list[Tensor | None]) -> Tensor | None:
    """The gradient (T, B, GH) that a loss on the gates themselves gives; None without such a loss."""
    if all(gradient is None for gradient in gradients):
        return None
    onto_gates = torch.zeros_like(gates)
    parts = zip(blocks, gradients, gates.chunk(len(blocks), 2), onto_gates.chunk(len(blocks), 2), strict=True)
    for name, gradient, gate, part in parts:
        if gradient is not None:
            slope = tanh_slope if name == "candidate" else sigmoid_slope
            slope(gradient, gate, grad_input=part)
    return onto_gates


def tanh_into(out: Tensor, x: Tensor, minus_one: Tensor) -> None:
    """Write tanh(x), as 2 σ(2x) - 1.

    It is faster for one step's numbers: ``torch.tanh`` starts threads even for a few thousand, and waiting for them
    costs more than the work, above all where cores are shared.

    Args:
        out: Where to.
        x: Of what.
        minus_one: -1 as a tensor, into which a number would be turned at every use.
    """
    torch.add(x, x, out=out).sigmoid_()
    torch.add(minus_one, out, alpha=2, out=out)
