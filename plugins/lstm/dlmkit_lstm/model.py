r"""Long short-term memory, twice: the six equations to read, and a character model to train.

:class:`LSTMCell` is one step as the paper writes it. :class:`CharacterLSTM` computes the same with ``nn.LSTM``; its
:meth:`~CharacterLSTM.gates` shows what every gate does along a text.

B batch, T time steps, D input width, H hidden width, L layers, V vocabulary.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from dlmkit_lstm.gates import Gates, recorded_lstm

__all__ = ["CharacterLSTM", "Gates", "LSTMCell"]


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
        w_ih, w_hh, b_ih, b_hh = (parameter.detach() for parameter in lstm.all_weights[layer])
        cell = cls(w_ih.shape[1], w_hh.shape[1]).to(w_ih)
        weights, biases = torch.cat((w_hh, w_ih), dim=1).chunk(4), (b_ih + b_hh).chunk(4)
        gates = (cell.input, cell.forget, cell.candidate, cell.output)  # the order in which torch stacks them
        for gate, weight, bias in zip(gates, weights, biases, strict=True):
            gate.load_state_dict({"weight": weight, "bias": bias})
        return cell


class CharacterLSTM(nn.Module):
    """Predicts the next symbol of a sequence: embedding, LSTM layers, linear read-out.

    The weights start so that both the state and the gradient last: the recurrent matrix of each gate is orthogonal,
    the biases are zero, and the forget gate's bias is positive, which leaves that gate open.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997)
        | Learning to Forget: Continual Prediction with LSTM (Gers, Schmidhuber & Cummins, 2000), for the forget
          gate and its bias
        | Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (Saxe, McClelland &
          Ganguli, 2014), for the orthogonal matrices
        | An Empirical Exploration of Recurrent Network Architectures (Jozefowicz, Zaremba & Sutskever, 2015), for
          a forget bias of 1
        | Recurrent Neural Network Regularization (Zaremba, Sutskever & Vinyals, 2014), for where dropout goes
        | Regularizing and Optimizing LSTM Language Models (Merity, Keskar & Socher, 2018), section 2: recurrent
          weights that are dropped, once for a whole batch

    Args:
        vocab_size: Number of symbols V.
        hidden_size: Width H of each layer's states.
        num_layers: Layers L, one upon the other.
        embedding_size: Width D of a symbol's embedding; when left out, ``hidden_size``.
        dropout: Probability in [0, 1] that an activation is dropped between layers and before the read-out, never
            along time.
        forget_bias: What the forget gate's two biases sum to at the start.
        embedding_dropout: Probability in [0, 1] that an activation of the embedding is dropped.
        weight_dropout: Probability in [0, 1] that a recurrent weight is dropped for one batch.

    Raises:
        ValueError: If a size is not positive, or a dropout is no probability.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        embedding_size: int | None = None,
        dropout: float = 0.0,
        forget_bias: float = 1.0,
        embedding_dropout: float = 0.0,
        weight_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        embedding_size = hidden_size if embedding_size is None else embedding_size
        if min(vocab_size, hidden_size, num_layers, embedding_size) < 1:
            sizes = f"{vocab_size=}, {hidden_size=}, {num_layers=}, {embedding_size=}"
            raise ValueError(f"a size is not positive: {sizes}")
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        between_layers = dropout if num_layers > 1 else 0.0  # with one layer there is no between
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True, dropout=between_layers)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.weight_dropout = nn.Dropout(weight_dropout)
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(hidden_size, vocab_size)
        self.reset_recurrence(forget_bias)

    @torch.no_grad()
    def reset_recurrence(self, forget_bias: float) -> None:
        """Start the recurrent weights and the biases anew.

        Args:
            forget_bias: What the forget gate's two biases sum to.
        """
        for _, w_hh, b_ih, b_hh in self.lstm.all_weights:
            for gate in w_hh.chunk(4):
                nn.init.orthogonal_(gate)
            nn.init.zeros_(b_ih)
            nn.init.zeros_(b_hh)
            b_ih.chunk(4)[1].fill_(forget_bias)  # torch stacks i, f, C̃, o and adds both biases

    def forward(
        self, tokens: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Predict what follows each symbol.

        Args:
            tokens: (B, T) int64, from 0 to V - 1.
            state: Hidden and cell state to go on from, each (L, B, H); zeros when left out.

        Returns:
            Logits (B, T, V), and the states after the last step, each (L, B, H).

        Raises:
            IndexError: If a token is not in the vocabulary.
        """
        x = self.embedding_dropout(self.embedding(tokens))  # (B, T, D)
        if self.training and self.weight_dropout.p:
            hidden, state = self._with_dropped_weights(x, state)
        else:
            hidden, state = self.lstm(x, state)  # (B, T, D) -> (B, T, H)
        return self.readout(self.dropout(hidden)), state

    def _with_dropped_weights(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What ``self.lstm`` computes, its recurrent weights thinned out for this batch."""
        lstm = self.lstm
        weights = [w for layer in self._weights() for w in layer]
        start = self._start(x) if state is None else state
        options = (True, lstm.num_layers, lstm.dropout, True, False, True)  # biases, ..., training, one way, batch first
        hidden, h, c = torch.lstm(x, start, weights, *options)
        return hidden, (h, c)

    def _weights(self) -> list[tuple[Tensor, ...]]:
        """The weights of every layer as they count in this pass: w_ih, w_hh, b_ih, b_hh."""
        return [(w_ih, self.weight_dropout(w_hh), *biases) for w_ih, w_hh, *biases in self.lstm.all_weights]

    def _start(self, x: Tensor) -> tuple[Tensor, Tensor]:
        zeros = x.new_zeros(self.lstm.num_layers, len(x), self.lstm.hidden_size)
        return zeros, zeros

    def gates(self, tokens: Tensor, state: tuple[Tensor, Tensor] | None = None) -> list[Gates]:
        """What every gate of every layer does at every symbol; differentiable.

        Args:
            tokens: (B, T) int64, from 0 to V - 1.
            state: Hidden and cell state to go on from, each (L, B, H); zeros when left out.

        Returns:
            One record per layer, each field (B, T, H).

        Raises:
            IndexError: If a token is not in the vocabulary.
        """
        x = self.embedding_dropout(self.embedding(tokens))
        h0, c0 = state if state is not None else self._start(x)
        records: list[Gates] = []
        for layer, weights in enumerate(self._weights()):
            if layer:
                x = nn.functional.dropout(x, self.lstm.dropout, self.training)
            records.append(recorded_lstm(x, h0[layer], c0[layer], *weights))
            x = records[-1].hidden
        return records
