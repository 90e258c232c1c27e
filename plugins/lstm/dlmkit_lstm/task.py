"""The LSTM and its variants as Lightning tasks: next-character prediction, a look at the gates, sequence problems."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dlmkit import SequenceProblem, UserError
from dlmkit_lstm.coupled import CoupledLSTMStack
from dlmkit_lstm.gated import GatedTask
from dlmkit_lstm.gates import BLOCKS
from dlmkit_lstm.model import LSTMStack
from dlmkit_lstm.peephole import PeepholeLSTMStack
from dlmkit_lstm.stack import chrono_biases

__all__ = ["LSTM", "CoupledLSTM", "LSTMProblem", "PeepholeLSTM"]


class LSTM(GatedTask):
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
        orthogonal: Whether the recurrent matrices start orthogonal, which neither shrinks nor grows what is remembered.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    stack: ClassVar[type[nn.Module]] = LSTMStack


class PeepholeLSTM(GatedTask):
    r"""An LSTM with peepholes: its gates see the cell that they guard.

    .. math::
        f_t &= \sigma(W_f \cdot [h_{t-1}, x_t] + p_f * C_{t-1} + b_f) \\
        i_t &= \sigma(W_i \cdot [h_{t-1}, x_t] + p_i * C_{t-1} + b_i) \\
        \tilde C_t &= \tanh(W_C \cdot [h_{t-1}, x_t] + b_C) \\
        C_t &= f_t * C_{t-1} + i_t * \tilde C_t \\
        o_t &= \sigma(W_o \cdot [h_{t-1}, x_t] + p_o * C_t + b_o) \\
        h_t &= o_t * \tanh(C_t)

    Sequence shape: many to many, aligned (every character is answered with the next one).

    References:
        | Recurrent Nets that Time and Count (Gers & Schmidhuber, 2000)
        | Generating Sequences With Recurrent Neural Networks (Graves, 2013), for this form

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

    layers_name: ClassVar[str] = "an LSTM with peepholes"

    stack: ClassVar[type[nn.Module]] = PeepholeLSTMStack


class CoupledLSTM(GatedTask):
    r"""An LSTM with coupled gates: it stores as much as it forgets.

    .. math::
        f_t &= \sigma(W_f \cdot [h_{t-1}, x_t] + b_f) \\
        \tilde C_t &= \tanh(W_C \cdot [h_{t-1}, x_t] + b_C) \\
        C_t &= f_t * C_{t-1} + (1 - f_t) * \tilde C_t \\
        o_t &= \sigma(W_o \cdot [h_{t-1}, x_t] + b_o) \\
        h_t &= o_t * \tanh(C_t)

    Sequence shape: many to many, aligned (every character is answered with the next one).

    References:
        | LSTM: A Search Space Odyssey (Greff, Srivastava, Koutník, Steunebrink & Schmidhuber, 2017), the variant CIFG

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

    layers_name: ClassVar[str] = "an LSTM with i = 1 - f"

    stack: ClassVar[type[nn.Module]] = CoupledLSTMStack


class LSTMProblem(SequenceProblem):
    """An LSTM that answers a question about a sequence, at its end or at every step.

    The equations are those of the task ``lstm``; see the base class for the answer and the loss.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997)
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018), for the problems on long-term dependencies
        | Can Recurrent Neural Networks Warp Time? (Tallec & Ollivier, 2018), for the start of the gates' biases
        | Bidirectional Recurrent Neural Networks (Schuster & Paliwal, 1997), for reading from both ends

    Args:
        input_size: Numbers in each step; follows from the data.
        output_size: Classes, or 1 for a value; follows from the data.
        answer: Whether the last step answers, or each; follows from the data.
        target: Whether the answer is a class or a value; follows from the data.
        hidden_size: Units in each layer's state.
        num_layers: Layers, one upon the other.
        dropout: Fraction of activations dropped between layers.
        forget_bias: Bias that the forget gates start with; a larger one lets memory last longer from the beginning.
        orthogonal: Whether the recurrent matrices start orthogonal, which neither shrinks nor grows what is remembered.
        chrono: Steps that the longest memory lasts: the gates' biases then start so that units remember for times of
            every length up to it; 0 starts all of them with ``forget_bias``.
        bidirectional: Whether a second LSTM reads from the end, so that an answer also knows what comes later.
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
        forget_bias: float = 1.0,
        orthogonal: bool = True,
        chrono: int = 0,
        bidirectional: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__((1 + bidirectional) * hidden_size, input_size, output_size, answer, target, **kwargs)
        layers = [
            LSTMStack(input_size, hidden_size, num_layers, dropout, forget_bias, orthogonal=orthogonal)
            for _ in range(1 + bidirectional)
        ]
        for stack in layers if chrono else ():
            try:
                chrono_biases(stack.all_weights, BLOCKS, chrono)
            except ValueError as error:
                raise UserError(str(error), "give more, or 0 to start with forget_bias", "model.chrono") from error
        self.recurrence = layers[0]
        self.from_the_end = layers[1] if bidirectional else None

    def features(self, x: Tensor) -> Tensor:
        """Hidden states (B, T, H) of the last layer for inputs (B, T, F); (B, T, 2H) where both ends are read from."""
        hidden: Tensor = self.recurrence(x)[0]
        if self.from_the_end is None:
            return hidden
        return torch.cat((hidden, self.from_the_end(x.flip(1))[0].flip(1)), dim=2)
