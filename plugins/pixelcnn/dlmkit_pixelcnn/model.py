r"""PixelCNN: a picture as a sequence of pixels, each predicted from those before it by masked convolutions.

Pixels come row by row from the upper left, and in a pixel red before green before blue:

.. math::
    p(x) = \prod_i p(x_i \mid x_1, \dots, x_{i-1})

:class:`GatedPixelCNN` is the net of the second paper, whose two stacks see all that came before; that of the first,
which has a blind spot, is in :mod:`dlmkit_pixelcnn.plain`.

B batch, C colour channels, H height, W width, R features, L layers, K kernel size, S width of the read-out, O outputs,
G groups: the parts of a pixel that are predicted one after the other, S' maps of what is where.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "GatedLayer",
    "GatedPixelCNN",
    "MaskedConv2d",
    "Places",
    "from_condition",
    "gated",
    "pixel_groups",
    "require_sizes",
    "spread",
    "with_border",
]

OUTSIDE = -1
"""The group of the channel that says where the picture is: everybody may see it."""


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees nothing of what comes after its centre, row by row.

    At the centre itself an output sees the inputs of earlier groups, and those of its own where the mask is of type B.

    References:
        | Pixel Recurrent Neural Networks (van den Oord, Kalchbrenner & Kavukcuoglu, 2016), section 3.4

    Args:
        in_groups: The group of each input channel.
        out_groups: The group of each output channel.
        kernel: Rows and columns that the convolution looks at.
        centre: Row and column of the pixel itself among them.
        own: Whether an output sees its own group at the centre: mask B; mask A, of a first layer, does not.
    """

    bias: Tensor
    mask: Tensor

    def __init__(
        self,
        in_groups: Sequence[int],
        out_groups: Sequence[int],
        kernel: tuple[int, int] = (1, 1),
        centre: tuple[int, int] = (0, 0),
        own: bool = True,
    ) -> None:
        super().__init__(len(in_groups), len(out_groups), kernel)
        (rows, columns), (row, column) = kernel, centre
        self.margins = (column, columns - 1 - column, row, rows - 1 - row)
        given, told = torch.tensor(in_groups)[None, :], torch.tensor(out_groups)[:, None]
        mask = torch.zeros_like(self.weight)
        mask[:, :, :row] = mask[:, :, row, :column] = 1
        mask[:, :, row, column] = (given <= told if own else given < told).float()
        self.register_buffer("mask", mask, persistent=False)

    @property
    def masked(self) -> Tensor:
        """The weights that are used, (out, in, rows, columns)."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        """Of x (B, in, H, W) as many pixels (B, out, H, W)."""
        return F.conv2d(F.pad(x, self.margins), self.masked, self.bias)


def gated(x: Tensor) -> Tensor:
    """Gated units (B, R, …) from what goes into filters and gates, (B, 2R, …)."""
    filters, gates = x.chunk(2, dim=1)
    return torch.tanh(filters) * torch.sigmoid(gates)


def with_border(x: Tensor) -> Tensor:
    """Pictures (B, C, H, W) from 0 to 1 as (B, 1 + C, H, W) from -1 to 1, behind a channel of ones.

    Convolutions see zeros beyond the border: by that channel they know that they are there.
    """
    return torch.cat((torch.ones_like(x[:, :1]), 2 * x - 1), dim=1)


class GatedLayer(nn.Module):
    r"""One layer of both stacks.

    .. math::
        a = W_v * v, \qquad v' = \tanh(a_f + V_f h) \odot \sigma(a_g + V_g h)

    .. math::
        b = W_h * u + W_l a, \qquad z = \tanh(b_f + U_f h) \odot \sigma(b_g + U_g h), \qquad u' = u + W_r z

    Here v is the vertical stack, which sees the rows above, u the horizontal one, which sees what is left of the pixel
    in its row and, through the link :math:`W_l`, what the vertical one sees; h is the condition. The first layer sees
    pixels, and has :math:`u' = W_r z`. The vertical convolution needs no mask: its input is moved down.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), figure 2

    Args:
        channels: Input channels: R, or 1 + C in the first layer.
        groups: The group of each of the R features.
        kernel_size: Columns K that a vertical convolution looks at; it is odd.
        in_groups: In the first layer, which sees pixels, the group of each input channel.
        last: Whether no layer follows.
        dropout: Probability that a feature is dropped for a whole picture.
    """

    def __init__(
        self,
        channels: int,
        groups: Sequence[int],
        kernel_size: int,
        in_groups: Sequence[int] | None = None,
        last: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width, self.reach = len(groups), kernel_size // 2
        self.first, self.last = in_groups is not None, last
        rows = self.reach if self.first else self.reach + 1
        self.vertical = nn.Conv2d(channels, 2 * width, (rows, kernel_size), padding=(self.reach, self.reach))
        kernel, centre = (1, self.reach + 1), (0, self.reach)
        self.horizontal = MaskedConv2d(in_groups or groups, [*groups, *groups], kernel, centre, own=not self.first)
        self.link = nn.Conv2d(2 * width, 2 * width, 1, bias=False)  # of whole rows above: there is nothing to mask
        self.residual = None if last else MaskedConv2d(groups, groups)
        self.dropout = nn.Dropout2d(dropout)

    def look_up(self, v: Tensor) -> Tensor:
        """The vertical convolution (B, 2R, H, W) of v (B, R, H, W): in the first layer of the rows above alone."""
        return self.vertical(v)[:, :, : v.shape[2]]

    def forward(self, v: Tensor, u: Tensor, h: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Run over pictures.

        Args:
            v: The vertical stack (B, R, H, W).
            u: The horizontal stack (B, R, H, W).
            h: What the condition adds to either, (B, 2R, 1, 1) or (B, 2R, H, W) each.

        Returns:
            v and u of the next layer, and z for the read-out, (B, R, H, W) each; the last layer has no next v and u.
        """
        above, here = h if h is not None else (0.0, 0.0)
        a = self.look_up(v)
        z = self.dropout(gated(self.horizontal(u) + self.link(a) + here))
        if self.residual is None:
            return v, u, z
        after = self.residual(z)
        return self.dropout(gated(a + above)), after if self.first else u + after, z


