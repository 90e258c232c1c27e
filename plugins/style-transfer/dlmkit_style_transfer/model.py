"""What a picture shows and how it is painted, as losses on the activations of a fixed net.

Dimensions: B pictures, C channels, H height, W width, M = H · W places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlmkit_style_transfer.features import Features

__all__ = ["Losses", "StyleLosses", "StyleTarget", "gram", "total_variation"]


def gram(activations: Tensor) -> Tensor:
    r"""Gram matrices (B, C, C): how strongly each two maps are active in the same places, wherever that is.

    .. math::
        G_{ij} = \frac{1}{M} \sum_k F_{ik} F_{jk}

    This is equation 3 of the paper, divided by the number of places, so that pictures of other sizes can be compared.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys, Ecker & Bethge, 2016)

    Args:
        activations: F (B, C, H, W).
    """
    flat = activations.flatten(2)  # (B, C, M)
    with torch.autocast(flat.device.type, enabled=False):  # float16 cannot hold such sums, bfloat16 not tell them apart
        flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
        return torch.bmm(flat, flat.transpose(1, 2)) / flat.shape[2]


def total_variation(pictures: Tensor) -> Tensor:
    r"""How much neighbouring pixels differ (B,): the sum of two mean squares, one for each direction.

    .. math::
        V = \overline{(x_{i,j+1} - x_{i,j})^2} + \overline{(x_{i+1,j} - x_{i,j})^2}

    References:
        | Understanding Deep Image Representations by Inverting Them (Mahendran & Vedaldi, 2015), equation 3, β = 2
        | Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016), section 3.3

    Args:
        pictures: (B, C, H, W).
    """
    across = (pictures[..., 1:] - pictures[..., :-1]).square().flatten(1).mean(dim=1)
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).square().flatten(1).mean(dim=1)
    return across + down


class StyleTarget(NamedTuple):
    """What is kept of the style pictures, once and for all.

    Args:
        grams: By layer, the weighted mean of the styles' Gram matrices (C, C).
        apart: By layer, how far the styles' Gram matrices lie from their mean, as a mean square.
        size: By layer, the weighted mean of the squares of the Gram matrices, in which the style loss is measured.
        energy: By layer, the mean square of the activations, in which the content loss is measured.
    """

    grams: dict[str, Tensor]
    apart: dict[str, Tensor]
    size: dict[str, Tensor]
    energy: dict[str, Tensor]


class Losses(NamedTuple):
    """How far pictures are from what they should be.

    Args:
        content: (B,).
        style: (B,).
    """

    content: Tensor
    style: Tensor


class StyleLosses(nn.Module):
    r"""The two losses of style transfer.

    .. math::
        L_{content} = \frac{1}{|C|} \sum_{l \in C} \frac{\lVert F^l - P^l \rVert^2}{N_l M_l \, e_l}, \qquad
        L_{style} = \frac{1}{|S|} \sum_{l \in S} \sum_k w_k
        \frac{\lVert G^l - A_k^l \rVert^2}{\sum_k w_k \lVert A_k^l \rVert^2}

    F are the activations of the picture that is made and P those of the content picture; G is the Gram matrix of the
    former and A_k that of style k, whose weight is w_k. These are equations 1, 4 and 5 of the paper with other factors:
    a layer's style loss is 1 for a picture without any activation, and the content loss counts in mean squares of the
    style's activations, e. So the two weights mean the same whatever the net is, and no layer counts for more because
    its numbers are large.

    Several styles cost no more than one: the sum over k is the distance to the mean of the A_k, and how far they are
    from that, which the picture does not change.

    References:
        | Image Style Transfer Using Convolutional Neural Networks (Gatys, Ecker & Bethge, 2016)

    Args:
        features: The fixed net.
        content_layers: Names of layers C.
        style_layers: Names of layers S.

    Raises:
        ValueError: If there is no such layer.
    """

    def __init__(self, features: Features, content_layers: Sequence[str], style_layers: Sequence[str]) -> None:
        super().__init__()
        for name in (*content_layers, *style_layers):
            if name not in features.names:
                raise ValueError(f"there is no layer {name} but {', '.join(features.names)}")
        self.features = features
        self.content_layers, self.style_layers = tuple(content_layers), tuple(style_layers)
        self.wanted = frozenset((*content_layers, *style_layers))

    @torch.no_grad()
    def content_target(self, content: Tensor) -> dict[str, Tensor]:
        """The activations P (B, C, H, W) of content pictures (B, 3, H, W), by layer."""
        return self.features(content, self.content_layers)

    @torch.no_grad()
    def style_target(self, styles: Sequence[Tensor], weights: Sequence[float] | None = None) -> StyleTarget:
        """What is to be known of the styles.

        Args:
            styles: (1, 3, H, W) each; they may have sizes of their own.
            weights: One for each style, of any sum; equal ones when left out.
        """
        given = [1.0] * len(styles) if weights is None else weights
        shares = [weight / sum(given) for weight in given]
        seen = [self.features(style, self.wanted) for style in styles]
        energy = {c: _mean(shares, [found[c].square().mean() for found in seen]) for c in self.content_layers}
        grams, apart, size = {}, {}, {}
        for layer in self.style_layers:
            each = [gram(found[layer])[0] for found in seen]
            grams[layer] = _mean(shares, each)
            size[layer] = _mean(shares, [matrix.square().sum() for matrix in each])
            apart[layer] = _mean(shares, [(matrix - grams[layer]).square().sum() for matrix in each])
        return StyleTarget(grams, apart, size, energy)

    def forward(self, pictures: Tensor, content: Mapping[str, Tensor], style: StyleTarget) -> Losses:
        """The losses of pictures (B, 3, H, W), from 0 to 1.

        Args:
            pictures: They have the size of the content pictures.
            content: From `content_target`.
            style: From `style_target`.
        """
        seen = self.features(pictures, self.wanted)
        zero = pictures.new_zeros(len(pictures))
        contents, styles = [zero], [zero]
        for layer in self.content_layers:
            contents.append((seen[layer] - content[layer]).square().flatten(1).mean(dim=1) / style.energy[layer])
        for layer in self.style_layers:
            away = (gram(seen[layer]) - style.grams[layer]).square().flatten(1).sum(dim=1)
            styles.append((away + style.apart[layer]) / style.size[layer])
        return Losses(sum(contents) / max(1, len(contents) - 1), sum(styles) / max(1, len(styles) - 1))  # type: ignore[arg-type]


def _mean(shares: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    return torch.stack([share * value for share, value in zip(shares, values, strict=True)]).sum(dim=0)
