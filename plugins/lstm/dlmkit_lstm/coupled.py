r"""The LSTM that stores as much as it forgets: the equations to read, and layers to train.

:class:`CoupledLSTMCell` is one step as the equations write it. :class:`CoupledLSTMStack` computes the same over a
sequence, its backward pass through time written by hand: torch has no kernel for it.

B batch, T time steps, D input width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from dlmkit_lstm.stack import RecordedStack, copy_gates
from dlmkit_lstm.through_time import FromLoss, Tape, recorded, sigmoid_slope, tanh_into, tanh_slope

__all__ = ["CoupledGates", "CoupledLSTMCell", "CoupledLSTMStack"]


class CoupledGates(NamedTuple):
    r"""What an LSTM layer with coupled gates computes: each field (B, H) for one step, (B, T, H) for a sequence.

    Args:
        forget: :math:`f_t` in (0, 1), how much of the cell is kept; :math:`1 - f_t` of the candidate is stored.
        candidate: :math:`\tilde C_t` in (-1, 1), what could be stored.
        output: :math:`o_t` in (0, 1), how much of the cell is told.
        cell: :math:`C_t`, the memory.
        hidden: :math:`h_t` in (-1, 1), what is told.
    """

    forget: Tensor
    candidate: Tensor
    output: Tensor
    cell: Tensor
    hidden: Tensor


class CoupledLSTMCell(nn.Module):
    r"""One step of an LSTM with coupled gates.

    .. math::
        f_t &= \sigma(W_f \cdot [h_{t-1}, x_t] + b_f) \\
        \tilde C_t &= \tanh(W_C \cdot [h_{t-1}, x_t] + b_C) \\
        C_t &= f_t * C_{t-1} + (1 - f_t) * \tilde C_t \\
        o_t &= \sigma(W_o \cdot [h_{t-1}, x_t] + b_o) \\
        h_t &= o_t * \tanh(C_t)

    There is no input gate: :math:`i_t = 1 - f_t`. Room is made for exactly what comes in, a quarter of the weights is
    saved, and the cell is a weighted mean, so it stays in (-1, 1) if it starts there. (The paper's net also has
    peepholes; here nothing but the coupling differs from the LSTM.)

    References:
        | LSTM: A Search Space Odyssey (Greff, Srivastava, Koutník, Steunebrink & Schmidhuber, 2017), the variant CIFG

    Args:
        input_size: Width D of the input :math:`x_t`.
        hidden_size: Width H of the states :math:`h_t` and :math:`C_t`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forget = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate = nn.Linear(hidden_size + input_size, hidden_size)
        self.output = nn.Linear(hidden_size + input_size, hidden_size)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, CoupledGates]:
        """Take one step.

        Args:
            x: Input (B, D).
            state: Hidden and cell state of the step before, each (B, H).

        Returns:
            The hidden state, the cell state, and with them all gates, each (B, H).
        """
        h, c = state
        hx = torch.cat((h, x), dim=1)  # (B, H+D)
        f = torch.sigmoid(self.forget(hx))
        candidate = torch.tanh(self.candidate(hx))
        c = f * c + (1 - f) * candidate
        o = torch.sigmoid(self.output(hx))
        h = o * torch.tanh(c)
        return h, c, CoupledGates(f, candidate, o, c, h)

    @classmethod
    def from_stack(cls, stack: CoupledLSTMStack, layer: int = 0) -> Self:
        """A cell with a copy of the weights of one layer of a stack.

        Args:
            stack: The layers.
            layer: Which of them, from 0.

        Raises:
            ValueError: If the layer does not exist.
        """
        cell = cls(*stack.sizes(layer)).to(stack.all_weights[0][0])
        copy_gates(stack.all_weights[layer], (cell.forget, cell.candidate, cell.output))
        return cell


