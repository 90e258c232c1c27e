"""How near pictures are to the ones they should be.

Dimensions: B pictures, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fidelity"]

_LEAST_ERROR = 1e-10  # of a mean square; a picture without error has 100 dB


def fidelity(made: Tensor, truth: Tensor) -> dict[str, Tensor]:
    r"""Three figures for each pair of pictures, and one for how much detail there is.

    .. math::
        \text{l1} = \overline{|y - \hat y|}, \qquad
        \text{psnr} = 10 \log_{10} \frac{1}{\overline{(y - \hat y)^2}}, \qquad
        \text{detail} = \frac{\overline{|\nabla \hat y|}}{\overline{|\nabla y|}}

    Each is computed for a picture by itself, so that the mean over a split does not depend on its batches. ``detail``
    is 1 where a picture has as much of it as the truth, right or wrong; a blurred one has less.

    References:
        | Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004), for SSIM with a
          Gaussian window of deviation 1.5

    Args:
        made: (B, C, H, W), from 0 to 1; at least 11 × 11 pixels.
        truth: The same.

    Returns:
        ``psnr`` in decibels, ``ssim``, ``l1`` and ``detail``, each (B,).
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    with torch.autocast(made.device.type, enabled=False):  # variances in half precision are mostly rounding
        made, truth = made.float(), truth.float()
        square = (made - truth).square().mean(dim=(1, 2, 3)).clamp(min=_LEAST_ERROR)
        return {
            "psnr": -10 * torch.log10(square),
            "ssim": torch.as_tensor(ssim(made, truth, data_range=1.0, reduction="none")).reshape(len(made)),
            "l1": (made - truth).abs().mean(dim=(1, 2, 3)),
            "detail": _slope(made) / _slope(truth).clamp(min=1e-6),
        }


def _slope(pictures: Tensor) -> Tensor:
    """The mean difference between neighbouring pixels (B,)."""
    down, right = pictures.diff(dim=2).abs(), pictures.diff(dim=3).abs()
    return down.mean(dim=(1, 2, 3)) + right.mean(dim=(1, 2, 3))
