r"""Pictures drawn pixel by pixel: naively, and with all that stays the same kept.

:func:`naive` runs the whole net anew for each part of each pixel. :class:`Cached` computes every feature once: when a
row is begun, the vertical stack over that row, from the few rows that its convolutions look back on; when a pixel is
drawn, the horizontal stack in one column, from the few columns on its left. Both draw with the same uniform numbers, so
that they give the same pictures but for rounding.

n pictures, C colour channels, H height, W width, R features, L layers, O outputs, G groups: the parts of a pixel that
are drawn one after the other, U uniform numbers for the draw of one; r how far a layer looks back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit_pixelcnn.likelihoods import Likelihood
from dlmkit_pixelcnn.model import GatedPixelCNN, MaskedConv2d, gated, with_border

__all__ = ["Cached", "naive", "uniform_numbers"]


def uniform_numbers(likelihood: Likelihood, n: int, height: int, width: int, seed: int = 1, alike: int = 1) -> Tensor:
    """The numbers that n pictures are drawn with, (H, W, G, n, U) float64 in [0, 1).

    Args:
        likelihood: Says how many numbers a draw takes.
        n: Pictures; more of them leave the numbers of the first ones as they are.
        height: Their rows H.
        width: Their columns W.
        seed: The same seed gives the same numbers.
        alike: So many pictures in succession are drawn with the same numbers.
    """
    shape = -(-n // alike), height, width, likelihood.groups, likelihood.numbers
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn.repeat_interleave(alike, dim=0)[:n].permute(1, 2, 3, 0, 4).contiguous()


@torch.no_grad()
def naive(
    net: GatedPixelCNN,
    likelihood: Likelihood,
    uniforms: Tensor,
    condition: Tensor | None = None,
    temperature: float = 1.0,
    most: int | None = None,
) -> Tensor:
    """Draw pictures with a run of the whole net for each part of each pixel.

    Args:
        net: In evaluation mode.
        likelihood: What its outputs mean.
        uniforms: (H, W, G, n, U), from :func:`uniform_numbers`.
        condition: Classes (n,) or vectors (n, E), where the net has them.
        temperature: 1 is the net's own distribution, 0 takes the likeliest.
        most: Pixels to draw, where a part of them is enough; the others are 0.

    Returns:
        Levels (n, C, H, W), int64.
    """
    height, width, groups, n, _ = uniforms.shape
    codes = torch.zeros(n, likelihood.channels, height, width, dtype=torch.int64, device=uniforms.device)
    pictures = torch.zeros(codes.shape, dtype=net.readout.weight.dtype, device=codes.device)
    size, colours = likelihood.outputs // groups, likelihood.channels // groups
    for pixel in range(height * width if most is None else most):
        i, j = divmod(pixel, width)
        for group in range(groups):
            outputs = net(pictures, condition)[:, group * size : (group + 1) * size, i, j]
            drawn = likelihood.draw(outputs, uniforms[i, j, group], temperature)
            codes[:, group * colours : (group + 1) * colours, i, j] = drawn
            pictures[:, :, i, j] = likelihood.picture(codes[:, :, i, j], pictures.dtype)
    return codes


class _Column(NamedTuple):
    """What one layer does for one group, at one column: all views into the same few buffers.

    Args:
        window: What the horizontal convolution sees, (n, inputs).
        above: What comes from the rows above and from the condition, (n, 2R/G).
        weight: Of the horizontal convolution, (inputs, 2R/G).
        z: Where the gated units go, (n, R/G).
        units: The gated units that the residual connection sees, (n, up to R).
        residual: Its weights (up to R, R/G), or None in the last layer.
        stream: What they are added to, (n, R/G), or None in the first layer.
        next: Where the next layer finds the sum, (n, R/G).
    """

    window: Tensor
    above: Tensor
    weight: Tensor
    z: Tensor
    units: Tensor
    residual: Tensor | None
    stream: Tensor | None
    next: Tensor


class _Readout(NamedTuple):
    """A 1 × 1 convolution of the read-out, for one group.

    Args:
        inputs: (n, inputs), a view.
        weight: (inputs, outputs).
        bias: (outputs,).
    """

    inputs: Tensor
    weight: Tensor
    bias: Tensor


class Cached:
    r"""Draws pictures with the features of earlier rows and columns kept: as :func:`naive` does with the same numbers.

    A picture costs one run of the net in all, where naively it costs H · W · G.

    The biases of the residual connections are left out of the horizontal stack, and what they amount to,
    :math:`c_l = \sum_{k<l} b_k`, is put into the bias of the next convolution; where that looks beyond the border,
    which holds zeros, the buffers hold :math:`-c_l`.

    References:
        | Fast Generation for Convolutional Autoregressive Models (Ramachandran et al., 2017)

    Args:
        net: In evaluation mode.
        likelihood: What its outputs mean.
        n: Pictures that are drawn together.
        height: Their rows H.
        width: Their columns W.
        condition: Classes (n,) or vectors (n, E), where the net has them.
    """

    @torch.no_grad()
    def __init__(
        self,
        net: GatedPixelCNN,
        likelihood: Likelihood,
        n: int,
        height: int,
        width: int,
        condition: Tensor | None = None,
    ) -> None:
        self.net, self.likelihood, self.n, self.height, self.width = net, likelihood, n, height, width
        self.conditions = net.conditions(condition)
        weight, reaches = net.readout.weight, [layer.reach for layer in net.layers]
        self.made = weight.new_zeros
        sizes = [1 + net.channels] + [net.width] * (len(reaches) - 1)
        sides = list(zip(sizes, reaches, strict=True))
        self.rows = [self.made(n, size, height + r, width + 2 * r) for size, r in sides]  # of v, behind a border
        self.columns = [self.made(n, width + r, size) for size, r in sides]  # of u, behind a border
        self.rows[0][:, 0, reaches[0] :, reaches[0] : reaches[0] + width] = 1
        self.columns[0][:, reaches[0] :, 0] = 1
        self.above = [self.made(net.groups, width, n, 2 * net.width // net.groups) for _ in reaches]
        self.gates = self.made(n, 2 * net.width // net.groups)
        self.units = self.made(n, len(reaches), net.width)
        self.hidden = [self.made(n, net.end.out_channels) for _ in range(2)]
        self.shifts = self._shifts()
        self.codes = torch.zeros(n, net.channels, height, width, dtype=torch.int64, device=weight.device)
        self.steps = [self._group_steps(group) for group in range(net.groups)]
        self.readouts = [self._readouts(group) for group in range(net.groups)]

    # ------------------------------------------------------------------------------------------------ what is prepared

    def _shifts(self) -> list[Tensor]:
        """What goes into each layer's gates in every pixel: its bias, and what is left out of the stream before it."""
        total, shifts = None, []
        for layer, columns in zip(self.net.layers, self.columns, strict=True):
            shift = layer.horizontal.bias
            if total is not None:
                columns[:, : layer.reach] = -total
                shift = shift + layer.horizontal.masked.sum(dim=(2, 3)) @ total
            if layer.residual is not None:
                total = layer.residual.bias if total is None else total + layer.residual.bias
            shifts.append(shift)
        return shifts

    def _group_steps(self, group: int) -> list[list[_Column]]:
        """All that is done for one group, by column and layer."""
        net, part = self.net, self.net.width // self.net.groups
        mine = slice(group * part, (group + 1) * part)
        found: list[list[_Column]] = [[] for _ in range(self.width)]
        for number, layer in enumerate(net.layers):
            columns, size = self.columns[number].flatten(1), self.columns[number].shape[2]
            known = 1 + (group if net.groups > 1 else 0) if layer.first else mine.stop  # of the pixel itself
            inputs = layer.reach * size + known
            halves = layer.horizontal.masked[:, :, 0].unflatten(0, (2, -1))[:, mine].flatten(0, 1)  # (2R/G, size, r+1)
            weight = halves.transpose(1, 2).flatten(1)[:, :inputs].t().contiguous()
            residual = None if layer.residual is None else _matrix(layer.residual, mine, mine.stop)
            units = self.units[:, number]
            for j, steps in enumerate(found):
                here, after = self.columns[number][:, j + layer.reach], self._after(number, j)
                stream = None if layer.first else here[:, mine]
                views = (columns[:, j * size : j * size + inputs], self.above[number][group, j], weight)
                steps.append(_Column(*views, units[:, mine], units[:, : mine.stop], residual, stream, after[:, mine]))
        return found

    def _after(self, number: int, j: int) -> Tensor:
        """Where the layer after this one finds column j of the stream, (n, R)."""
        following = min(number + 1, len(self.columns) - 1)
        return self.columns[following][:, j + self.net.layers[following].reach]

    def _readouts(self, group: int) -> list[_Readout]:
        """The convolutions of the read-out; those after the first see what the groups up to this one told."""
        net = self.net
        head = net.end.out_channels // net.groups
        mine, out = slice(group * head, (group + 1) * head), net.outputs // net.groups
        told = slice(group * out, (group + 1) * out)
        skip = _Readout(self.units.flatten(1), _matrix(net.skip, mine), net.skip.bias[mine])
        end = _Readout(self.hidden[0][:, : mine.stop], _matrix(net.end, mine, mine.stop), net.end.bias[mine])
        last = _Readout(self.hidden[1][:, : mine.stop], _matrix(net.readout, told, mine.stop), net.readout.bias[told])
        return [skip, end, last]

    # ------------------------------------------------------------------------------------------------ what is computed

    @torch.no_grad()
    def look_up(self, i: int) -> None:
        """Begin row i: the vertical stack, and what it tells the horizontal one."""
        for number, layer in enumerate(self.net.layers):
            above, here = (_row(part, i) for part in self.conditions[number] or (0.0, 0.0))
            rows = layer.vertical.kernel_size[0]
            a = F.conv2d(self.rows[number][:, :, i : i + rows], layer.vertical.weight, layer.vertical.bias)
            told = layer.link(a) + self.shifts[number][:, None, None] + here  # (n, 2R, 1, W)
            parts = told[:, :, 0].unflatten(1, (2, self.net.groups, -1))  # (n, 2, G, R/G, W)
            self.above[number].copy_(parts.permute(2, 4, 0, 1, 3).flatten(3))
            if not layer.last:
                reach = self.net.layers[number + 1].reach
                self.rows[number + 1][:, :, reach + i, reach : reach + self.width] = gated(a + above)[:, :, 0]

    @torch.no_grad()
    def outputs(self, j: int, group: int) -> Tensor:
        """What the net tells of a group of the pixel in column j of the row that was begun, (n, O / G)."""
        half = self.gates.shape[1] // 2
        filters, gates = self.gates[:, :half], self.gates[:, half:]
        for step in self.steps[group][j]:
            torch.addmm(step.above, step.window, step.weight, out=self.gates)
            torch.mul(filters.tanh(), gates.sigmoid(), out=step.z)
            if step.residual is None:
                continue
            if step.stream is None:
                torch.mm(step.units, step.residual, out=step.next)
            else:
                torch.addmm(step.stream, step.units, step.residual, out=step.next)
        skip, end, last = self.readouts[group]
        size = len(skip.bias)
        for hidden, part in zip(self.hidden, (skip, end), strict=True):
            told = torch.addmm(part.bias, part.inputs, part.weight)
            torch.clamp_min(told, 0, out=hidden[:, group * size : (group + 1) * size])
        return torch.addmm(last.bias, last.inputs, last.weight)

    @torch.no_grad()
    def put(self, i: int, j: int, group: int, codes: Tensor) -> None:
        """Let the net know what a group of a pixel is, (n, C / G) int64."""
        size = codes.shape[1]
        reach, value = self.net.layers[0].reach, 2 * self.likelihood.picture(codes, self.gates.dtype) - 1
        mine = slice(group * size, (group + 1) * size)
        self.codes[:, mine, i, j] = codes
        self.columns[0][:, reach + j, 1:][:, mine] = value
        self.rows[0][:, 1:, reach + i, reach + j][:, mine] = value

    @torch.no_grad()
    def run(self, uniforms: Tensor, temperature: float = 1.0, given: Tensor | None = None) -> Tensor:
        """Draw the pictures.

        Args:
            uniforms: (H, W, G, n, U), from :func:`uniform_numbers`.
            temperature: 1 is the net's own distribution, 0 takes the likeliest.
            given: The first rows, which are not drawn, as levels (n, C, rows, W).

        Returns:
            Levels (n, C, H, W), int64.
        """
        start, reach = 0 if given is None else given.shape[2], self.net.layers[0].reach
        if given is not None:
            self.codes[:, :, :start] = given
            pictures = self.likelihood.picture(given, self.gates.dtype)
            self.rows[0][:, :, reach : reach + start, reach : reach + self.width] = with_border(pictures)
        for i in range(self.height):
            self.look_up(i)
            for j in range(self.width if i >= start else 0):
                for group in range(self.net.groups):
                    drawn = self.likelihood.draw(self.outputs(j, group), uniforms[i, j, group], temperature)
                    self.put(i, j, group, drawn)
        return self.codes.clone()


def _row(condition: Tensor | float, i: int) -> Tensor | float:
    """What a condition (n, 2R, 1, 1) or (n, 2R, H, W) says of row i."""
    return condition if isinstance(condition, float) or condition.shape[2] == 1 else condition[:, :, i : i + 1]


def _matrix(conv: MaskedConv2d, outputs: slice, inputs: int | None = None) -> Tensor:
    """The weights of a 1 × 1 convolution for some outputs and the first inputs, (inputs, outputs)."""
    return conv.masked[outputs, :inputs, 0, 0].t().contiguous()
