r"""An LSTM layer that keeps every gate of every step, at nearly the speed of ``nn.LSTM``.

``nn.LSTM`` runs as one kernel and shows only :math:`h_t`. Here the gates stay visible and can carry a loss, and the
backward pass through time is written by hand, because autograd would record a dozen small operations for each step.

B batch, T time steps, D input width, H hidden width.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Gates", "recorded_lstm"]

# Each multiplies a factor with the slope of an activation s that is already known, in one pass over the memory:
# factor * s * (1 - s) for the sigmoid, factor * (1 - s^2) for tanh.
_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input
_tanh_slope = torch.ops.aten.tanh_backward.grad_input


class Gates(NamedTuple):
    r"""What an LSTM layer computes: each field is (B, H) for one step, (B, T, H) for a sequence.

    Args:
        forget: :math:`f_t` in (0, 1), how much of the cell is kept.
        input: :math:`i_t` in (0, 1), how much of the candidate is stored.
        candidate: :math:`\tilde C_t` in (-1, 1), what could be stored.
        output: :math:`o_t` in (0, 1), how much of the cell is told.
        cell: :math:`C_t`, the memory.
        hidden: :math:`h_t` in (-1, 1), what is told.
    """

    forget: Tensor
    input: Tensor
    candidate: Tensor
    output: Tensor
    cell: Tensor
    hidden: Tensor


def recorded_lstm(x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Gates:
    r"""Run one LSTM layer over a sequence and keep its gates.

    The weights are those of one layer of ``nn.LSTM``: four blocks of H rows for :math:`i, f, \tilde C, o`. Gradients
    flow from each of the six outputs to each of the seven arguments, once (there is no second derivative). The
    computation is in the weights' dtype, also under autocast.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997)
        | Learning to Forget: Continual Prediction with LSTM (Gers, Schmidhuber & Cummins, 2000), for the forget gate
        | Backpropagation Through Time: What It Does and How to Do It (Werbos, 1990)

    Args:
        x: Inputs (B, T, D), floating point.
        h0: Hidden state before the first step (B, H).
        c0: Cell state before the first step (B, H).
        w_ih: Weights of the inputs (4H, D).
        w_hh: Weights of the hidden state (4H, H).
        b_ih: Bias (4H,).
        b_hh: A second bias that is added to the first (4H,).

    Returns:
        The gates, each (B, T, H); views of buffers that lie time first.

    Raises:
        RuntimeError: If the shapes do not fit together.
    """
    x, h0, c0 = (a.to(w_ih.dtype) for a in (x, h0, c0))
    with torch.autocast(x.device.type, enabled=False):
        return Gates(*_RecordedLSTM.apply(x, h0, c0, w_ih, w_hh, b_ih, b_hh))


class _RecordedLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
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
        gates = torch.addmm(b_ih + b_hh, pairs[:-1, :, size:].flatten(0, 1), w_ih.t()).view(steps, batch, 4 * size)
        _run_forward(gates, pairs[:, :, :size], cells, squashed, w_hh.t())
        ctx.save_for_backward(pairs, cells, squashed, gates, w_ih, w_hh)
        i, f, g, o = gates.chunk(4, dim=2)
        return tuple(a.transpose(0, 1) for a in (f, i, g, o, cells[1:], pairs[1:, :, :size]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *from_loss: Tensor | None) -> tuple[Tensor | None, ...]:
        pairs, cells, squashed, gates, w_ih, w_hh = ctx.saved_tensors
        size = w_hh.shape[1]
        f, i, g, o, from_cell, from_hidden = (a if a is None else a.transpose(0, 1) for a in from_loss)
        onto_gates = _gradient_onto_gates(gates, (i, f, g, o))
        delta, dh0, dc0 = _run_backward(gates, cells, squashed, w_hh, from_hidden, from_cell, onto_gates)
        rows = delta.flatten(0, 1)  # (T*B, 4H)
        # The net is one f, used T times with the same weights: their change is the sum of the changes of all T
        # instances. Stacked over time, that sum is a single product.
        dw = rows.t() @ pairs[:-1].flatten(0, 1)  # (4H, T*B) x (T*B, H+D) -> (4H, H+D)
        db = rows.sum(dim=0)
        dx = (rows @ w_ih).view(*delta.shape[:2], -1).transpose(0, 1) if ctx.needs_input_grad[0] else None
        return dx, dh0, dc0, dw[:, size:], dw[:, :size], db, db


def _run_forward(gates: Tensor, hidden: Tensor, cells: Tensor, squashed: Tensor, w_hh: Tensor) -> None:
    """Turn the inputs' share of the gates into the gates, step by step and in place.

    tanh(a) = 2 σ(2a) - 1 lets one call serve all four gates. It is also faster: ``torch.tanh`` starts threads even
    for a few thousand numbers, and waiting for them costs more than the work, above all where cores are shared.

    Args:
        gates: What the inputs contribute (T, B, 4H); overwritten with the gates i, f, C̃, o.
        hidden: (T+1, B, H), the first one given; the others are written.
        cells: (T+1, B, H), the first one given; the others are written.
        squashed: tanh of the cells (T, B, H); written.
        w_hh: Recurrent weights (H, 4H).
    """
    i, f, g, o = (a.unbind(0) for a in gates.chunk(4, dim=2))
    step, h, c, tanh_c = gates.unbind(0), hidden.unbind(0), cells.unbind(0), squashed.unbind(0)
    minus_one = gates.new_tensor(-1.0)  # a number would be turned into a tensor at every use
    for t in range(len(step)):
        step[t].addmm_(h[t], w_hh)  # (B, H) x (H, 4H) -> (B, 4H)
        g[t].add_(g[t])
        step[t].sigmoid_()
        torch.add(minus_one, g[t], alpha=2, out=g[t])
        torch.mul(f[t], c[t], out=c[t + 1]).addcmul_(i[t], g[t])
        torch.add(c[t + 1], c[t + 1], out=tanh_c[t]).sigmoid_()
        torch.add(minus_one, tanh_c[t], alpha=2, out=tanh_c[t])
        torch.mul(o[t], tanh_c[t], out=h[t + 1])


def _run_backward(
    gates: Tensor,
    cells: Tensor,
    squashed: Tensor,
    w_hh: Tensor,
    from_hidden: Tensor | None,
    from_cell: Tensor | None,
    onto_gates: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry the gradient from the last step to the first.

    Args:
        gates: The gates i, f, C̃, o (T, B, 4H).
        cells: The cell before each step, and the last (T+1, B, H).
        squashed: tanh of the cells (T, B, H).
        w_hh: Recurrent weights (4H, H).
        from_hidden: The loss's gradient by the hidden states (T, B, H).
        from_cell: The loss's gradient by the cells (T, B, H).
        onto_gates: The loss's gradient by what is inside the gates' σ and tanh (T, B, 4H).

    Returns:
        The whole gradient by what is inside the gates' σ and tanh (T, B, 4H), and by h0 and c0, each (B, H).
    """
    size = w_hh.shape[1]
    delta = torch.empty_like(gates)
    i, f, g, o = (a.unbind(0) for a in gates.chunk(4, dim=2))
    di, df, dg, do = (a.unbind(0) for a in delta.chunk(4, dim=2))
    # i, f and C̃ act through the cell and share its gradient; o acts on the hidden state.
    through_cell = delta[:, :, : 3 * size].unflatten(2, (3, size)).unbind(0)
    step, c, tanh_c = delta.unbind(0), cells.unbind(0), squashed.unbind(0)
    dh, dc = torch.zeros_like(squashed[0]), torch.zeros_like(squashed[0])
    by_cell = torch.empty_like(dh)
    for t in reversed(range(len(step))):
        if from_hidden is not None:
            dh.add_(from_hidden[t])
        if from_cell is not None:
            dc.add_(from_cell[t])
        dc.addcmul_(dh, _tanh_slope(o[t], tanh_c[t], grad_input=by_cell))
        _sigmoid_slope(g[t], i[t], grad_input=di[t])
        _sigmoid_slope(c[t], f[t], grad_input=df[t])
        _tanh_slope(i[t], g[t], grad_input=dg[t])
        through_cell[t].mul_(dc.unsqueeze(1))
        _sigmoid_slope(tanh_c[t], o[t], grad_input=do[t]).mul_(dh)
        if onto_gates is not None:
            step[t].add_(onto_gates[t])
        dc.mul_(f[t])
        torch.mm(step[t], w_hh, out=dh)  # (B, 4H) x (4H, H) -> (B, H)
    return delta, dh, dc


def _gradient_onto_gates(gates: Tensor, from_loss: tuple[Tensor | None, ...]) -> Tensor | None:
    """The gradient (T, B, 4H) that a loss on the gates i, f, C̃, o themselves gives; None without such a loss."""
    if all(gradient is None for gradient in from_loss):
        return None
    onto_gates = torch.zeros_like(gates)
    slopes = (_sigmoid_slope, _sigmoid_slope, _tanh_slope, _sigmoid_slope)
    for gradient, gate, block, slope in zip(from_loss, gates.chunk(4, 2), onto_gates.chunk(4, 2), slopes, strict=True):
        if gradient is not None:
            slope(gradient, gate, grad_input=block)
    return onto_gates
