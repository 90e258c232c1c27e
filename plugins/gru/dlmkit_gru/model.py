r"""The gated recurrent unit, thrice: its equations in both common forms to read, and layers to train.

:class:`GRUCell` is one step in the form that torch and cuDNN compute, :class:`ResetFirstGRUCell` one in the other form.
:class:`GRUStack` computes the first with ``nn.GRU``; its :meth:`~GRUStack.record` shows what every gate does along a
sequence.

B batch, T time steps, D input width, H hidden width, L layers.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from dlmkit_gru.gates import Gates, recorded_gru

__all__ = ["GRUCell", "GRUStack", "Gates", "ResetFirstGRUCell", "State"]

State = tuple[Tensor, ...]


class GRUCell(nn.Module):
    r"""One step of a GRU; the reset gate scales what the recurrent matrix has made of the old state.

    .. math::
        r_t &= \sigma(W_r \cdot [h_{t-1}, x_t] + b_r) \\
        z_t &= \sigma(W_z \cdot [h_{t-1}, x_t] + b_z) \\
        \tilde h_t &= \tanh(W x_t + b + r_t * (U h_{t-1} + c)) \\
        h_t &= z_t * h_{t-1} + (1 - z_t) * \tilde h_t

    An LSTM without a cell of its own: what the update gate keeps and what it lets in always make one. Along
    :math:`h_t` the gradient is multiplied with :math:`z_t`, and where that gate is open it lasts.

    Two things differ from text to text. Here the reset gate comes after the matrix, as in the first version of the
    paper, in cuDNN and in torch: then one product serves both gates and the candidate, and ``nn.GRU`` is the fast
    path. :class:`ResetFirstGRUCell` has it before the matrix. And here :math:`z_t` is what is kept, as in the paper;
    Chung et al. call :math:`z_t` the share that is *replaced*. As :math:`1 - \sigma(a) = \sigma(-a)`, that is the same
    net with :math:`W_z` and :math:`b_z` negated.

    References:
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014); the reset gate's place is that of its first version, arXiv:1406.1078v1
        | Empirical Evaluation of Gated Recurrent Neural Networks on Sequence Modeling (Chung, Gulcehre, Cho & Bengio,
          2014), where z has the opposite sense

    Args:
        input_size: Width D of the input :math:`x_t`.
        hidden_size: Width H of the state :math:`h_t`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.reset = nn.Linear(hidden_size + input_size, hidden_size)
        self.update = nn.Linear(hidden_size + input_size, hidden_size)
        self.candidate = nn.Linear(input_size, hidden_size)  # W and b
        self.candidate_recurrent = nn.Linear(hidden_size, hidden_size)  # U and c

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Gates]:
        """Take one step.

        Args:
            x: Input (B, D).
            h: Hidden state of the step before (B, H).

        Returns:
            The hidden state, and with it the gates, each (B, H).
        """
        hx = torch.cat((h, x), dim=1)  # (B, H+D)
        r = torch.sigmoid(self.reset(hx))
        z = torch.sigmoid(self.update(hx))
        candidate = torch.tanh(self.candidate(x) + r * self.candidate_recurrent(h))
        h = z * h + (1 - z) * candidate
        return h, Gates(r, z, candidate, h)

    @classmethod
    def from_torch(cls, gru: nn.GRU, layer: int = 0) -> Self:
        """A cell with a copy of the weights of one layer of an ``nn.GRU``.

        Args:
            gru: With biases and in one direction.
            layer: Which of its layers, from 0.

        Raises:
            ValueError: If the layer does not exist, or does not compute these equations.
        """
        if not gru.bias or gru.bidirectional:
            raise ValueError(f"{gru} has other equations; give one with biases and one direction")
        if not 0 <= layer < gru.num_layers:
            raise ValueError(f"layer is {layer}; give 0 to {gru.num_layers - 1}")
        w_ih, w_hh, b_ih, b_hh = (parameter.detach().chunk(3) for parameter in gru.all_weights[layer])
        cell = cls(w_ih[0].shape[1], w_hh[0].shape[1]).to(w_ih[0])
        for block, gate in enumerate((cell.reset, cell.update)):  # the order in which torch stacks them
            weight = torch.cat((w_hh[block], w_ih[block]), dim=1)
            gate.load_state_dict({"weight": weight, "bias": b_ih[block] + b_hh[block]})
        cell.candidate.load_state_dict({"weight": w_ih[2], "bias": b_ih[2]})
        cell.candidate_recurrent.load_state_dict({"weight": w_hh[2], "bias": b_hh[2]})
        return cell


