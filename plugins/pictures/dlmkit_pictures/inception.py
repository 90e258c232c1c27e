"""The Fréchet Inception distance, which published figures are in; its net's weights are not part of any package.

Dimensions: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dlmkit.errors import UserError

if TYPE_CHECKING:
    from torchmetrics.image.fid import FrechetInceptionDistance

__all__ = ["DOWNLOAD", "add_pictures", "inception_distance"]

DOWNLOAD = "download"
"""Said in the place of a file: torch-fidelity fetches the weights itself."""

_AT_ONCE = 100  # pictures


def inception_distance(weights: str, where: str) -> FrechetInceptionDistance:
    """The metric, with its net ready to look at pictures.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)

    Args:
        weights: The file that torch-fidelity publishes, ``weights-inception-2015-12-05-6726825d.pth``, or ``download``.
        where: The option that names them, for the error.

    Raises:
        UserError: If torch-fidelity is not installed, or the weights cannot be had.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    if find_spec("torch_fidelity") is None:
        what = "Inception's features are computed by torch-fidelity, which is not installed"
        raise UserError(what, "pip install 'dlmkit-pictures[inception]', or leave this out", where)
    path = None if weights == DOWNLOAD else Path(weights).expanduser()
    if path is not None and not path.is_file():
        raise UserError(f"there is no file {weights}", f"give the file of Inception's weights, or {DOWNLOAD}", where)
    try:
        file = None if path is None else str(path)
        return FrechetInceptionDistance(2048, normalize=True, feature_extractor_weights_path=file)
    except Exception as error:  # whatever reading or fetching raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"Inception's weights cannot be had: {reason}"
        raise UserError(what, "give another file, or leave it out", where) from error


@torch.no_grad()
def add_pictures(metric: FrechetInceptionDistance, pictures: Tensor, *, real: bool) -> None:
    """Show pictures to the metric, a hundred at a time; it makes them 299 × 299 pixels itself.

    Args:
        metric: From :func:`inception_distance`.
        pictures: (N, C, H, W), float from 0 to 1; grey ones are shown in three equal channels.
        real: Whether they are real ones, or made.
    """
    for part in pictures.split(_AT_ONCE):
        metric.update(part.expand(-1, 3, -1, -1).float().to(metric.device), real=real)
