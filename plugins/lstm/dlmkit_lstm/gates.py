r"""An LSTM layer that keeps every gate of every step, at nearly the speed of ``nn.LSTM``.

B batch, T time steps, D input width, H hidden width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dlmkit_lstm.through_time import FromLoss, Tape, recorded, sigmoid_slope, tanh_into, tanh_slope

__all__ = ["BLOCKS", "Gates", "recorded_lstm"]

BLOCKS = ("input", "forget", "candidate", "output")
"""The order in which torch stacks an LSTM's gates."""


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
        ValueError: If there is no step.
    """
    return Gates(**recorded(_Equations(), x, h0, c0, w_ih, w_hh, b_ih, b_hh))  # type: ignore[arg-type]


class _Equations:
    blocks = BLOCKS

    def forward(self, tape: Tape, w_hh: Tensor) -> None:
        """Step by step; tanh(a) = 2 σ(2a) - 1 lets one call serve all four gates."""
        i, f, g, o = (a.unbind(0) for a in tape.gates.chunk(4, dim=2))
        step, h, c, tanh_c = (a.unbind(0) for a in tape)
        minus_one = w_hh.new_tensor(-1.0)
        for t in range(len(step)):
            step[t].addmm_(h[t], w_hh)  # (B, H) x (H, 4H) -> (B, 4H)
            g[t].add_(g[t])
            step[t].sigmoid_()
            torch.add(minus_one, g[t], alpha=2, out=g[t])
            torch.mul(f[t], c[t], out=c[t + 1]).addcmul_(i[t], g[t])
            tanh_into(tanh_c[t], c[t + 1], minus_one)
            torch.mul(o[t], tanh_c[t], out=h[t + 1])

    def backward(self, tape: Tape, from_loss: FromLoss, w_hh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step by step, from the last."""
        size = w_hh.shape[1]
        delta = torch.empty_like(tape.gates)
        i, f, g, o = (a.unbind(0) for a in tape.gates.chunk(4, dim=2))
        di, df, dg, do = (a.unbind(0) for a in delta.chunk(4, dim=2))
        # i, f and C̃ act through the cell and share its gradient; o acts on the hidden state.
        through_cell = delta[:, :, : 3 * size].unflatten(2, (3, size)).unbind(0)
        step, c, tanh_c = delta.unbind(0), tape.cells.unbind(0), tape.squashed.unbind(0)
        dh, dc = torch.zeros_like(tanh_c[0]), torch.zeros_like(tanh_c[0])
        by_cell = torch.empty_like(dh)
        for t in reversed(range(len(step))):
            if from_loss.hidden is not None:
                dh.add_(from_loss.hidden[t])
            if from_loss.cells is not None:
                dc.add_(from_loss.cells[t])
            dc.addcmul_(dh, tanh_slope(o[t], tanh_c[t], grad_input=by_cell))
            sigmoid_slope(g[t], i[t], grad_input=di[t])
            sigmoid_slope(c[t], f[t], grad_input=df[t])
            tanh_slope(i[t], g[t], grad_input=dg[t])
            through_cell[t].mul_(dc.unsqueeze(1))
            sigmoid_slope(tanh_c[t], o[t], grad_input=do[t]).mul_(dh)
            if from_loss.gates is not None:
                step[t].add_(from_loss.gates[t])
            dc.mul_(f[t])
            torch.mm(step[t], w_hh, out=dh)  # (B, 4H) x (4H, H) -> (B, H)
        return delta, dh, dc

    def gradients(self, delta: Tensor, tape: Tape) -> tuple[Tensor, ...]:
        """There are no further weights."""
        return ()
