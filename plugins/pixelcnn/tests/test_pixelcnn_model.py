"""What the nets can see, and that their layers are the paper's equations."""

from __future__ import annotations

import pytest
import torch
from dlmkit_pixelcnn.figures import influence
from dlmkit_pixelcnn.model import GatedLayer, GatedPixelCNN, MaskedConv2d, with_border
from dlmkit_pixelcnn.plain import PlainPixelCNN

SIDE = 6


def net(kind=GatedPixelCNN, channels=1, groups=1, outputs=None, **options):
    torch.manual_seed(0)
    made = kind(channels, outputs or groups, groups, **{"width": 6, "layers": 4, "first_kernel_size": 3, **options})
    return made.double().eval()


def earlier(row, column, colour, at, groups):
    """Whether what is told of group ``colour`` at (row, column) may see colour c of pixel (i, j)."""
    c, i, j = at
    if (i, j) != (row, column):
        return (i, j) < (row, column)
    return groups > 1 and c < colour


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 3), (3, 1)])
def test_every_pixel_sees_all_before_it_and_none_after_it(channels, groups):
    """By the gradient, for each pixel and colour: the receptive field covers the whole picture, and has no hole."""
    gated = net(channels=channels, groups=groups, layers=6)
    pictures = torch.rand(3, channels, SIDE, SIDE, dtype=torch.double)
    for row in range(SIDE):
        for column in range(SIDE):
            for group in range(groups):
                seen = influence(lambda x, g=group: gated(x)[:, g : g + 1], pictures, row, column) > 0
                for at in torch.cartesian_prod(torch.arange(channels), torch.arange(SIDE), torch.arange(SIDE)).tolist():
                    assert bool(seen[tuple(at)]) == earlier(row, column, group, at, groups), (row, column, group, at)


@pytest.mark.parametrize(("layers", "kernel", "first"), [(2, 3, 3), (3, 3, 5), (2, 5, 3), (2, 5, 7)])
def test_the_receptive_field_is_a_rectangle_and_what_is_on_the_left(layers, kernel, first):
    gated = net(layers=layers, kernel_size=kernel, first_kernel_size=first)
    side, reach = 17, first // 2 + (layers - 1) * (kernel // 2)
    row, column = 9, 8
    seen = influence(gated, torch.rand(4, 1, side, side, dtype=torch.double), row, column)[0] > 0
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[max(0, row - reach) : row, max(0, column - reach) : column + reach + 1] = True
    expected[row, max(0, column - reach) : column] = True
    assert torch.equal(seen & (torch.arange(side) > column - reach - 1), expected)


def test_the_plain_net_has_a_blind_spot_that_more_layers_do_not_close():
    for layers in (3, 5):
        plain = net(PlainPixelCNN, layers=layers)
        seen = influence(plain, torch.rand(8, 1, 13, 13, dtype=torch.double), 9, 4)[0] > 0
        assert not seen[9, 4:].any() and not seen[10:].any()
        assert seen[8, 5] and not seen[8, 6]  # one to the right for each row up, and no more
        assert seen[7, 6] and not seen[7, 7]
        assert seen[9, 4 - layers : 4].all()


def test_the_plain_net_keeps_the_order_of_colours():
    plain = net(PlainPixelCNN, channels=3, groups=3)
    pictures = torch.rand(3, 3, SIDE, SIDE, dtype=torch.double)
    for group in range(3):
        seen = influence(lambda x, g=group: plain(x)[:, g : g + 1], pictures, 3, 3) > 0
        assert seen[:, 3, 3].tolist() == [c < group for c in range(3)]
        assert not seen[:, 3, 4:].any() and not seen[:, 4:].any() and seen[:, 3, 2].all()