def from_condition(size: int, classes: int = 0, embedding_size: int = 0) -> nn.Embedding | nn.Linear | None:
    """What makes ``size`` numbers of a class or of a vector; nothing where pictures are made after neither.

    Args:
        size: Numbers that it makes.
        classes: Classes that a picture can have, 0 for none.
        embedding_size: Numbers in a vector that pictures are made after, 0 for none.
    """
    if classes:
        table = nn.Embedding(classes, size)
        nn.init.normal_(table.weight, std=0.1)
        return table
    return nn.Linear(embedding_size, size, bias=False) if embedding_size else None


class Places(nn.Module):
    r"""What the condition says of each place: maps s that are added to all gates through a 1 × 1 convolution.

    .. math::
        s = P + m(h)

    The maps P are the same for all pictures: by them the net knows where it is, and m(h) is made of the condition, at a
    quarter of the size and enlarged.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016), equation 5

    Args:
        maps: How many maps S'.
        side: Their rows H and columns W.
        width: Numbers that a place adds to the gates of all layers.
        classes: Classes that a picture can have, 0 for none.
        embedding_size: Numbers in a vector that pictures are made after, 0 for none.
    """

    def __init__(self, maps: int, side: int, width: int, classes: int = 0, embedding_size: int = 0) -> None:
        super().__init__()
        self.side, self.coarse = side, -(-side // 4)
        self.everywhere = nn.Parameter(0.1 * torch.randn(maps, side, side))
        size = maps * self.coarse**2
        self.made = from_condition(size, classes, embedding_size)
        self.spread = nn.Conv2d(maps, width, 1, bias=False)

    def forward(self, condition: Tensor | None) -> Tensor:
        """What goes into the gates (B, width, H, W) for classes (B,) or vectors (B, E), or (1, …) for neither."""
        maps = self.everywhere[None]
        if condition is not None and self.made is not None:
            coarse = self.made(condition).view(len(condition), -1, self.coarse, self.coarse)
            maps = maps + F.interpolate(coarse, (self.side, self.side), mode="bilinear", align_corners=False)
        into_gates: Tensor = self.spread(maps)
        return into_gates


class GatedPixelCNN(nn.Module):
    r"""The gated net: two stacks of :class:`GatedLayer`, and a read-out of the features of all layers.

    Its receptive field has no blind spot: after a few layers a pixel sees all that came before it.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)

    Args:
        channels: Colour channels C.
        outputs: Numbers O that the net tells of each pixel, those of the first group first.
        groups: Parts G of a pixel, each of which is predicted from those before it: C, or 1.
        width: Features R, a multiple of G.
        layers: Layers L.
        kernel_size: Columns K that a convolution looks at; an odd number.
        first_kernel_size: The same in the first layer.
        head_width: Width S of the read-out, a multiple of G.
        classes: Classes that a picture can have, 0 for none.
        embedding_size: Numbers in a vector that pictures are made after, 0 for none.
        dropout: Probability in [0, 1) that a feature is dropped.
        maps: How many maps S' say what is where; 0 for none, and then pictures can be of any size.
        side: Rows and columns of a picture, where there are maps.

    Raises:
        ValueError: If a size is out of range, or both kinds of conditions are asked for.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        groups: int = 1,
        width: int = 48,
        layers: int = 6,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        head_width: int = 96,
        classes: int = 0,
        embedding_size: int = 0,
        dropout: float = 0.0,
        maps: int = 0,
        side: int = 0,
    ) -> None:
        super().__init__()
        require_sizes(channels, outputs, groups, width, layers, kernel_size, first_kernel_size, head_width)
        if maps < 0 or (maps and side < 1):
            raise ValueError(f"{maps=} must not be negative, and {side=} be that of a picture")
        if classes and embedding_size:
            raise ValueError(f"{classes=} and {embedding_size=}: give one of them")
        self.channels, self.outputs, self.groups, self.width = channels, outputs, groups, width
        pixels, features = pixel_groups(channels, groups), spread(width, groups)
        made = []
        for number in range(layers):
            first, last = number == 0, number == layers - 1
            size = (1 + channels, features, first_kernel_size) if first else (width, features, kernel_size)
            made.append(GatedLayer(*size, pixels if first else None, last, dropout))
        self.layers: Sequence[GatedLayer] = nn.ModuleList(made)  # type: ignore[assignment]
        self.skip = MaskedConv2d(features * layers, spread(head_width, groups))
        self.end = MaskedConv2d(spread(head_width, groups), spread(head_width, groups))
        self.readout = MaskedConv2d(spread(head_width, groups), spread(outputs, groups))
        self.condition = from_condition(layers * 4 * width, classes, embedding_size)  # V of every layer side by side
        self.places = Places(maps, side, layers * 4 * width, classes, embedding_size) if maps else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the net tells of each pixel.

        Args:
            x: Pictures (B, C, H, W) from 0 to 1.
            condition: Classes (B,), int64, or vectors (B, E), where the net has them.

        Returns:
            (B, O, H, W).
        """
        v = u = with_border(x)
        found = []
        for layer, h in zip(self.layers, self.conditions(condition), strict=True):
            v, u, z = layer(v, u, h)
            found.append(z)
        return self.head(torch.cat(found, dim=1))

    def head(self, z: Tensor) -> Tensor:
        """Outputs (B, O, H, W) from the gated units of all layers, (B, L·R, H, W)."""
        return self.readout(F.relu(self.end(F.relu(self.skip(z)))))

    def conditions(self, condition: Tensor | None) -> Sequence[tuple[Tensor, Tensor] | None]:
        """What the condition adds to both stacks of each layer, (B, 2R, 1, 1) or (B, 2R, H, W) each, or None.

        Raises:
            ValueError: If the net has a condition and none is given, or the reverse.
        """
        if (condition is None) != (self.condition is None):
            raise ValueError(
                f"the net has {'no' if self.condition is None else 'a'} condition, which is not what is given"
            )
        found = None if self.condition is None else self.condition(condition)[:, :, None, None]  # (B, L·4R, 1, 1)
        if self.places is not None:
            places = self.places(condition)
            found = places if found is None else found + places
        if found is None:
            return [None] * len(self.layers)
        both = found.unflatten(1, (len(self.layers), 2, 2 * self.width))
        return [(h[:, 0], h[:, 1]) for h in both.unbind(1)]


def spread(size: int, groups: int) -> list[int]:
    """The group of each channel: as many for each group, those of the first one first."""
    return [group for group in range(groups) for _ in range(size // groups)]


def pixel_groups(channels: int, groups: int) -> list[int]:
    """The group of each input channel: the border's, and one for each colour where they are predicted in turn."""
    return [OUTSIDE, *(colour if groups > 1 else 0 for colour in range(channels))]


def require_sizes(
    channels: int, outputs: int, groups: int, width: int, layers: int, kernel: int, first_kernel: int, head: int
) -> None:
    """See that a net can be made of these sizes.

    Raises:
        ValueError: If it cannot.
    """
    if min(channels, outputs, width, head) < 1 or layers < 2:
        raise ValueError(f"{width=} and {head=} must be positive, and {layers=} at least 2")
    if groups not in (1, channels):
        raise ValueError(f"{groups=} must be 1 or the number of colours, {channels}")
    for name, size in (("outputs", outputs), ("width", width), ("head_width", head)):
        if size % groups:
            raise ValueError(f"{name} is {size} and must be a multiple of {groups}, the number of colours")
    for name, size in (("kernel_size", kernel), ("first_kernel_size", first_kernel)):
        if size < 3 or not size % 2:
            raise ValueError(f"{name} is {size} and must be an odd number from 3 on")
