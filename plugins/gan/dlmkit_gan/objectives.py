r"""What generator and discriminator minimise: the minimax game of the paper, and three games that are easier to play.

The discriminator's outputs are logits, :math:`D(x) = \sigma(d(x))`. Dimensions: B pictures of a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["OBJECTIVES", "Hinge", "Minimax", "NonSaturating", "Objective", "Wasserstein", "gradient_penalty"]


class Objective(ABC):
    """A game: what each of the two minimises, given the discriminator's outputs d (B,) on real and on made pictures."""

    penalised: ClassVar[bool] = False
    """Whether the discriminator's gradient is to be held at 1."""
    probable: ClassVar[bool] = True
    """Whether D = σ(d) is meant as the probability that a picture is real."""

    @abstractmethod
    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """The discriminator's loss."""

    @abstractmethod
    def generator(self, made: Tensor) -> Tensor:
        """The generator's loss."""


class Minimax(Objective):
    r"""The game of the paper, of which one side's gain is the other's loss.

    .. math::
        \min_G \max_D \; \mathbb{E}[\log D(x)] + \mathbb{E}[\log(1 - D(G(z)))]

    Where the discriminator is sure, the generator's gradient is next to nothing: it saturates.

    References:
        | Generative Adversarial Nets (Goodfellow et al., 2014), equation 1
    """

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """-log D(x) - log(1 - D(G(z)))."""
        return F.softplus(-real).mean() + F.softplus(made).mean()

    def generator(self, made: Tensor) -> Tensor:
        """log(1 - D(G(z)))."""
        return -F.softplus(made).mean()


class NonSaturating(Minimax):
    r"""The same for the discriminator; the generator maximises :math:`\log D(G(z))`.

    Its gradient is large where it loses.

    References:
        | Generative Adversarial Nets (Goodfellow et al., 2014), section 3
    """

    def generator(self, made: Tensor) -> Tensor:
        """-log D(G(z))."""
        return F.softplus(-made).mean()


class Wasserstein(Objective):
    r"""The discriminator becomes a critic, whose gradient is held at 1 by a penalty.

    .. math::
        \mathcal{L}_D = \mathbb{E}[d(G(z))] - \mathbb{E}[d(x)], \qquad \mathcal{L}_G = -\mathbb{E}[d(G(z))]

    References:
        | Wasserstein GAN (Arjovsky, Chintala & Bottou, 2017)
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), for the penalty
    """

    penalised = True
    probable = False

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """d(G(z)) - d(x)."""
        return made.mean() - real.mean()

    def generator(self, made: Tensor) -> Tensor:
        """-d(G(z))."""
        return -made.mean()


class Hinge(Objective):
    r"""The discriminator stops pushing where it is right by a margin.

    .. math::
        \mathcal{L}_D = \mathbb{E}[\max(0, 1 - d(x))] + \mathbb{E}[\max(0, 1 + d(G(z)))], \qquad
        \mathcal{L}_G = -\mathbb{E}[d(G(z))]

    References:
        | Geometric GAN (Lim & Ye, 2017)
        | Spectral Normalization for Generative Adversarial Networks (Miyato et al., 2018), equations 16 and 17
    """

    probable = False

    def discriminator(self, real: Tensor, made: Tensor) -> Tensor:
        """max(0, 1 - d(x)) + max(0, 1 + d(G(z)))."""
        return F.relu(1 - real).mean() + F.relu(1 + made).mean()

    def generator(self, made: Tensor) -> Tensor:
        """-d(G(z))."""
        return -made.mean()


OBJECTIVES: dict[str, type[Objective]] = {
    "minimax": Minimax,
    "non-saturating": NonSaturating,
    "wasserstein": Wasserstein,
    "hinge": Hinge,
}
"""By the names that a recipe uses."""


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, mix: Tensor) -> Tensor:
    r"""How far the critic's gradient is from 1 between real and made pictures.

    .. math::
        \mathbb{E}\bigl[(\lVert \nabla_{\hat x} d(\hat x) \rVert_2 - 1)^2\bigr], \qquad
        \hat x = \epsilon x + (1 - \epsilon) G(z)

    References:
        | Improved Training of Wasserstein GANs (Gulrajani et al., 2017), equation 3

    Args:
        critic: Takes pictures (B, C, H, W) and gives (B,).
        real: Pictures (B, C, H, W).
        made: Pictures (B, C, H, W).
        mix: :math:`\epsilon` (B, 1, 1, 1), from 0 to 1.
    """
    between = (mix * real + (1 - mix) * made).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