def test_a_masked_convolution_by_loops():
    conv = MaskedConv2d([-1, 0, 1], [0, 1], (3, 3), (1, 1), own=False).double()
    x = torch.randn(1, 3, 4, 5, dtype=torch.double)
    got = conv(x)
    for o in range(2):
        for i in range(4):
            for j in range(5):
                total = conv.bias[o].item()
                for c, group in enumerate((-1, 0, 1)):
                    for di in (-1, 0, 1):
                        for dj in (-1, 0, 1):
                            if (di, dj) > (0, 0) or ((di, dj) == (0, 0) and group >= o):
                                continue
                            if 0 <= i + di < 4 and 0 <= j + dj < 5:
                                total += (conv.weight[o, c, di + 1, dj + 1] * x[0, c, i + di, j + dj]).item()
                assert got[0, o, i, j].item() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_a_gated_layer_by_loops(first):
    """Figure 2 of the paper, pixel by pixel."""
    torch.manual_seed(0)
    width, kernel, side = 4, 3, 4
    channels = 2 if first else width
    layer = GatedLayer(channels, [0] * width, kernel, [-1, 0] if first else None).double()
    v, u = torch.randn(2, 1, channels, side, side, dtype=torch.double)
    h = torch.randn(2, 1, 2 * width, 1, 1, dtype=torch.double)
    got = layer(v, u, (h[0], h[1]))

    def at(x, i, j):
        return x[0, :, i, j] if 0 <= i < side and 0 <= j < side else torch.zeros(x.shape[1], dtype=torch.double)

    def gate(x):
        return torch.tanh(x[:width]) * torch.sigmoid(x[width:])

    rows = [-1] if first else [-1, 0]
    for i in range(side):
        for j in range(side):
            a = layer.vertical.bias.clone()
            for r, di in enumerate(rows):
                for dj in (-1, 0, 1):
                    a += layer.vertical.weight[:, :, r, dj + 1] @ at(v, i + di, j + dj)
            b = layer.horizontal.bias + layer.horizontal.weight[:, :, 0, 0] @ at(u, i, j - 1)
            here = at(u, i, j).clone()
            if first:
                here[1] = 0  # the pixel itself; the border's channel may be seen
            b = b + layer.horizontal.weight[:, :, 0, 1] @ here + layer.link.weight[..., 0, 0] @ a
            z = gate(b + h[1].flatten())
            after = layer.residual.weight[..., 0, 0] @ z + layer.residual.bias
            expected = gate(a + h[0].flatten()), after if first else at(u, i, j) + after, z
            for tensor, value in zip(got, expected, strict=True):
                torch.testing.assert_close(tensor[0, :, i, j], value, rtol=0, atol=1e-12)


def test_the_border_is_seen():
    x = with_border(torch.full((1, 3, 2, 2), 0.5))
    assert x.shape == (1, 4, 2, 2) and (x[:, 0] == 1).all() and (x[:, 1:] == 0).all()


def test_a_condition_reaches_every_pixel_and_the_classes_of_other_pictures_do_not():
    gated = net(classes=3)
    pictures = torch.rand(1, 1, 4, 4, dtype=torch.double).expand(3, -1, -1, -1)
    told = gated(pictures, torch.arange(3))
    assert (told[0] != told[1]).all() and (told[1] != told[2]).all()
    torch.testing.assert_close(gated(pictures[:1], torch.tensor([1])), told[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{"classes": 3}, {"embedding_size": 3}, {}])
def test_maps_say_what_is_where_and_change_nothing_of_the_order(options):
    gated = net(maps=4, side=SIDE, **options)
    h = {"classes": torch.tensor([1]), "embedding_size": torch.randn(1, 3).double(), "": None}[next(iter(options), "")]
    pictures = torch.rand(1, 1, SIDE, SIDE, dtype=torch.double)
    seen = influence(lambda x: gated(x, h), pictures, 3, 3)[0] > 0
    assert seen[:3].any() and not seen[3, 3:].any() and not seen[4:].any()
    gated(pictures, h).square().sum().backward()
    for name, parameter in gated.named_parameters():
        assert parameter.grad.any(), name
    maps = gated.places(h)
    assert maps.shape == (1, 4 * 4 * 6, SIDE, SIDE) and maps.std(dim=(2, 3)).min() > 0


def test_a_vector_of_one_place_is_a_class():
    """V h of a one-hot vector is a column of V, as V of a class is."""
    by_class, by_vector = net(classes=3), net(embedding_size=3)
    weights = by_class.state_dict()
    weights["condition.weight"] = weights["condition.weight"].t()
    by_vector.load_state_dict(weights)
    pictures = torch.rand(3, 1, 4, 4, dtype=torch.double)
    one_hot = torch.eye(3, dtype=torch.double)
    torch.testing.assert_close(by_vector(pictures, one_hot), by_class(pictures, torch.arange(3)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 3)])
def test_every_parameter_has_a_gradient(channels, groups):
    gated = net(channels=channels, groups=groups, classes=2)
    gated(torch.rand(2, channels, 5, 5, dtype=torch.double), torch.arange(2)).square().sum().backward()
    for name, parameter in gated.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_what_cannot_be():
    for options in (
        {"kernel_size": 4},
        {"first_kernel_size": 1},
        {"layers": 1},
        {"channels": 3, "groups": 2},
        {"channels": 3, "groups": 3, "width": 4},
        {"classes": 2, "embedding_size": 3},
    ):
        with pytest.raises(ValueError, match=next(iter(options)) if "classes" in options else "must be|multiple"):
            net(**options)
    with pytest.raises(ValueError, match="condition"):
        net(classes=2)(torch.rand(1, 1, 4, 4, dtype=torch.double))