class ResetFirstGRUCell(GRUCell):
    r"""One step of a GRU; the reset gate scales the old state before the recurrent matrix.

    .. math::
        \tilde h_t = \tanh(W x_t + b + U (r_t * h_{t-1}) + c)

    and the other equations of :class:`GRUCell`. Inside tanh, unit i of that cell's candidate has

    .. math::
        \sum_j U_{ij} (r_i - r_j) h_j - (1 - r_i) c_i

    more. So both cells agree for every state exactly if units that :math:`U` connects have equal reset gates
    (:math:`U` commutes with :math:`\operatorname{diag}(r)`; a diagonal :math:`U` always does), and :math:`c_i` is 0
    wherever :math:`r_i` is not 1. Otherwise they are different nets: here a unit chooses what *others* may know of it,
    there what it wants to know of all others.

    References:
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014), equation 8 of the published version, arXiv:1406.1078v3
        | Empirical Evaluation of Gated Recurrent Neural Networks on Sequence Modeling (Chung, Gulcehre, Cho & Bengio,
          2014)

    Args:
        input_size: Width D of the input :math:`x_t`.
        hidden_size: Width H of the state :math:`h_t`.
    """

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Gates]:
        """Take one step.

        Args:
            x: Input (B, D).
            h: Hidden state of the step before (B, H).

        Returns:
            The hidden state, and with it the gates, each (B, H).
        """
        hx = torch.cat((h, x), dim=1)  # (B, H+D)
        r = torch.sigmoid(self.reset(hx))
        z = torch.sigmoid(self.update(hx))
        candidate = torch.tanh(self.candidate(x) + self.candidate_recurrent(r * h))
        h = z * h + (1 - z) * candidate
        return h, Gates(r, z, candidate, h)


class GRUStack(nn.GRU):
    r"""GRU layers, one upon the other, that start well, can be regularised, and tell what their gates do.

    The recurrent matrix of each gate starts orthogonal, so that neither the state nor the gradient grows or shrinks
    on its way through it, and the biases start at zero. A positive bias of the update gate leaves that gate open, so
    that memory lasts from the beginning: about :math:`1 + e^b` steps for a bias b.

    References:
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014)
        | Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (Saxe, McClelland &
          Ganguli, 2014), for the orthogonal matrices
        | Can recurrent neural networks warp time? (Tallec & Ollivier, 2018), for the update gate's bias
        | Recurrent Neural Network Regularization (Zaremba, Sutskever & Vinyals, 2014), for dropout between layers

    Args:
        input_size: Width D of the inputs.
        hidden_size: Width H of each layer's state.
        num_layers: Layers L.
        dropout: Probability in [0, 1] that an activation is dropped between layers, never along time.
        update_bias: What the update gate's two biases sum to at the start.
        orthogonal: Whether the recurrent matrix of each gate starts orthogonal, or else as torch starts it, uniform in
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
        update_bias: float = 0.0,
        orthogonal: bool = True,
    ) -> None:
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout is {dropout}; give a number in [0, 1]")
        between_layers = dropout if num_layers > 1 else 0.0  # with one layer there is no between
        super().__init__(input_size, hidden_size, num_layers, batch_first=True, dropout=between_layers)
        self.reset_recurrence(update_bias, orthogonal)

    @torch.no_grad()
    def reset_recurrence(self, update_bias: float, orthogonal: bool = True) -> None:
        """Start the recurrent weights and the biases anew.

        Args:
            update_bias: What the update gate's two biases sum to.
            orthogonal: Whether the recurrent matrices start orthogonal; otherwise they are left as they are.
        """
        for _, w_hh, b_ih, b_hh in self.all_weights:
            for gate in w_hh.chunk(3) if orthogonal else ():
                nn.init.orthogonal_(gate)
            nn.init.zeros_(b_ih)
            nn.init.zeros_(b_hh)
            b_ih.chunk(3)[1].fill_(update_bias)  # torch stacks r, z, h̃ and adds both biases of a gate

    @torch.no_grad()
    def chrono_biases(self, longest: int) -> None:
        r"""Start the update gates so that units remember for times of every length.

        .. math::
            b_z = \log u, \qquad u \sim \mathcal{U}(1, T_{max} - 1)

        References:
            | Can recurrent neural networks warp time? (Tallec & Ollivier, 2018)

        Args:
            longest: Steps T_max that something may have to be remembered for.

        Raises:
            ValueError: If that is fewer than 3.
        """
        if longest < 3:
            raise ValueError(f"the longest time to remember is {longest}; give at least 3")
        for *_, b_ih, b_hh in self.all_weights:
            b_ih.chunk(3)[1].uniform_(1, longest - 1).log_()
            b_hh.chunk(3)[1].zero_()

    def forward(  # type: ignore[override]
        self, x: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Run over a sequence.

        Args:
            x: Inputs (B, T, D).
            state: The hidden state to go on from, a tuple of one (L, B, H); zeros when left out.

        Returns:
            Hidden states of the last layer (B, T, H), and those after the last step, a tuple of one (L, B, H).
        """
        hidden, last = super().forward(x, None if state is None else state[0])
        return hidden, (last,)

    def record(self, x: Tensor, state: State | None = None) -> list[Gates]:
        """What every gate of every layer does at every step; differentiable.

        Args:
            x: Inputs (B, T, D).
            state: The hidden state to go on from, a tuple of one (L, B, H); zeros when left out.

        Returns:
            One record per layer, each field (B, T, H).
        """
        (h0,) = (x.new_zeros(self.num_layers, len(x), self.hidden_size),) if state is None else state
        records: list[Gates] = []
        for layer, weights in enumerate(self.all_weights):
            if layer:
                x = nn.functional.dropout(x, self.dropout, self.training)
            records.append(recorded_gru(x, h0[layer], *weights))
            x = records[-1].hidden
        return records
