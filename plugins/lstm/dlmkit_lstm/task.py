"""The LSTM as a Lightning task: next-character prediction, a look at its gates, and text from it."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as MatplotlibFigure
from torch import Tensor

from dlmkit import Figure, Media, SequenceTask
from dlmkit.data.module import Batch
from dlmkit.tasks.sequence import State
from dlmkit_lstm.model import CharacterLSTM

__all__ = ["LSTM"]


class LSTM(SequenceTask):
    r"""Long short-term memory: a recurrent net whose gates decide what to forget, to store and to tell.

    .. math::
        f_t &= \sigma(W_f \cdot [h_{t-1}, x_t] + b_f) \\
        i_t &= \sigma(W_i \cdot [h_{t-1}, x_t] + b_i) \\
        \tilde C_t &= \tanh(W_C \cdot [h_{t-1}, x_t] + b_C) \\
        C_t &= f_t * C_{t-1} + i_t * \tilde C_t \\
        o_t &= \sigma(W_o \cdot [h_{t-1}, x_t] + b_o) \\
        h_t &= o_t * \tanh(C_t)

    Sequence shape: many to many, aligned (every character is answered with the next one).

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997)
        | Learning to Forget: Continual Prediction with LSTM (Gers, Schmidhuber & Cummins, 2000)
        | Visualizing and Understanding Recurrent Networks (Karpathy, Johnson & Fei-Fei, 2015), for the gates' picture

    Args:
        vocab_size: Symbols V; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        embedding_size: Width of the vector that a symbol is turned into; when left out, ``hidden_size``.
        dropout: Fraction of activations dropped between layers and before the output.
        forget_bias: Bias that the forget gates start with; 1 lets memory last from the beginning.
        embedding_dropout: Fraction of the embedding's activations dropped.
        weight_dropout: Fraction of the recurrent weights dropped, anew for every batch.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    shown_steps: ClassVar[int] = 60
    shown_units: ClassVar[int] = 16

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        dropouts = {"embedding_dropout": embedding_dropout, "weight_dropout": weight_dropout}
        self.net = CharacterLSTM(vocab_size, hidden_size, num_layers, embedding_size, dropout, forget_bias, **dropouts)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (B, T, V) and the state (h, c), each (L, B, H), for tokens (B, T)."""
        logits, (hidden, cell) = self.net(tokens, state)
        return logits, (hidden, cell)

    def show(self, batch: Batch) -> dict[str, Media]:
        """What every gate does along a piece of the text, and a text of the net's own."""
        return {"gates": Figure(self.gates_figure(batch["input"][0])), "text": self.sample(length=400)[0]}

    def gates_figure(self, tokens: Tensor) -> MatplotlibFigure:
        """A heat map for each gate of the last layer along the end of a text, its characters on the axis.

        The units shown are those whose memory changes most there, the slow ones on top, the quick ones below.

        Args:
            tokens: (T,) int64; what comes before the part that is shown fills the memory.
        """
        record = self.net.gates(tokens[None])[-1]
        tokens = tokens[-self.shown_steps :]
        gates = type(record)(*(values[0, -len(tokens) :].float() for values in record))  # (T, H) each
        memory = torch.tanh(gates.cell)
        liveliest = memory.std(dim=0).topk(min(self.shown_units, memory.shape[1])).indices
        order = liveliest[memory.diff(dim=0).abs().mean(dim=0)[liveliest].argsort()]
        characters = [visible(self.tokenizer.decode([token])) for token in tokens.tolist()]
        panels = {
            "forget gate f": (gates.forget, 0.0, 1.0),
            "input gate i": (gates.input, 0.0, 1.0),
            "candidate C̃": (gates.candidate, -1.0, 1.0),
            "cell, tanh C": (memory, -1.0, 1.0),
            "output gate o": (gates.output, 0.0, 1.0),
        }
        figure = MatplotlibFigure(figsize=(14, 11), layout="constrained")
        axes = figure.subplots(len(panels), 1, sharey=True)
        for ax, (name, (values, low, high)) in zip(axes, panels.items(), strict=True):
            picture = values[:, order].T.cpu().numpy()  # (units, T)
            _heat_map(figure, ax, picture, name, characters, low, high)
        figure.suptitle("What every gate of an LSTM does, character by character", fontsize=18)
        axes[0].set_title("a row is one of 16 units; slow ones on top, quick ones below".replace("16", str(len(order))))
        return figure


def visible(token: str) -> str:
    """A token as it can stand on an axis."""
    return {" ": "␣", "\n": "⏎", "\t": "⇥"}.get(token, token if token.isprintable() else "·")


def _heat_map(
    figure: MatplotlibFigure, ax: Any, picture: np.ndarray, name: str, characters: list[str], low: float, high: float
) -> None:
    colours = "viridis" if low == 0 else "RdBu_r"
    image = ax.imshow(picture, aspect="auto", cmap=colours, norm=Normalize(low, high), interpolation="nearest")
    ax.set_ylabel(name, fontsize=14)
    ax.set_yticks([])
    ax.set_xticks(range(len(characters)), characters, fontsize=13, family="monospace")
    ax.tick_params(axis="x", length=0)
    figure.colorbar(image, ax=ax, ticks=[low, (low + high) / 2, high], pad=0.01)
