r"""Layers one upon the other: what the LSTM and its variants share.

B batch, T time steps, D input width, H hidden width, L layers, G gates (blocks of H rows in the weights).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

__all__ = ["RecordedStack", "State", "chrono_biases", "copy_gates", "record_layers", "reset_recurrence", "thinned"]

State = tuple[Tensor, ...]


class RecordedStack(nn.Module, ABC):
    r"""Layers of an LSTM variant that torch has no kernel for; a child says its gates and how one layer runs.

    The parameters are named as those of ``nn.LSTM`` and start as in ``LSTMStack``.

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

    blocks: ClassVar[tuple[str, ...]]
    """What the G blocks of rows of the weights compute, in their order."""

    further: ClassVar[tuple[str, ...]] = ()
    """Names of further parameters that each layer has, without ``_l0``."""

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
        super().__init__()
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(f"a size is not positive: {input_size=}, {hidden_size=}, {num_layers=}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dropout = nn.Dropout(dropout)
        self.weight_dropout = nn.Dropout(weight_dropout)
        rows, bound = len(self.blocks) * hidden_size, hidden_size**-0.5
        for layer in range(num_layers):
            width = hidden_size if layer else input_size
            shapes = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size), "bias_ih": (rows,)}
            for name, shape in (shapes | {"bias_hh": (rows,)}).items():
                start = torch.empty(shape).uniform_(-bound, bound)
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(start))
            self.add_further(layer)
        reset_recurrence(self.all_weights, self.blocks, forget_bias, orthogonal)

    def add_further(self, layer: int) -> None:
        """Register what parameters a layer has beside those of ``nn.LSTM``: none, unless a child says so."""

    @abstractmethod
    def run(self, x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> Any:
        """One layer over a sequence.

        Args:
            x: Inputs (B, T, D).
            h: Hidden state before the first step (B, H).
            c: Cell state before the first step (B, H).
            *weights: The layer's parameters, in their order.

        Returns:
            A named tuple with ``cell`` and ``hidden``, each field (B, T, H).
        """

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer: w_ih (GH, D), w_hh (GH, H), b_ih and b_hh (GH,), and what else it has."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", *self.further)
        return [[getattr(self, f"{name}_l{layer}") for name in names] for layer in range(self.num_layers)]

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over a sequence.

        Args:
            x: Inputs (B, T, D).
            state: Hidden and cell state to go on from, each (L, B, H); zeros when left out.

        Returns:
            Hidden states of the last layer (B, T, H), and the states after the last step, each (L, B, H).
        """
        records = self.record(x, state)
        h = torch.stack([record.hidden[:, -1] for record in records])
        c = torch.stack([record.cell[:, -1] for record in records])
        return records[-1].hidden, (h, c)

    def record(self, x: Tensor, state: State | None = None) -> list[Any]:
        """What every gate of every layer does at every step; differentiable.

        Args:
            x: Inputs (B, T, D).
            state: Hidden and cell state to go on from, each (L, B, H); zeros when left out.

        Returns:
            One record per layer, each field (B, T, H).
        """
        if state is None:
            state = (x.new_zeros(self.num_layers, len(x), self.hidden_size),) * 2
        return record_layers(self.run, x, state, thinned(self.all_weights, self.weight_dropout), self.dropout)

    def sizes(self, layer: int) -> tuple[int, int]:
        """Widths of a layer's input and state.

        Raises:
            ValueError: If the layer does not exist.
        """
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"layer is {layer}; give 0 to {self.num_layers - 1}")
        return self.all_weights[layer][0].shape[1], self.hidden_size

    def extra_repr(self) -> str:
        """What stands between the brackets when the module is printed."""
        return f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}"


def reset_recurrence(
    layers: Iterable[Sequence[Tensor]], blocks: Sequence[str], forget_bias: float, orthogonal: bool
) -> None:
    """Start the recurrent weights and the biases anew.

    Args:
        layers: The parameters of each layer: w_ih, w_hh, b_ih, b_hh, and others that are left as they are.
        blocks: What the blocks of rows of the weights compute, in their order.
        forget_bias: What the two biases of the block ``forget`` sum to; the other biases are zero.
        orthogonal: Whether the recurrent matrix of each gate starts orthogonal; otherwise it is left as it is.
    """
    with torch.no_grad():
        for _, w_hh, b_ih, b_hh, *_ in layers:
            for gate in w_hh.chunk(len(blocks)) if orthogonal else ():
                nn.init.orthogonal_(gate)
            nn.init.zeros_(b_ih)
            nn.init.zeros_(b_hh)
            b_ih.chunk(len(blocks))[list(blocks).index("forget")].fill_(forget_bias)


def chrono_biases(layers: Iterable[Sequence[Tensor]], blocks: Sequence[str], longest: int) -> None:
    r"""Start the forget and input gates so that units remember for times of every length.

    .. math::
        b_f = \log u, \quad b_i = -b_f, \qquad u \sim \mathcal{U}(1, T_{max} - 1)

    A unit whose forget gate is :math:`\sigma(b_f)` still has a third of what it held after some :math:`e^{b_f}` steps.
    With a bias of 1 for all units that is three steps, and no gradient comes back over hundreds of them.

    References:
        | Can Recurrent Neural Networks Warp Time? (Tallec & Ollivier, 2018), equation 16

    Args:
        layers: The parameters of each layer: w_ih, w_hh, b_ih, b_hh, and others that are left as they are.
        blocks: What the blocks of rows of the weights compute, in their order.
        longest: Steps T_max that something may have to be remembered for.

    Raises:
        ValueError: If that is fewer than 3.
    """
    if longest < 3:
        raise ValueError(f"the longest time to remember is {longest}; give at least 3")
    forget, put = list(blocks).index("forget"), list(blocks).index("input")
    with torch.no_grad():
        for _, _, b_ih, b_hh, *_ in layers:
            gates = b_ih.chunk(len(blocks))
            gates[forget].uniform_(1, longest - 1).log_()
            torch.neg(gates[forget], out=gates[put])
            for part in (forget, put):
                b_hh.chunk(len(blocks))[part].zero_()


def thinned(layers: Iterable[Sequence[Tensor]], weight_dropout: nn.Dropout) -> list[tuple[Tensor, ...]]:
    """The parameters of every layer as they count in this pass, the recurrent weights thinned out."""
    return [(w_ih, weight_dropout(w_hh), *others) for w_ih, w_hh, *others in layers]


def record_layers(
    run: Callable[..., Any],
    x: Tensor,
    state: State,
    layers: Sequence[Sequence[Tensor]],
    dropout: Callable[[Tensor], Tensor],
) -> list[Any]:
    """Run layers one upon the other, each reading what the one below tells.

    Args:
        run: Takes inputs (B, T, D), the two states (B, H) and a layer's parameters; gives a record with ``hidden``.
        x: Inputs of the first layer (B, T, D).
        state: Hidden and cell state to go on from, each (L, B, H).
        layers: The parameters of each layer.
        dropout: What happens to the activations between layers.

    Returns:
        One record per layer.
    """
    records: list[Any] = []
    for h, c, weights in zip(*state, layers, strict=True):
        records.append(run(dropout(x) if records else x, h, c, *weights))
        x = records[-1].hidden
    return records


def copy_gates(layer: Sequence[Tensor], gates: Iterable[nn.Linear]) -> None:
    """Copy a layer's weights into the readable cell's, one linear map of [h, x] for each gate.

    Args:
        layer: The layer's w_ih (GH, D), w_hh (GH, H), b_ih and b_hh (GH,); what follows is ignored.
        gates: The cell's linear maps, in the order of the blocks.
    """
    w_ih, w_hh, b_ih, b_hh = (parameter.detach() for parameter in layer[:4])
    size = w_hh.shape[1]
    weights, biases = torch.cat((w_hh, w_ih), dim=1).split(size), (b_ih + b_hh).split(size)
    for gate, weight, bias in zip(gates, weights, biases, strict=True):
        gate.load_state_dict({"weight": weight, "bias": bias})
