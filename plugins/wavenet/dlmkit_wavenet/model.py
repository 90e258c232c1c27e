r"""WaveNet: sound as a sequence of classes, each predicted from the samples before it by dilated causal convolutions.

:class:`GatedLayer` is one layer of the paper, :class:`WaveNetModel` the net, :class:`CausalStack` the same layers for
vectors in place of sound. Convolutions are not padded where sound is concerned: the output is shorter than the input by
the past that it needs, so that what is trained on always has the whole of it.

B batch, T samples in, N samples out, V levels, R residual channels, D dilation channels, S skip channels, L layers,
K kernel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CausalStack", "GatedLayer", "WaveNetModel", "dilations"]


def dilations(layers: int, stacks: int = 1) -> list[int]:
    """1, 2, 4, … doubled in each of ``layers`` layers, and the whole repeated ``stacks`` times."""
    return [2**layer for layer in range(layers)] * stacks


class GatedLayer(nn.Module):
    r"""One dilated causal convolution with a gated unit and a residual connection.

    .. math::
        z = \tanh(W_f * x + V_f h) \odot \sigma(W_g * x + V_g h), \qquad y = x + W_r z

    :math:`W_f` and :math:`W_g` are one convolution with twice the channels.

    Args:
        channels: Residual channels R.
        width: Dilation channels D.
        kernel_size: Samples K that the convolution looks at.
        dilation: Samples from one to the next of them.
        last: Whether no layer follows, so that only :math:`z` is of use.
        dropout: Probability in [0, 1] that a gated unit is dropped.
    """

    def __init__(
        self, channels: int, width: int, kernel_size: int, dilation: int, last: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.reach = dilation * (kernel_size - 1)
        self.conv = nn.Conv1d(channels, 2 * width, kernel_size, dilation=dilation)
        self.dropout = nn.Dropout(dropout)
        self.residual = None if last else nn.Conv1d(width, channels, 1)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run over a sequence.

        Args:
            x: (B, R, T).
            condition: :math:`V_f h` and :math:`V_g h`, (B, 2D, 1) or (B, 2D, T - reach).

        Returns:
            The next layer's input (B, R, T - reach), and z (B, D, T - reach) for the skip connection.
        """
        z = self.dropout(gated(self.conv(x), condition))
        return self.join(x[..., self.reach :], z), z

    def join(self, x: Tensor, z: Tensor) -> Tensor:
        """The residual connection: x (B, R, N) and what z (B, D, N) adds to it."""
        return x if self.residual is None else x + self.residual(z)


def gated(x: Tensor, condition: Tensor | None = None) -> Tensor:
    """Gated units (B, D, N) from what goes into filters and gates, (B, 2D, N) and a condition that is added to it."""
    filters, gates = (x if condition is None else x + condition).chunk(2, dim=1)
    return torch.tanh(filters) * torch.sigmoid(gates)


