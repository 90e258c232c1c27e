r"""The simple recurrent net, twice: the equation to read, and layers to train.

:class:`ElmanCell` is the loop on the slide, one turn of it. :class:`RNNStack` computes the same with ``nn.RNN``; its
:meth:`~RNNStack.record` shows what every unit does along a sequence.

B batch, T time steps, D input width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

__all__ = ["ElmanCell", "RNNStack", "State", "Units"]

State = tuple[Tensor, ...]


class Units(NamedTuple):
    r"""What happens inside a recurrent layer, each field (B, T, H).

    Args:
        hidden: The states :math:`h_t = \tanh(u_t + v_t)`.
        from_input: What the input contributes, :math:`u_t = W_x x_t + b`.
        from_context: What the state before contributes, :math:`v_t = W_h h_{t-1}`.
        slope: The tanh's slope :math:`1 - h_t^2`, with which a gradient is multiplied on its way back through the unit.
    """

    hidden: Tensor
    from_input: Tensor
    from_context: Tensor
    slope: Tensor


class ElmanCell(nn.Module):
    r"""One turn of the loop: the new context from the old one and the input.

    .. math::
        h_t = f(h_{t-1}, x_t) = \tanh(W \cdot [h_{t-1}, x_t] + b)

    What the net predicts, :math:`p_t = g(h_t)`, is left to whoever uses the cell. Unrolled over T steps the loop is a
    chain of T layers with the same weights. On its way back along the chain, the gradient is multiplied at every step
    with :math:`W_h^\top \operatorname{diag}(1 - h_t^2)`: it vanishes where this shrinks, and explodes where it grows.

    References:
        | Finding Structure in Time (Elman, 1990)
        | Untersuchungen zu dynamischen neuronalen Netzen (Hochreiter, 1991), and Learning Long-Term Dependencies with
          Gradient Descent is Difficult (Bengio, Simard & Frasconi, 1994), for the gradient

    Args:
        input_size: Width D of the input :math:`x_t`.
        hidden_size: Width H of the state :math:`h_t`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.loop = nn.Linear(hidden_size + input_size, hidden_size)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """Take one step.

        Args:
            x: Input (B, D).
            h: State of the step before (B, H).

        Returns:
            The state (B, H).
        """
        return torch.tanh(self.loop(torch.cat((h, x), dim=1)))  # (B, H+D) -> (B, H)

    @classmethod
    def from_torch(cls, rnn: nn.RNN, layer: int = 0) -> Self:
        """A cell with a copy of the weights of one layer of an ``nn.RNN``.

        Args:
            rnn: With tanh, with biases, in one direction.
            layer: Which of its layers, from 0.

        Raises:
            ValueError: If the layer does not exist, or does not compute this equation.
        """
        if rnn.nonlinearity != "tanh" or not rnn.bias or rnn.bidirectional:
            raise ValueError(f"{rnn} has another equation; give one with tanh, biases and one direction")
        if not 0 <= layer < rnn.num_layers:
            raise ValueError(f"layer is {layer}; give 0 to {rnn.num_layers - 1}")
        w_ih, w_hh, b_ih, b_hh = (parameter.detach() for parameter in rnn.all_weights[layer])
        cell = cls(w_ih.shape[1], w_hh.shape[1]).to(w_ih)
        cell.loop.load_state_dict({"weight": torch.cat((w_hh, w_ih), dim=1), "bias": b_ih + b_hh})
        return cell


class RNNStack(nn.RNN):
    r"""Simple recurrent layers, one upon the other, that start well and tell what their units do.

    An orthogonal matrix neither shrinks nor grows what it is multiplied with, so at the start the state and the
    gradient fade only by the slope of the tanh. torch's own start has a spectral radius of about 0.58 and forgets
    within ten steps.

    References:
        | Finding Structure in Time (Elman, 1990)
        | Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (Saxe, McClelland &
          Ganguli, 2014), for the orthogonal matrices
        | A Simple Way to Initialize Recurrent Networks of Rectified Linear Units (Le, Jaitly & Hinton, 2015), for the
          same thought in recurrent nets, there with the identity
        | Recurrent Neural Network Regularization (Zaremba, Sutskever & Vinyals, 2014), for dropout between layers

    Args:
        input_size: Width D of the inputs.
        hidden_size: Width H of each layer's state.
        num_layers: Layers L.
        dropout: Probability in [0, 1] that an activation is dropped between layers, never along time.
        orthogonal: Whether the recurrent matrices start orthogonal, or else as torch starts them, uniform in
            :math:`\pm 1 / \sqrt H`.

    Raises:
        ValueError: If a size is not positive, or the dropout is no probability.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        orthogonal: bool = True,
    ) -> None:
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(f"a size is not positive: {input_size=}, {hidden_size=}, {num_layers=}")
        between_layers = dropout if num_layers > 1 else 0.0  # with one layer there is no between
        super().__init__(input_size, hidden_size, num_layers, batch_first=True, dropout=between_layers)
        self.reset_recurrence(orthogonal)

    @torch.no_grad()
    def reset_recurrence(self, orthogonal: bool = True) -> None:
        """Start the recurrent weights and the biases anew.

        Args:
            orthogonal: Whether the recurrent matrices start orthogonal; otherwise they are left as they are.
        """
        for _, w_hh, b_ih, b_hh in self.all_weights:
            if orthogonal:
                nn.init.orthogonal_(w_hh)
            nn.init.zeros_(b_ih)
            nn.init.zeros_(b_hh)

    def forward(  # type: ignore[override]
        self, x: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Run over a sequence.

        Args:
            x: Inputs (B, T, D).
            state: The state to go on from, one tensor (L, B, H); zeros when left out.

        Returns:
            States of the last layer (B, T, H), and the state after the last step (L, B, H), as a tuple of one.
        """
        hidden, h = super().forward(x, None if state is None else state[0])
        return hidden, (h,)

    def record(self, x: Tensor, state: State | None = None) -> list[Units]:
        """What every unit of every layer does at every step; differentiable, and the forward pass itself.

        Args:
            x: Inputs (B, T, D).
            state: The state to go on from, one tensor (L, B, H); zeros when left out.

        Returns:
            One record per layer, each field (B, T, H).
        """
        starts = x.new_zeros(self.num_layers, len(x), self.hidden_size) if state is None else state[0]
        records: list[Units] = []
        for layer, weights in enumerate(self.all_weights):
            if layer:
                x = nn.functional.dropout(x, self.dropout, self.training)
            h0 = starts[layer : layer + 1]
            hidden, _ = torch.rnn_tanh(x, h0, [*weights], True, 1, 0.0, self.training, False, True)
            records.append(_units(x, h0[0], hidden, *weights))
            x = hidden
        return records


def _units(x: Tensor, h0: Tensor, hidden: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Units:
    """The terms of one layer's equation, from its inputs (B, T, D), its start (B, H) and its states (B, T, H)."""
    before = torch.cat((h0[:, None], hidden[:, :-1]), dim=1)  # h_{t-1}
    from_input = nn.functional.linear(x, w_ih, b_ih + b_hh)
    return Units(hidden, from_input, nn.functional.linear(before, w_hh), 1 - hidden.square())