class CoupledLSTMStack(RecordedStack):
    r"""Layers of LSTM with coupled gates, one upon the other.

    The parameters are named as those of ``nn.LSTM``, with three blocks of H rows for :math:`f, \tilde C, o`.

    References:
        | LSTM: A Search Space Odyssey (Greff, Srivastava, Koutník, Steunebrink & Schmidhuber, 2017), the variant CIFG

    Args:
        input_size: Width D of the inputs.
        hidden_size: Width H of each layer's states.
        num_layers: Layers L.
        dropout: Probability in [0, 1] that an activation is dropped between layers, never along time.
        forget_bias: What the forget gate's two biases sum to at the start; what it keeps open it keeps shut for what
            comes in.
        weight_dropout: Probability in [0, 1] that a recurrent weight is dropped for one batch.
        orthogonal: Whether the recurrent matrix of each gate starts orthogonal, or else as torch starts it, uniform in
            :math:`\pm 1 / \sqrt H`.

    Raises:
        ValueError: If a size is not positive, or a dropout is no probability.
    """

    blocks: ClassVar[tuple[str, ...]] = ("forget", "candidate", "output")

    def run(self, x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> CoupledGates:
        """One layer over a sequence."""
        return CoupledGates(**recorded(_Equations(), x, h, c, *weights))  # type: ignore[arg-type]


class _Equations:
    blocks = CoupledLSTMStack.blocks

    def forward(self, tape: Tape, w_hh: Tensor) -> None:
        """Step by step; tanh(a) = 2 σ(2a) - 1 lets one call serve all three gates."""
        f, g, o = (a.unbind(0) for a in tape.gates.chunk(3, dim=2))
        step, h, c, tanh_c = (a.unbind(0) for a in tape)
        minus_one = w_hh.new_tensor(-1.0)
        for t in range(len(step)):
            step[t].addmm_(h[t], w_hh)  # (B, H) x (H, 3H) -> (B, 3H)
            g[t].add_(g[t])
            step[t].sigmoid_()
            torch.add(minus_one, g[t], alpha=2, out=g[t])
            torch.lerp(g[t], c[t], f[t], out=c[t + 1])  # C̃ + f * (C - C̃)
            tanh_into(tanh_c[t], c[t + 1], minus_one)
            torch.mul(o[t], tanh_c[t], out=h[t + 1])

    def backward(self, tape: Tape, from_loss: FromLoss, w_hh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step by step, from the last."""
        delta = torch.empty_like(tape.gates)
        f, g, o = (a.unbind(0) for a in tape.gates.chunk(3, dim=2))
        df, dg, do = (a.unbind(0) for a in delta.chunk(3, dim=2))
        step, c, tanh_c = delta.unbind(0), tape.cells.unbind(0), tape.squashed.unbind(0)
        dh, dc = torch.zeros_like(tanh_c[0]), torch.zeros_like(tanh_c[0])
        by_cell, difference, stored = torch.empty_like(dh), torch.empty_like(dh), torch.empty_like(dh)
        for t in reversed(range(len(step))):
            if from_loss.hidden is not None:
                dh.add_(from_loss.hidden[t])
            if from_loss.cells is not None:
                dc.add_(from_loss.cells[t])
            dc.addcmul_(dh, tanh_slope(o[t], tanh_c[t], grad_input=by_cell))
            torch.sub(c[t], g[t], out=difference).mul_(dc)
            sigmoid_slope(difference, f[t], grad_input=df[t])
            torch.mul(dc, f[t], out=by_cell)  # what stays in the cell; the rest goes to the candidate
            tanh_slope(torch.sub(dc, by_cell, out=stored), g[t], grad_input=dg[t])
            sigmoid_slope(tanh_c[t], o[t], grad_input=do[t]).mul_(dh)
            if from_loss.gates is not None:
                step[t].add_(from_loss.gates[t])
            dc, by_cell = by_cell, dc
            torch.mm(step[t], w_hh, out=dh)  # (B, 3H) x (3H, H) -> (B, H)
        return delta, dh, dc

    def gradients(self, delta: Tensor, tape: Tape) -> tuple[Tensor, ...]:
        """There are no further weights."""
        return ()