class WaveNetModel(nn.Module):
    r"""Predicts the next sample of a sound from those before it.

    .. math::
        p(x) = \prod_t p(x_t \mid x_{t-r}, \dots, x_{t-1}, h), \qquad
        r = 1 + (K - 1) \sum_l d_l

    :class:`GatedLayer` s with dilations 1, 2, 4, …, repeated; their skip connections summed; two 1×1 convolutions; a
    softmax over the V levels of a µ-law. The first layer's one-hot vector times a matrix is a row of that matrix, so
    it is looked up. The sum of all skip connections, :math:`\sum_l W_l z_l`, is one product of all :math:`W_l` side
    by side with all :math:`z_l` one upon the other, and is computed only where a sample is predicted.

    A condition h is one-hot, so that :math:`V h` is looked up too: one class for the whole sound (global), one speaker,
    or one class for each sample (local).

    References:
        | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016), equations 1 to 6, figures 3 and 4

    Args:
        layers: Layers in a stack; the last one's dilation is 2^(layers - 1).
        stacks: How often the stack is repeated.
        residual_channels: Width R of what goes from layer to layer.
        dilation_channels: Width D of the gated units.
        skip_channels: Width S of the skip connections' sum.
        end_channels: Width between the last two 1×1 convolutions.
        kernel_size: Samples K that each convolution looks at.
        classes: Global classes, 0 for none.
        speakers: Speakers, 0 for none.
        local_classes: Classes that each sample can have, 0 for none.
        levels: Values V that a sample can have.

    Raises:
        ValueError: If a size is not positive, or a convolution looks at fewer than two samples.
    """

    def __init__(
        self,
        layers: int = 10,
        stacks: int = 4,
        residual_channels: int = 32,
        dilation_channels: int = 32,
        skip_channels: int = 256,
        end_channels: int = 256,
        kernel_size: int = 2,
        classes: int = 0,
        speakers: int = 0,
        local_classes: int = 0,
        levels: int = 256,
    ) -> None:
        super().__init__()
        _require_sizes(layers, kernel_size, stacks, residual_channels, dilation_channels, skip_channels, end_channels)
        spans = dilations(layers, stacks)
        self.levels, self.width = levels, dilation_channels
        self.embedding = nn.Embedding(levels, residual_channels)
        self.layers: Sequence[GatedLayer] = nn.ModuleList(  # type: ignore[assignment]
            GatedLayer(residual_channels, dilation_channels, kernel_size, span, last=number == len(spans))
            for number, span in enumerate(spans, start=1)
        )
        self.skip = nn.Conv1d(len(spans) * dilation_channels, skip_channels, 1)
        self.end = nn.Conv1d(skip_channels, end_channels, 1)
        self.readout = nn.Conv1d(end_channels, levels, 1)
        kinds = {"classes": classes, "speakers": speakers, "local": local_classes}
        tables = {name: nn.Embedding(n, len(spans) * 2 * dilation_channels) for name, n in kinds.items() if n}
        # V of every layer side by side: (n, L·2D)
        self.conditions: Mapping[str, nn.Embedding] = nn.ModuleDict(tables)  # type: ignore[assignment]
        for table in tables.values():
            nn.init.normal_(table.weight, std=0.1)

    @property
    def receptive_field(self) -> int:
        """How many samples a prediction looks at."""
        return 1 + sum(layer.reach for layer in self.layers)

    @property
    def gate_biases(self) -> Tensor:
        """What every layer adds to its filters and gates, (L, 2D)."""
        return torch.stack([layer.conv.bias for layer in self.layers if layer.conv.bias is not None])

    def forward(
        self,
        codes: Tensor,
        condition: Tensor | None = None,
        speaker: Tensor | None = None,
        local: Tensor | None = None,
        scored: int | None = None,
    ) -> Tensor:
        """Predict what follows each sample that has its whole past.

        Args:
            codes: (B, T) int64 from 0 to V - 1.
            condition: (B,) int64 class, where the net has classes.
            speaker: (B,) int64, where the net has speakers.
            local: (B, T) int64, the class of the sample that follows each, where the net has local classes.
            scored: How many samples N to predict, the last ones; as many as have their whole past when left out.

        Returns:
            Logits (B, V, N).

        Raises:
            ValueError: If the sound is too short for what is to be predicted, or a condition is missing.
        """
        most = codes.shape[1] - self.receptive_field + 1
        scored = most if scored is None else scored
        if not 1 <= scored <= most:
            what = f"{codes.shape[1]} samples hold {max(most, 0)} with their whole past, not {scored}"
            raise ValueError(f"{what}; give at least {self.receptive_field + max(scored, 1) - 1}")
        needed = self.receptive_field + scored - 1
        codes, local = codes[:, -needed:], None if local is None else local[:, -needed:]
        whole = self.global_condition(condition, speaker)
        x = self.embedding(codes).transpose(1, 2)  # (B, R, T)
        outputs = []
        for number, layer in enumerate(self.layers):
            h = self.layer_condition(number, whole, local, x.shape[2] - layer.reach)
            x, z = layer(x, h)
            outputs.append(z[..., -scored:])
        return self.head(torch.cat(outputs, dim=1))

    def head(self, z: Tensor) -> Tensor:
        """Logits (B, V, N) from the gated units of all layers, (B, L·D, N)."""
        return self.readout(F.relu(self.end(F.relu(self.skip(z)))))

    def global_condition(self, condition: Tensor | None, speaker: Tensor | None) -> Tensor | None:
        """V h for what holds for a whole sound, (B, L, 2D), or None.

        Args:
            condition: (B,) int64, or None.
            speaker: (B,) int64, or None.

        Raises:
            ValueError: If the net has classes or speakers and they are not given.
        """
        total = None
        for name, given in (("classes", condition), ("speakers", speaker)):
            if name in self.conditions:
                if given is None:
                    raise ValueError(f"the net has {name}; say which")
                row = self.conditions[name](given).unflatten(1, (len(self.layers), 2 * self.width))
                total = row if total is None else total + row
        return total

    def layer_condition(self, number: int, whole: Tensor | None, local: Tensor | None, steps: int) -> Tensor | None:
        """V h of one layer for its last ``steps`` outputs, (B, 2D, 1) or (B, 2D, steps), or None.

        Args:
            number: Which layer, from 0.
            whole: From :meth:`global_condition`.
            local: (B, T) int64, T ≥ steps, or None.
            steps: Outputs of the layer.

        Raises:
            ValueError: If the net has local classes and they are not given.
        """
        total = None if whole is None else whole[:, number, :, None]
        if "local" not in self.conditions:
            return total
        if local is None:
            raise ValueError("the net has local classes; give one for each sample")
        table = self.conditions["local"].weight.unflatten(1, (len(self.layers), 2 * self.width))[:, number]
        each = F.embedding(local[:, -steps:], table).transpose(1, 2)
        return each if total is None else each + total


