"""The GRU as Lightning tasks: next-character prediction, a look at its gates, and sequence problems."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from matplotlib.figure import Figure as MatplotlibFigure
from torch import Tensor

from dlmkit import Figure, Media, SequenceProblem, SequenceTask, TokenModel, UserError
from dlmkit.data.module import Batch
from dlmkit.figures import units_figure, visible
from dlmkit.tasks.sequence import State
from dlmkit_gru.model import GRUStack

__all__ = ["GRU", "GRUProblem", "running_mean"]


class GRU(SequenceTask):
    r"""Gated recurrent unit: a recurrent net whose two gates decide what to keep and what of it to use.

    .. math::
        r_t &= \sigma(W_r \cdot [h_{t-1}, x_t] + b_r) \\
        z_t &= \sigma(W_z \cdot [h_{t-1}, x_t] + b_z) \\
        \tilde h_t &= \tanh(W x_t + b + r_t * (U h_{t-1} + c)) \\
        h_t &= z_t * h_{t-1} + (1 - z_t) * \tilde h_t

    Sequence shape: many to many, aligned (every character is answered with the next one).

    References:
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014)
        | Visualizing and Understanding Recurrent Networks (Karpathy, Johnson & Fei-Fei, 2015), for the gates' picture

    Args:
        vocab_size: Symbols V; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        embedding_size: Width of the vector that a symbol is turned into; when left out, ``hidden_size``.
        dropout: Fraction of activations dropped between layers and before the output.
        update_bias: Bias that the update gates start with; a positive one lets memory last longer from the beginning.
        embedding_dropout: Fraction of the embedding's activations dropped.
        orthogonal: Whether the recurrent matrices start orthogonal, which neither shrinks nor grows what is remembered.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    shown_steps: ClassVar[int] = 60

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 256,
        num_layers: int = 1,
        embedding_size: int | None = None,
        dropout: float = 0.0,
        update_bias: float = 0.0,
        embedding_dropout: float = 0.0,
        orthogonal: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        width = hidden_size if embedding_size is None else embedding_size
        layers = GRUStack(width, hidden_size, num_layers, dropout, update_bias, orthogonal)
        self.net = TokenModel(vocab_size, layers, width, hidden_size, embedding_dropout, dropout)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (B, T, V) and the state, a tuple of one (L, B, H), for tokens (B, T)."""
        return self.net(tokens, state)

    def show(self, batch: Batch) -> dict[str, Media]:
        """What both gates do along a piece of the text, and a text of the net's own."""
        return {"gates": Figure(self.gates_figure(batch["input"][0])), "text": self.sample(length=400)[0]}

    def gates_figure(self, tokens: Tensor) -> MatplotlibFigure:
        """A heat map for each quantity of the last layer along the end of a text, its characters on the axis.

        The units shown are those whose state changes most over a few characters, the slow ones on top, the quick ones
        below. Many units change from end to end at every character, and those have nothing to keep.

        Args:
            tokens: (T,) int64; what comes before the part that is shown fills the memory.
        """
        record = self.net.record(tokens[None])[-1]
        tokens = tokens[-self.shown_steps :]
        memory = running_mean(record.hidden[0], 4)[-len(tokens) :]
        gates = type(record)(*(values[0, -len(tokens) :] for values in record))  # (T, H) each
        panels = {
            "reset gate r": (gates.reset, 0.0, 1.0),
            "update gate z": (gates.update, 0.0, 1.0),
            "candidate h̃": (gates.candidate, -1.0, 1.0),
            "hidden state h": (gates.hidden, -1.0, 1.0),
        }
        characters = [visible(self.tokenizer.decode([token])) for token in tokens.tolist()]
        return units_figure(panels, memory, characters, "What both gates of a GRU do, character by character")


def running_mean(values: Tensor, width: int) -> Tensor:
    """The mean of each step and the ``width - 1`` before it; before the first step is what it is in the first.

    Args:
        values: (T, H).
        width: Steps in a mean.

    Returns:
        (T, H).
    """
    return torch.cat((values[:1].expand(width - 1, -1), values)).unfold(0, width, 1).mean(dim=-1)


class GRUProblem(SequenceProblem):
    """A GRU that answers a question about a sequence, at its end or at every step.

    The equations are those of the task ``gru``; see the base class for the answer and the loss.

    References:
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014)
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018), for the problems on long-term dependencies
        | Can recurrent neural networks warp time? (Tallec & Ollivier, 2018), for the start of the gates' biases

    Args:
        input_size: Numbers in each step; follows from the data.
        output_size: Classes, or 1 for a value; follows from the data.
        answer: Whether the last step answers, or each; follows from the data.
        target: Whether the answer is a class or a value; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        dropout: Fraction of activations dropped between layers.
        update_bias: Bias that the update gates start with; a positive one lets memory last longer from the beginning.
        orthogonal: Whether the recurrent matrices start orthogonal, which neither shrinks nor grows what is remembered.
        chrono: Steps that the longest memory lasts: the update gates' biases then start so that units remember for
            times of every length up to it; 0 starts all of them with ``update_bias``.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        answer: Literal["last", "each"],
        target: Literal["class", "value"],
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        update_bias: float = 0.0,
        orthogonal: bool = True,
        chrono: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_size, input_size, output_size, answer, target, **kwargs)
        self.recurrence = GRUStack(input_size, hidden_size, num_layers, dropout, update_bias, orthogonal)
        try:
            if chrono:
                self.recurrence.chrono_biases(chrono)
        except ValueError as error:
            raise UserError(str(error), "give more, or 0 to start with update_bias", "model.chrono") from error

    def features(self, x: Tensor) -> Tensor:
        """Hidden states (B, T, H) of the last layer for inputs (B, T, F)."""
        return self.recurrence(x)[0]
