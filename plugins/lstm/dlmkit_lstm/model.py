r"""Long short-term memory, twice: the six equations to read, and layers to train.

:class:`LSTMCell` is one step as the paper writes it. :class:`LSTMStack` computes the same with ``nn.LSTM``; its
:meth:`~LSTMStack.record` shows what every gate does along a sequence.

B batch, T time steps, D input width, H hidden width, L layers.
"""

from __future__ import annotations

from functools import partial
from typing import Self

import torch
from torch import Tensor, nn

from dlmkit_lstm.gates import BLOCKS, Gates, recorded_lstm
from dlmkit_lstm.stack import State, copy_gates, record_layers, reset_recurrence, thinned

__all__ = ["Gates", "LSTMCell", "LSTMStack", "State"]


class LSTMCell(nn.Module):
    r"""One step of an LSTM.

    .. math::
        f_t &= \sigma(W_f \cdot [h_{t-1}, x_t] + b_f) \\
        i_t &= \sigma(W_i \cdot [h_{t-1}, x_t] + b_i) \\
        \tilde C_t &= \tanh(W_C \cdot [h_{t-1}, x_t] + b_C) \\
        C_t &= f_t * C_{t-1} + i_t * \tilde C_t \\
        o_t &= \sigma(W_o \cdot [h_{t-1}, x_t] + b_o) \\
        h_t &= o_t * \tanh(C_t)

    Along :math:`C_t` the gradient is only multiplied with :math:`f_t`. Where the forget gate is open it neither
    vanishes nor explodes, however many steps it travels.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997)
        | Learning to Forget: Continual Prediction with LSTM (Gers, Schmidhuber & Cummins, 2000), for the forget gate

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
        f = torch.sigmoid(self.forget(hx))
        i = torch.sigmoid(self.input(hx))
        candidate = torch.tanh(self.candidate(hx))
        c = f * c + i * candidate
        o = torch.sigmoid(self.output(hx))
        h = o * torch.tanh(c)
        return h, c, Gates(f, i, candidate, o, c, h)

    @classmethod
    def from_torch(cls, lstm: nn.LSTM, layer: int = 0) -> Self:
        """A cell with a copy of the weights of one layer of an ``nn.LSTM``.

        Args:
            lstm: With biases, in one direction and without projection.
            layer: Which of its layers, from 0.

        Raises:
            ValueError: If the layer does not exist, or does not compute these six equations.
        """
        if not lstm.bias or lstm.bidirectional or lstm.proj_size:
            raise ValueError(f"{lstm} has other equations; give one with biases, one direction and no projection")
        if not 0 <= layer < lstm.num_layers:
            raise ValueError(f"layer is {layer}; give 0 to {lstm.num_layers - 1}")
        weights = lstm.all_weights[layer]
        cell = cls(weights[0].shape[1], lstm.hidden_size).to(weights[0])
        copy_gates(weights, (cell.input, cell.forget, cell.candidate, cell.output))
        return cell


class LSTMStack(nn.LSTM):
    r"""LSTM layers, one upon the other, that start well, can be regularised, and tell what their gates do.

    The weights start so that both the state and the gradient last: the recurrent matrix of each gate is orthogonal,
    the biases are zero, and the forget gate's bias is positive, which leaves that gate open.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997)
        | Learning to Forget: Continual Prediction with LSTM (Gers, Schmidhuber & Cummins, 2000), for the forget gate
          and its bias
        | Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (Saxe, McClelland &
          Ganguli, 2014), for the orthogonal matrices
        | An Empirical Exploration of Recurrent Network Architectures (Jozefowicz, Zaremba & Sutskever, 2015), for
          a forget bias of 1
        | Recurrent Neural Network Regularization (Zaremba, Sutskever & Vinyals, 2014), for dropout between layers
        | Regularizing and Optimizing LSTM Language Models (Merity, Keskar & Socher, 2018), section 2: recurrent
          weights that are dropped, once for a whole batch

    Args:
        input_size: Width D of the inputs.
        hidden_size: Width H of each layer's states.
        num_layers: Layers L.
        dropout: Probability in [0, 1] that an activation is dropped between layers, never along time.
        forget_bias: What the forget gate's two biases sum to at the start.
        weight_dropout: Probability in [0, 1] that a recurrent weight is dropped for one batch.
        orthogonal: Whether the recurrent matrix of each gate starts orthogonal, or else as torch starts it, uniform in
            :math:`\pm 1 / \sqrt H`.

    Raises:
        ValueError: If a size is not positive, or a dropout is no probability.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        forget_bias: float = 1.0,
        weight_dropout: float = 0.0,
        orthogonal: bool = True,
    ) -> None:
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}; give a probability from 0 to 1")
        between_layers = dropout if num_layers > 1 else 0.0  # with one layer there is no between
        super().__init__(input_size, hidden_size, num_layers, batch_first=True, dropout=between_layers)
        self.weight_dropout = nn.Dropout(weight_dropout)
        reset_recurrence(self.all_weights, BLOCKS, forget_bias, orthogonal)

    def forward(  # type: ignore[override]
        self, x: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Run over a sequence.

        Args:
            x: Inputs (B, T, D).
            state: Hidden and cell state to go on from, each (L, B, H); zeros when left out.

        Returns:
            Hidden states of the last layer (B, T, H), and the states after the last step, each (L, B, H).
        """
        if not (self.training and self.weight_dropout.p):
            return super().forward(x, None if state is None else (state[0], state[1]))
        start = self._start(x) if state is None else state
        layers = thinned(self.all_weights, self.weight_dropout)
        weights = [weight for layer in layers for weight in layer]
        biases, training, both_ways, batch_first = True, True, False, True
        options = (biases, self.num_layers, self.dropout, training, both_ways, batch_first)
        hidden, h, c = torch.lstm(x, start, weights, *options)
        return hidden, (h, c)

    def record(self, x: Tensor, state: State | None = None) -> list[Gates]:
        """What every gate of every layer does at every step; differentiable.

        Args:
            x: Inputs (B, T, D).
            state: Hidden and cell state to go on from, each (L, B, H); zeros when left out.

        Returns:
            One record per layer, each field (B, T, H).
        """
        layers = thinned(self.all_weights, self.weight_dropout)
        start = self._start(x) if state is None else state
        between_layers = partial(nn.functional.dropout, p=self.dropout, training=self.training)
        return record_layers(recorded_lstm, x, start, layers, between_layers)

    def _start(self, x: Tensor) -> State:
        zeros = x.new_zeros(self.num_layers, len(x), self.hidden_size)
        return zeros, zeros