class CausalStack(nn.Module):
    r"""WaveNet's layers over a sequence of vectors, padded with zeros on the left: every step has an answer.

    .. math::
        h = x_L + \sum_l W_l z_l

    A sample of sound is looked up in a table, which gives any function of it; the numbers of a step are given one by
    1 × 1, ReLU, 1 × 1. Without it products of numbers in one step, as in the adding problem, have to be found by gates
    that see several steps at once, which takes three times as many batches.

    The residual stream :math:`x_L` is heard beside the skip connections, which alone would pass on what the last layers
    have seen through a gate, between -1 and 1. Weights start so that they keep the variance of what they are given.

    If only the last step's answer is of use, most of the stack is not computed. A layer of dilation d is heard at every
    d-th step then, so that layer after layer half of the steps are dropped: a tree in place of a stack, with the same
    answer.

    References:
        | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016)
        | Efficient BackProp (LeCun, Bottou, Orr & Müller, 1998), section 4.6, for the start

    Args:
        input_size: Numbers F in each step.
        layers: Layers L, with dilations 1, 2, 4, …
        channels: Residual, dilation and skip channels R.
        kernel_size: Steps K that each convolution looks at.
        dropout: Probability in [0, 1] that a gated unit is dropped.

    Raises:
        ValueError: If a size is not positive, or a convolution looks at fewer than two steps.
    """

    def __init__(self, input_size: int, layers: int, channels: int, kernel_size: int, dropout: float = 0.0) -> None:
        super().__init__()
        _require_sizes(layers, kernel_size, input_size, channels)
        self.start = nn.Sequential(nn.Conv1d(input_size, channels, 1), nn.ReLU(), nn.Conv1d(channels, channels, 1))
        self.layers: Sequence[GatedLayer] = nn.ModuleList(  # type: ignore[assignment]
            GatedLayer(channels, channels, kernel_size, span, dropout=dropout) for span in dilations(layers)
        )
        self.skip = nn.Conv1d(layers * channels, channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="linear")

    @property
    def receptive_field(self) -> int:
        """How many steps an answer looks at."""
        return 1 + sum(layer.reach for layer in self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, T, R) for inputs (B, T, F)."""
        x = self.start(x.transpose(1, 2))
        outputs = []
        for layer in self.layers:
            x, z = layer(F.pad(x, (layer.reach, 0)))
            outputs.append(z)
        return (x + self.skip(torch.cat(outputs, dim=1))).transpose(1, 2)

    def last(self, x: Tensor) -> Tensor:
        """Features of the last step alone, (B, R), for inputs (B, T, F)."""
        x = self.start(x.transpose(1, 2))
        outputs = []
        for layer in self.layers:
            size, first = layer.conv.kernel_size[0], (x.shape[2] - 1) % 2  # so that the last step is kept
            padded = F.pad(x, (size - 1 - first, 0))
            z = layer.dropout(gated(F.conv1d(padded, layer.conv.weight, layer.conv.bias, stride=2)))
            x = layer.join(x[..., first::2], z)
            outputs.append(z[..., -1])
        return x[..., -1] + self.skip(torch.cat(outputs, dim=1)[..., None])[..., 0]


def _require_sizes(layers: int, kernel_size: int, *sizes: int) -> None:
    if min(layers, *sizes) < 1 or kernel_size < 2:
        raise ValueError(f"sizes are {(layers, *sizes)}, kernel_size {kernel_size}; give positive sizes and 2 or more")
