"""What the LSTM and its variants show when they are trained on text."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure as MatplotlibFigure
from torch import Tensor, nn

from dlmkit import Figure, Media, SequenceTask, TokenModel
from dlmkit.data.module import Batch
from dlmkit.figures import units_figure, visible
from dlmkit.tasks.sequence import State

__all__ = ["GatedTask"]

PANELS = {
    "forget": ("forget gate f", 0.0, 1.0),
    "input": ("input gate i", 0.0, 1.0),
    "candidate": ("candidate C̃", -1.0, 1.0),
    "cell": ("cell, tanh C", -1.0, 1.0),
    "output": ("output gate o", 0.0, 1.0),
}
"""Field of a record: what its panel is called, and the ends of its colour scale."""


class GatedTask(SequenceTask):
    """Predicts the next token of a text with layers whose gates can be looked at; a child names the layers.

    Args:
        vocab_size: Symbols V; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        embedding_size: Width of the vector that a symbol is turned into; when left out, ``hidden_size``.
        dropout: Fraction of activations dropped between layers and before the output.
        forget_bias: Bias that the forget gates start with; 1 lets memory last from the beginning.
        embedding_dropout: Fraction of the embedding's activations dropped.
        weight_dropout: Fraction of the recurrent weights dropped, anew for every batch.
        orthogonal: Whether the recurrent matrices start orthogonal, which neither shrinks nor grows what is remembered.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    stack: ClassVar[type[nn.Module]]
    """The layers, made of what :class:`~dlmkit_lstm.model.LSTMStack` is made of."""

    layers_name: ClassVar[str] = "an LSTM"
    shown_steps: ClassVar[int] = 60

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
        orthogonal: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        width = hidden_size if embedding_size is None else embedding_size
        layers = self.stack(width, hidden_size, num_layers, dropout, forget_bias, weight_dropout, orthogonal)
        self.net = TokenModel(vocab_size, layers, width, hidden_size, embedding_dropout, dropout)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (B, T, V) and the state (h, c), each (L, B, H), for tokens (B, T)."""
        out: tuple[Tensor, State] = self.net(tokens, state)
        return out

    def show(self, batch: Batch) -> dict[str, Media]:
        """What every gate does along a piece of the text, and a text of the net's own."""
        return {"gates": Figure(self.gates_figure(batch["input"][0])), "text": self.sample(length=400)[0]}

    def gates_figure(self, tokens: Tensor) -> MatplotlibFigure:
        """A heat map for each gate of the last layer along the end of a text, its characters on the axis.

        The units shown are those whose memory changes most there, the slow ones on top, the quick ones below.

        Args:
            tokens: (T,) int64; what comes before the part that is shown fills the memory.
        """
        record: Any = self.net.record(tokens[None])[-1]
        tokens = tokens[-self.shown_steps :]
        values = {name: getattr(record, name)[0, -len(tokens) :] for name in record._fields}  # (T, H) each
        values["cell"] = torch.tanh(values["cell"])
        panels = {label: (values[name], *ends) for name, (label, *ends) in PANELS.items() if name in values}
        characters = [visible(self.tokenizer.decode([token])) for token in tokens.tolist()]
        title = f"What every gate of {self.layers_name} does, character by character"
        return units_figure(panels, values["cell"], characters, title)
