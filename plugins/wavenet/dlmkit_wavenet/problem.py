"""WaveNet's layers on sequence problems: the convolutional column of the comparison on long-term dependencies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from dlmkit import SequenceProblem
from dlmkit_wavenet.model import CausalStack

__all__ = ["WaveNetProblem"]


class WaveNetProblem(SequenceProblem):
    r"""WaveNet's dilated causal stack, which answers a question about a sequence at its end or at every step.

    .. math::
        z_l = \tanh(W_f * x_l) \odot \sigma(W_g * x_l), \qquad x_{l+1} = x_l + W_r z_l, \qquad
        h = x_L + \sum_l W_l z_l

    with dilation 2^l in layer l, :math:`x_0` made of each step's numbers by 1 × 1, ReLU, 1 × 1, and a linear answer
    from h. It stands where Bai, Kolter & Koltun (2018) have a TCN, which is made of the same dilated causal
    convolutions and differs in this: a TCN's block has two of them, one after the other, each with weight
    normalisation, ReLU and dropout, and ends in another ReLU over the residual sum; it has no gates, no skip
    connections and nothing before the first block. At equal kernel, layers and channels both have nearly the same
    number of weights, for two convolutions are what filter and gate are too. The receptive field is
    1 + (K-1)(2^L - 1) here and twice that there.

    Where the last step answers, only what it hears is computed, a small part of the whole: over 600 steps that is some
    seven times as fast.

    References:
        | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016)
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018)

    Args:
        input_size: Numbers in each step; follows from the data.
        output_size: Classes, or 1 for a value; follows from the data.
        answer: Whether the last step answers, or each; follows from the data.
        target: Whether the answer is a class or a value; follows from the data.
        kernel_size: Steps K that each convolution looks at.
        layers: Layers L, with dilations 1, 2, 4, …
        channels: Residual, dilation and skip channels.
        dropout: Fraction of the gated units dropped.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    conformance_options: ClassVar[Sequence[str]] = ("--model.layers=3", "--model.channels=16")

    def __init__(
        self,
        input_size: int,
        output_size: int,
        answer: Literal["last", "each"],
        target: Literal["class", "value"],
        kernel_size: int = 8,
        layers: int = 8,
        channels: int = 24,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(channels, input_size, output_size, answer, target, **kwargs)
        self.stack = CausalStack(input_size, layers, channels, kernel_size, dropout)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, T, H), or (B, 1, H) of the last step where that alone answers, for inputs (B, T, F)."""
        return self.stack.last(x)[:, None] if self.answer == "last" else self.stack(x)
