r"""The LSTM whose gates see the cell: the equations to read, and layers to train.

:class:`PeepholeLSTMCell` is one step as the equations write it. :class:`PeepholeLSTMStack` computes the same over a
sequence, its backward pass through time written by hand: torch has no kernel for it.

B batch, T time steps, D input width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from dlmkit_lstm.gates import BLOCKS, Gates
from dlmkit_lstm.stack import RecordedStack, copy_gates
from dlmkit_lstm.through_time import FromLoss, Tape, recorded, sigmoid_slope, tanh_into, tanh_slope

__all__ = ["PeepholeLSTMCell", "PeepholeLSTMStack"]


class PeepholeLSTMCell(nn.Module):
    r"""One step of an LSTM with peepholes.

    .. math::
        f_t &= \sigma(W_f \cdot [h_{t-1}, x_t] + p_f * C_{t-1} + b_f) \\
        i_t &= \sigma(W_i \cdot [h_{t-1}, x_t] + p_i * C_{t-1} + b_i) \\
        \tilde C_t &= \tanh(W_C \cdot [h_{t-1}, x_t] + b_C) \\
        C_t &= f_t * C_{t-1} + i_t * \tilde C_t \\
        o_t &= \sigma(W_o \cdot [h_{t-1}, x_t] + p_o * C_t + b_o) \\
        h_t &= o_t * \tanh(C_t)

    The gates of a plain LSTM see only what the output gate lets through; while it is shut they are blind to the memory
    that they guard. Through a peephole each unit's gates see that unit's own cell: :math:`p` is a vector, a diagonal
    matrix of weights. The output gate sees the cell as it is now, the other two as it was before.

    References:
        | Recurrent Nets that Time and Count (Gers & Schmidhuber, 2000)
        | Generating Sequences With Recurrent Neural Networks (Graves, 2013), equations 7 to 11, for this form, with a
          tanh on the cell and the whole gradient

    Args:
        input_size: Width D of the input :math:`x_t`.
        hidden_size: Width H of the states :math:`h_t` and :math:`C_t`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.forget = nn.Linear(hidden_size + input_size, hidden_size)
        self.input = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate = nn.Linear(hidden_size + input_size, hidden_size)
        self.output = nn.Linear(hidden_size + input_size, hidden_size)
        self.forget_peephole = nn.Parameter(torch.zeros(hidden_size))
        self.input_peephole = nn.Parameter(torch.zeros(hidden_size))
        self.output_peephole = nn.Parameter(torch.zeros(hidden_size))

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Gates]:
        """Take one step.

        Args:
            x: Input (B, D).
            state: Hidden and cell state of the step before, each (B, H).

        Returns:
            The hidden state, the cell state, and with them all gates, each (B, H).
        """
        h, c = state
        hx = torch.cat((h, x), dim=1)  # (B, H+D)
        f = torch.sigmoid(self.forget(hx) + self.forget_peephole * c)
        i = torch.sigmoid(self.input(hx) + self.input_peephole * c)
        candidate = torch.tanh(self.candidate(hx))
        c = f * c + i * candidate
        o = torch.sigmoid(self.output(hx) + self.output_peephole * c)
        h = o * torch.tanh(c)
        return h, c, Gates(f, i, candidate, o, c, h)

    @classmethod
    def from_stack(cls, stack: PeepholeLSTMStack, layer: int = 0) -> Self:
        """A cell with a copy of the weights of one layer of a stack.

        Args:
            stack: The layers.
            layer: Which of them, from 0.

        Raises:
            ValueError: If the layer does not exist.
        """
        cell = cls(*stack.sizes(layer)).to(stack.all_weights[0][0])
        copy_gates(stack.all_weights[layer], (cell.input, cell.forget, cell.candidate, cell.output))
        *_, peepholes = stack.all_weights[layer]
        with torch.no_grad():
            for ours, theirs in zip(
                (cell.input_peephole, cell.forget_peephole, cell.output_peephole), peepholes, strict=True
            ):
                ours.copy_(theirs)
        return cell


