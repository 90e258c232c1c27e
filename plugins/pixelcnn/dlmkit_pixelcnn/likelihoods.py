r"""What a net tells of a pixel, as a distribution over the levels that the pixel can have.

Each class has the log-likelihood and the draw of one distribution. A draw is made by inverting a cumulative
distribution at a uniform number; so the same numbers give the same pixels, whoever computed the outputs.

B batch, n pictures that are drawn, C colour channels, H height, W width, V levels, O outputs, G groups: the parts of a
pixel that are drawn one after the other, M components of a mixture, U uniform numbers for the draw of a group.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LIKELIHOODS", "Binary", "Likelihood", "LogisticMixture", "Softmax", "choose"]


def choose(logits: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
    """Draw from a softmax by inverting its cumulative distribution.

    Args:
        logits: (n, V).
        uniform: (n,) float64 in [0, 1).
        temperature: Logits are divided by it; at 0 the likeliest is taken.

    Returns:
        (n,) int64.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    summed = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    return (summed <= uniform[:, None] * summed[:, -1:]).sum(dim=-1)


class Likelihood(ABC):
    """A distribution over the V levels of the C channels of a pixel.

    Args:
        channels: Colour channels C.
        levels: Levels V.
    """

    groups: int
    """Parts of a pixel that are predicted one after the other: C, or 1."""

    outputs: int
    """Numbers O that the net tells of a pixel."""

    numbers: int
    """Uniform numbers U that the draw of one group takes."""

    def __init__(self, channels: int, levels: int) -> None:
        self.channels, self.levels = channels, levels

    def codes(self, pictures: Tensor) -> Tensor:
        """Pictures from 0 to 1 as levels, int64."""
        return (pictures * (self.levels - 1)).round().long()

    def picture(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Levels as pictures from 0 to 1."""
        return codes.to(dtype) / (self.levels - 1)

    @abstractmethod
    def log_prob(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """The logarithm of the probability of each pixel, in nats.

        Args:
            outputs: What the net tells, (B, O, H, W).
            codes: (B, C, H, W) int64 from 0 to V - 1.

        Returns:
            (B, H, W).
        """

    @abstractmethod
    def draw(self, outputs: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw one group of a pixel.

        Args:
            outputs: What the net tells of the group, (n, O / G).
            uniforms: (n, U) float64 in [0, 1).
            temperature: 1 is the net's own distribution, below is tamer, 0 takes the likeliest.

        Returns:
            (n, C / G) int64 from 0 to V - 1.
        """


class Softmax(Likelihood):
    r"""Any distribution over the levels of a channel, given the channels before it.

    .. math::
        p(x_c = v) = \operatorname{softmax}(y_c)_v

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 2.2

    Args:
        channels: Colour channels C.
        levels: Levels V.
    """

    numbers = 1

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__(channels, levels)
        self.groups, self.outputs = channels, channels * levels

    def log_prob(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """The logarithm of the probability (B, H, W) of pixels (B, C, H, W)."""
        logits = outputs.unflatten(1, (self.channels, self.levels)).transpose(1, 2)  # (B, V, C, H, W)
        return -F.cross_entropy(logits, codes, reduction="none").sum(dim=1)

    def draw(self, outputs: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """One channel (n, 1)."""
        return choose(outputs, uniforms[:, 0], temperature)[:, None]


class Binary(Likelihood):
    r"""Two levels: a pixel is ink or paper.

    .. math::
        p(x = 1) = \sigma(y)

    Args:
        channels: Colour channels C.
        levels: 2.

    Raises:
        ValueError: If there are not two levels.
    """

    numbers = 1

    def __init__(self, channels: int, levels: int = 2) -> None:
        super().__init__(channels, levels)
        if levels != 2:
            raise ValueError(f"pixels have {levels} levels and not two")
        self.groups = self.outputs = channels

    def log_prob(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """The logarithm of the probability (B, H, W) of pixels (B, C, H, W)."""
        return F.logsigmoid(outputs * (2 * codes - 1)).sum(dim=1)

    def draw(self, outputs: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """One channel (n, 1)."""
        p = torch.sigmoid(outputs.double() / temperature) if temperature else (outputs > 0).double()
        return (uniforms < p).long()


class LogisticMixture(Likelihood):
    r"""A mixture of logistic distributions, each cut into as many pieces as there are levels.

    .. math::
        p(x) = \sum_m \pi_m \prod_c \left[ \sigma\!\left(\tfrac{x_c + \delta - \mu_{mc}}{s_{mc}}\right) -
        \sigma\!\left(\tfrac{x_c - \delta - \mu_{mc}}{s_{mc}}\right) \right]

    Levels lie from -1 to 1, and δ is half the way from one to the next; the lowest takes all that is below it, the
    highest all above. A later colour's mean depends on the earlier colours of the pixel in a linear way,
    :math:`\mu_{mc} = y_{mc} + \sum_{b<c} \tanh(a_{mcb}) x_b`, so that all colours of a pixel are drawn at once.

    References:
        | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood (Salimans et al., 2017),
          equations 1 to 3

    Args:
        channels: Colour channels C.
        levels: Levels V.
        components: Logistic distributions M.
    """

    groups = 1
    narrowest, widest = -7.0, 7.0
    """Between these the logarithm of a scale s stays."""

    def __init__(self, channels: int, levels: int, components: int = 10) -> None:
        super().__init__(channels, levels)
        self.components, self.numbers = components, 1 + channels
        self.pairs = torch.tril_indices(channels, channels, -1)  # (2, C(C-1)/2): a later colour, an earlier one
        self.outputs = components * (1 + 2 * channels + self.pairs.shape[1])

    def log_prob(self, outputs: Tensor, codes: Tensor) -> Tensor:
        """The logarithm of the probability (B, H, W) of pixels (B, C, H, W)."""
        x = 2 * self.picture(codes, outputs.dtype) - 1
        logits, means, scales, mixing = self._parts(outputs)
        means = means + torch.einsum("bmce...,be...->bmc...", mixing, x)
        x, half = x[:, None], 1 / (self.levels - 1)  # (B, 1, C, H, W)
        upper, lower = (x + half - means) / scales.exp(), (x - half - means) / scales.exp()
        between = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half / scales.exp()))
        codes = codes[:, None]
        inside = torch.where(codes == self.levels - 1, F.logsigmoid(-lower), between)
        each = torch.where(codes == 0, F.logsigmoid(upper), inside)  # (B, M, C, H, W)
        return torch.logsumexp(torch.log_softmax(logits, dim=1) + each.sum(dim=2), dim=1)

    def draw(self, outputs: Tensor, uniforms: Tensor, temperature: float = 1.0) -> Tensor:
        """All channels (n, C): first a component, then a value from each of its logistic distributions."""
        logits, means, scales, mixing = self._parts(outputs)
        rows, chosen = torch.arange(len(outputs), device=outputs.device), choose(logits, uniforms[:, 0], temperature)
        means, scales, mixing = means[rows, chosen], scales[rows, chosen], mixing[rows, chosen]
        noise = temperature * scales.exp() * torch.logit(uniforms[:, 1:], eps=1e-12).to(outputs.dtype)  # (n, C)
        x, codes = torch.zeros_like(means), torch.zeros_like(means, dtype=torch.int64)
        for colour in range(self.channels):
            mean = means[:, colour] + (mixing[:, colour] * x).sum(dim=1)
            value = (mean + noise[:, colour] + 1) / 2 * (self.levels - 1)
            codes[:, colour] = value.round().clamp(0, self.levels - 1).long()
            x[:, colour] = 2 * self.picture(codes[:, colour], x.dtype) - 1
        return codes

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (B, M, …), means and log scales (B, M, C, …), mixing of the colours (B, M, C, C, …)."""
        c = self.channels
        parts = outputs.unflatten(1, (self.components, -1)).split((1, c, c, self.pairs.shape[1]), dim=2)
        logits, means, scales, pairs = parts
        mixing = torch.zeros(*means.shape[:2], c, c, *means.shape[3:], dtype=means.dtype, device=means.device)
        later, earlier = self.pairs
        mixing[:, :, later, earlier] = torch.tanh(pairs)
        return logits.squeeze(2), means, scales.clamp(self.narrowest, self.widest), mixing


LIKELIHOODS: dict[str, type[Likelihood]] = {"softmax": Softmax, "binary": Binary, "logistic": LogisticMixture}
