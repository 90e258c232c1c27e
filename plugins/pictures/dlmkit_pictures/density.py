"""How likely pictures are to those who look at little: what a net that learns a density of pictures has to beat.

Dimensions: N pictures, C channels, H height, W width, V levels, K classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["density_baselines", "independent_nats", "neighbour_nats"]

_CONTEXT = 17
"""Levels of a neighbour that are told apart."""

_AT_ONCE = 1000
"""Pictures that are counted together: int64 takes eight times the memory of what is stored."""


def independent_nats(train: Tensor, test: Tensor, levels: int, classes: tuple[Tensor, Tensor] | None = None) -> float:
    r"""Nats per test picture when each pixel is drawn by itself, as often as it had that level in training.

    .. math::
        p(x) = \prod_i \frac{1 + n_i(x_i)}{V + N}

    Args:
        train: Levels (N, C, H, W) from 0 to V - 1, of any whole type.
        test: The same of other pictures.
        levels: V.
        classes: Of both, (N,) int64: then pixels are counted for each class by itself.
    """
    of_train, of_test = classes or (torch.zeros(len(train)).long(), torch.zeros(len(test)).long())
    counts = torch.ones(int(max(of_train.max(), of_test.max())) + 1, train[0].numel(), levels, dtype=torch.double)
    one, places = torch.ones((), dtype=torch.double), torch.arange(train[0].numel())
    for kinds, part in zip(of_train.split(_AT_ONCE), train.split(_AT_ONCE), strict=True):
        counts.index_put_((kinds[:, None], places, part.flatten(1).long()), one, accumulate=True)
    log_prob = counts.div_(counts.sum(dim=2, keepdim=True)).log_()
    parts = zip(of_test.split(_AT_ONCE), test.split(_AT_ONCE), strict=True)
    total = sum(float(log_prob[kinds[:, None], places, part.flatten(1).long()].sum()) for kinds, part in parts)
    return -total / len(test)


def neighbour_nats(train: Tensor, test: Tensor, levels: int) -> float:
    r"""Nats per test picture when each pixel follows from its left and its upper neighbour, wherever it is.

    .. math::
        p(x) = \prod_i \frac{1 + n(x_i, x_{\text{left}}, x_{\text{above}})}{V + n(x_{\text{left}}, x_{\text{above}})}

    Of more than 17 levels, those of the neighbours are joined to 17; beyond the border is a level of its own.

    Args:
        train: Levels (N, C, H, W) from 0 to V - 1, of any whole type.
        test: The same of other pictures.
        levels: V.
    """
    coarse = min(levels, _CONTEXT)
    counts = torch.ones((coarse + 1) ** 2, levels, dtype=torch.double)  # float32 stops counting at 16,777,216
    for part in train.split(_AT_ONCE):
        where = _context(part.long(), levels, coarse), part.long()
        counts.index_put_(where, torch.ones((), dtype=torch.double), accumulate=True)
    log_prob = counts.div_(counts.sum(dim=1, keepdim=True)).log_()
    parts = (part.long() for part in test.split(_AT_ONCE))
    return -sum(float(log_prob[_context(part, levels, coarse), part].sum()) for part in parts) / len(test)


def _context(codes: Tensor, levels: int, coarse: int) -> Tensor:
    """The number of what is on the left of each pixel and above it, (N, C, H, W)."""
    known = F.pad(codes * coarse // levels, (1, 0, 1, 0), value=coarse)
    return known[:, :, 1:, :-1] * (coarse + 1) + known[:, :, :-1, 1:]


def density_baselines(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], levels: int
) -> dict[str, dict[str, float]]:
    """Nats per picture and bits per dimension of the simple ways; by class where the test's are known ones.

    Args:
        train: Pictures (N, C, H, W), float32 from 0 to 1, and classes (N,), int64.
        test: The same.
        levels: V.
    """
    parts = ((pictures * (levels - 1) for pictures in some.split(_AT_ONCE)) for some in (train[0], test[0]))
    known, asked = (torch.cat([codes.round().short() for codes in part]) for part in parts)
    nats = {
        "independent pixels": independent_nats(known, asked, levels),
        "two neighbours": neighbour_nats(known, asked, levels),
    }
    if set(test[1].tolist()) <= set(train[1].tolist()):
        nats["the same by class"] = independent_nats(known, asked, levels, (train[1], test[1]))
    size = asked[0].numel() * math.log(2)
    return {"test/nats": nats, "test/bits_per_dimension": {name: value / size for name, value in nats.items()}}
