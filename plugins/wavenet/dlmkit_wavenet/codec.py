r"""The µ-law code: sound as 256 classes, fine where it is quiet and coarse where it is loud."""

from __future__ import annotations

from typing import overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["LEVELS", "SILENCE", "mu_law_bounds", "mu_law_decode", "mu_law_encode"]

LEVELS = 256
"""Classes of the code; :math:`\\mu` is one less."""

SILENCE = LEVELS // 2
"""The class of a sample that is exactly zero."""

Samples = npt.NDArray[np.floating]
Codes = npt.NDArray[np.int64]


@overload
def mu_law_encode(x: Tensor) -> Tensor: ...
@overload
def mu_law_encode(x: Samples) -> Codes: ...
def mu_law_encode(x: Tensor | Samples) -> Tensor | Codes:
    r"""The classes of samples.

    .. math::
        f(x) = \operatorname{sign}(x)\,\frac{\ln(1 + \mu |x|)}{\ln(1 + \mu)}, \qquad
        c = \left\lfloor \frac{f(x) + 1}{2}\,\mu + \frac12 \right\rfloor, \qquad \mu = 255

    References:
        | ITU-T Recommendation G.711: Pulse code modulation of voice frequencies (1988)
        | WaveNet: A Generative Model for Raw Audio (van den Oord et al., 2016), section 2.2

    Args:
        x: Samples of any shape, float; what lies outside [-1, 1] is taken as the nearest end.

    Returns:
        Classes from 0 to 255, int64, of the same shape and kind (numpy or torch).
    """
    mu = LEVELS - 1
    if isinstance(x, Tensor):
        x = x.clamp(-1, 1)
        compressed = x.sign() * torch.log1p(mu * x.abs()) / np.log1p(mu)
        return torch.floor((compressed + 1) / 2 * mu + 0.5).long()
    x = np.clip(x, -1, 1)
    compressed = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    codes: Codes = np.floor((compressed + 1) / 2 * mu + 0.5).astype(np.int64)
    return codes


@overload
def mu_law_decode(codes: Tensor) -> Tensor: ...
@overload
def mu_law_decode(codes: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]: ...
def mu_law_decode(codes: Tensor | npt.NDArray[np.integer]) -> Tensor | npt.NDArray[np.float32]:
    r"""The samples that stand in the middle of their classes: the inverse of `mu_law_encode` up to rounding.

    .. math::
        x = \operatorname{sign}(y)\,\frac{(1 + \mu)^{|y|} - 1}{\mu}, \qquad y = \frac{2 c}{\mu} - 1

    Args:
        codes: Classes from 0 to 255, integers of any shape.

    Returns:
        Samples in [-1, 1], float32, of the same shape and kind (numpy or torch).
    """
    mu = LEVELS - 1
    if isinstance(codes, Tensor):
        place = codes.float() * 2 / mu - 1
        return place.sign() * torch.expm1(place.abs() * np.log1p(mu)) / mu
    y = codes.astype(np.float64) * 2 / mu - 1
    samples: npt.NDArray[np.float32] = (np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu).astype(np.float32)
    return samples


def mu_law_bounds() -> npt.NDArray[np.float64]:
    """Where one class ends and the next begins: 255 samples between the 256 classes, rising."""
    mu = LEVELS - 1
    y = (np.arange(mu) + 0.5) * 2 / mu - 1
    bounds: npt.NDArray[np.float64] = np.sign(y) * np.expm1(np.abs(y) * np.log1p(mu)) / mu
    return bounds
