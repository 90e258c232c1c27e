"""Painting in the style without its colours.

Dimensions: B pictures, H height, W width.
"""

from __future__ import annotations

import torch
from dlmkit_pictures.files import luminance
from torch import Tensor

__all__ = ["match_colours", "match_luminance", "with_luminance"]


def with_luminance(pictures: Tensor, bright: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) with another brightness (B, 1, H, W) and their own colours: I and Q of YIQ stay.

    References:
        | Preserving Color in Neural Artistic Style Transfer (Gatys, Bethge, Hertzmann & Shechtman, 2016), section 3.2
    """
    # I and Q do not change when the same number is added to red, green and blue.
    return pictures + (bright - luminance(pictures))


def match_luminance(style: Tensor, content: Tensor) -> Tensor:
    r"""A style's brightness (1, 1, H, W) with the mean and the deviation of the content's.

    .. math::
        L'_S = \frac{\sigma_C}{\sigma_S} (L_S - \mu_S) + \mu_C

    References:
        | Preserving Color in Neural Artistic Style Transfer (Gatys, Bethge, Hertzmann & Shechtman, 2016), section 3.2

    Args:
        style: Its brightness.
        content: Its brightness, of any size.
    """
    return content.std() / style.std().clamp(min=1e-6) * (style - style.mean()) + content.mean()


def match_colours(style: Tensor, content: Tensor) -> Tensor:
    r"""A style picture with the mean and the covariance of the content's colours.

    .. math::
        x' = A (x - \mu_S) + \mu_C, \qquad A = \Sigma_C^{1/2} \Sigma_S^{-1/2}

    References:
        | Preserving Color in Neural Artistic Style Transfer (Gatys, Bethge, Hertzmann & Shechtman, 2016), section 3.1

    Args:
        style: (1, 3, H, W).
        content: (1, 3, H', W').
    """
    theirs, ours = (picture[0].flatten(1).cpu().double() for picture in (style, content))  # (3, pixels)
    spread = torch.eye(3, dtype=torch.double) * 1e-8  # a grey picture has colours in one line
    change = _power(torch.cov(ours) + spread, 0.5) @ _power(torch.cov(theirs) + spread, -0.5)
    matched = change @ (theirs - theirs.mean(dim=1, keepdim=True)) + ours.mean(dim=1, keepdim=True)
    return matched.to(style).view_as(style)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=1e-12) ** exponent) @ vectors.T
