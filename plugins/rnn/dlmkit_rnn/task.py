"""The simple recurrent net as Lightning tasks: next-character prediction, a look at its units, sequence problems."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from matplotlib.figure import Figure as MatplotlibFigure
from torch import Tensor

from dlmkit import Figure, Media, SequenceProblem, SequenceTask, TokenModel
from dlmkit.data.module import Batch
from dlmkit.figures import units_figure, visible
from dlmkit.tasks.sequence import State
from dlmkit_rnn.model import RNNStack, Units

__all__ = ["RNN", "RNNProblem"]


class RNN(SequenceTask):
    r"""The simple recurrent net: one layer in a loop, which reads its own state of the step before.

    .. math::
        h_t &= f(h_{t-1}, x_t) = \tanh(W \cdot [h_{t-1}, x_t] + b) \\
        p_t &= g(h_t) = \operatorname{softmax}(V h_t + c)

    Sequence shape: many to many, aligned (every character is answered with the next one).

    References:
        | Finding Structure in Time (Elman, 1990)
        | Backpropagation Through Time: What It Does and How to Do It (Werbos, 1990)

    Args:
        vocab_size: Symbols V; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        embedding_size: Width of the vector that a symbol is turned into; when left out, ``hidden_size``.
        dropout: Fraction of activations dropped between layers and before the output.
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
        embedding_dropout: float = 0.0,
        orthogonal: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        width = hidden_size if embedding_size is None else embedding_size
        layers = RNNStack(width, hidden_size, num_layers, dropout, orthogonal)
        self.net = TokenModel(vocab_size, layers, width, hidden_size, embedding_dropout, dropout)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (B, T, V) and the state (h,), (L, B, H), for tokens (B, T)."""
        return self.net(tokens, state)

    def show(self, batch: Batch) -> dict[str, Media]:
        """What the units do along a piece of the text, and a text of the net's own."""
        return {"units": Figure(self.units_figure(batch["input"][0])), "text": self.sample(length=400)[0]}

    def units_figure(self, tokens: Tensor) -> MatplotlibFigure:
        """A heat map for each term of the equation of the last layer along the end of a text.

        The units shown are those that change most there, the slow ones on top, the quick ones below.

        Args:
            tokens: (T,) int64; what comes before the part that is shown fills the state.
        """
        record = self.net.record(tokens[None])[-1]
        tokens = tokens[-self.shown_steps :]
        units = Units(*(values[0, -len(tokens) :] for values in record))  # (T, H) each
        panels = {
            "from input": (units.from_input, -4.0, 4.0),
            "from context": (units.from_context, -4.0, 4.0),
            "state h": (units.hidden, -1.0, 1.0),
            "slope 1 - h²": (units.slope, 0.0, 1.0),
        }
        characters = [visible(self.tokenizer.decode([token])) for token in tokens.tolist()]
        return units_figure(panels, units.hidden, characters, "What the units of a simple recurrent net do")


class RNNProblem(SequenceProblem):
    """A simple recurrent net that answers a question about a sequence, at its end or at every step.

    The equation is that of the task ``rnn``; see the base class for the answer and the loss.

    References:
        | Finding Structure in Time (Elman, 1990)
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018), for the problems on long-term dependencies

    Args:
        input_size: Numbers in each step; follows from the data.
        output_size: Classes, or 1 for a value; follows from the data.
        answer: Whether the last step answers, or each; follows from the data.
        target: Whether the answer is a class or a value; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        dropout: Fraction of activations dropped between layers.
        orthogonal: Whether the recurrent matrices start orthogonal, which neither shrinks nor grows what is remembered.
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
        orthogonal: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(hidden_size, input_size, output_size, answer, target, **kwargs)
        self.recurrence = RNNStack(input_size, hidden_size, num_layers, dropout, orthogonal)

    def features(self, x: Tensor) -> Tensor:
        """States (B, T, H) of the last layer for inputs (B, T, F)."""
        return self.recurrence(x)[0]