class PeepholeLSTMStack(RecordedStack):
    r"""Layers of LSTM with peepholes, one upon the other.

    Beside the parameters of ``nn.LSTM`` each layer k has ``peephole_l{k}`` (3, H): :math:`p_i, p_f, p_o`. They start at
    zero, where the layer is an LSTM, so that it differs from one by what it learns.

    References:
        | Recurrent Nets that Time and Count (Gers & Schmidhuber, 2000)
        | Generating Sequences With Recurrent Neural Networks (Graves, 2013), equations 7 to 11

    Args:
        input_size: Width D of the inputs.
        hidden_size: Width H of each layer's states.
        num_layers: Layers L.
        dropout: Probability in [0, 1] that an activation is dropped between layers, never along time.
        forget_bias: What the forget gate's two biases sum to at the start.
        weight_dropout: Probability in [0, 1] that a recurrent weight is dropped for one batch; peepholes are kept.
        orthogonal: Whether the recurrent matrix of each gate starts orthogonal, or else as torch starts it, uniform in
            :math:`\pm 1 / \sqrt H`.

    Raises:
        ValueError: If a size is not positive, or a dropout is no probability.
    """

    blocks: ClassVar[tuple[str, ...]] = BLOCKS
    further: ClassVar[tuple[str, ...]] = ("peephole",)

    def add_further(self, layer: int) -> None:
        """Register the peepholes of a layer."""
        self.register_parameter(f"peephole_l{layer}", nn.Parameter(torch.zeros(3, self.hidden_size)))

    def run(self, x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> Gates:
        """One layer over a sequence."""
        return Gates(**recorded(_Equations(), x, h, c, *weights))  # type: ignore[arg-type]


class _Equations:
    blocks = BLOCKS

    def forward(self, tape: Tape, w_hh: Tensor, peepholes: Tensor) -> None:
        """Step by step; the output gate waits for the cell."""
        size = len(w_hh)
        i, f, g, o = (a.unbind(0) for a in tape.gates.chunk(4, dim=2))
        sees_before = tape.gates[:, :, : 2 * size].unflatten(2, (2, size)).unbind(0)
        without_output = tape.gates[:, :, : 3 * size].unbind(0)
        step, h, c, tanh_c = (a.unbind(0) for a in tape)
        minus_one = w_hh.new_tensor(-1.0)
        for t in range(len(step)):
            step[t].addmm_(h[t], w_hh)  # (B, H) x (H, 4H) -> (B, 4H)
            sees_before[t].addcmul_(peepholes[:2], c[t].unsqueeze(1))
            g[t].add_(g[t])
            without_output[t].sigmoid_()
            torch.add(minus_one, g[t], alpha=2, out=g[t])
            torch.mul(f[t], c[t], out=c[t + 1]).addcmul_(i[t], g[t])
            o[t].addcmul_(peepholes[2], c[t + 1]).sigmoid_()
            tanh_into(tanh_c[t], c[t + 1], minus_one)
            torch.mul(o[t], tanh_c[t], out=h[t + 1])

    def backward(
        self, tape: Tape, from_loss: FromLoss, w_hh: Tensor, peepholes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Step by step, from the last; what reaches a gate goes on through its peephole into the cell."""
        size = w_hh.shape[1]
        delta = torch.empty_like(tape.gates)
        i, f, g, o = (a.unbind(0) for a in tape.gates.chunk(4, dim=2))
        di, df, dg, do = (a.unbind(0) for a in delta.chunk(4, dim=2))
        through_cell = delta[:, :, : 3 * size].unflatten(2, (3, size)).unbind(0)
        step, c, tanh_c = delta.unbind(0), tape.cells.unbind(0), tape.squashed.unbind(0)
        dh, dc = torch.zeros_like(tanh_c[0]), torch.zeros_like(tanh_c[0])
        by_cell = torch.empty_like(dh)
        p_i, p_f, p_o = peepholes
        loss_by_gates = None if from_loss.gates is None else from_loss.gates.split((3 * size, size), dim=2)
        for t in reversed(range(len(step))):
            if from_loss.hidden is not None:
                dh.add_(from_loss.hidden[t])
            if from_loss.cells is not None:
                dc.add_(from_loss.cells[t])
            sigmoid_slope(tanh_c[t], o[t], grad_input=do[t]).mul_(dh)
            if loss_by_gates is not None:
                do[t].add_(loss_by_gates[1][t])
            dc.addcmul_(dh, tanh_slope(o[t], tanh_c[t], grad_input=by_cell)).addcmul_(do[t], p_o)
            sigmoid_slope(g[t], i[t], grad_input=di[t])
            sigmoid_slope(c[t], f[t], grad_input=df[t])
            tanh_slope(i[t], g[t], grad_input=dg[t])
            through_cell[t].mul_(dc.unsqueeze(1))
            if loss_by_gates is not None:
                through_cell[t].flatten(1).add_(loss_by_gates[0][t])
            dc.mul_(f[t]).addcmul_(di[t], p_i).addcmul_(df[t], p_f)
            torch.mm(step[t], w_hh, out=dh)  # (B, 4H) x (4H, H) -> (B, H)
        return delta, dh, dc

    def gradients(self, delta: Tensor, tape: Tape) -> tuple[Tensor, ...]:
        """Each peephole's is the sum over steps and sequences of what reached its gate, times the cell it saw."""
        i, f, _, o = delta.chunk(4, dim=2)
        before, now = tape.cells[:-1], tape.cells[1:]
        seen = ((i, before), (f, before), (o, now))
        return (torch.stack([(gate * cell).sum(dim=(0, 1)) for gate, cell in seen]),)
