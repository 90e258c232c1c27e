"""Cached generation is the naive one."""

from __future__ import annotations

import pytest
import torch
from dlmkit_pixelcnn.generate import Cached, naive, uniform_numbers
from dlmkit_pixelcnn.likelihoods import LIKELIHOODS
from dlmkit_pixelcnn.model import GatedPixelCNN

N, HEIGHT, WIDTH = 3, 5, 6
KINDS = [  # likelihood, channels, levels, condition
    ("binary", 1, 2, "class"),
    ("softmax", 1, 17, "vector"),
    ("softmax", 3, 8, None),
    ("binary", 3, 2, "class"),
    ("logistic", 1, 16, None),
    ("logistic", 3, 16, "class"),
]


def made(name, channels, levels, condition, dtype=torch.double, **sizes):
    torch.manual_seed(0)
    likelihood = LIKELIHOODS[name](channels, levels)
    options = {"width": 12, "layers": 4, "head_width": 6, "first_kernel_size": 5, **sizes}
    options |= {"classes": 3} if condition == "class" else {"embedding_size": 3} if condition == "vector" else {}
    net = GatedPixelCNN(channels, likelihood.outputs, likelihood.groups, **options).to(dtype).eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    h = {"class": torch.tensor([2, 0, 1]), "vector": torch.randn(N, 3, dtype=dtype), None: None}[condition]
    return net, likelihood, h, uniform_numbers(likelihood, N, HEIGHT, WIDTH, seed=3)


def recorded(sampler, uniforms, **options):
    """The pictures, and what the net told of each pixel (n, O, H, W) while they were drawn."""
    told, outputs = [], sampler.outputs
    sampler.outputs = lambda j, group: told.append(outputs(j, group).clone()) or told[-1]
    drawn = sampler.run(uniforms, **options)
    height, width, groups, n, _ = uniforms.shape
    return drawn, torch.stack(told).view(height, width, groups, n, -1).permute(3, 2, 4, 0, 1).flatten(1, 2)


@pytest.mark.parametrize(("name", "channels", "levels", "condition"), KINDS)
@pytest.mark.parametrize(("dtype", "close"), [(torch.double, 1e-10), (torch.float32, 1e-4)])
def test_the_same_numbers_give_the_same_pictures(name, channels, levels, condition, dtype, close):
    net, likelihood, h, uniforms = made(name, channels, levels, condition, dtype)
    expected = naive(net, likelihood, uniforms, h)
    drawn, told = recorded(Cached(net, likelihood, N, HEIGHT, WIDTH, h), uniforms)
    assert torch.equal(drawn, expected)
    assert len(drawn.unique()) > 1
    with torch.no_grad():
        whole = net(likelihood.picture(drawn, dtype), h)
    torch.testing.assert_close(told, whole, rtol=0, atol=close)


@pytest.mark.parametrize("condition", ["class", "vector", None])
def test_maps_of_what_is_where(condition):
    net, likelihood, h, _ = made("logistic", 3, 6, condition, maps=4, side=6)
    uniforms = uniform_numbers(likelihood, N, 6, 6)
    drawn, told = recorded(Cached(net, likelihood, N, 6, 6, h), uniforms)
    assert torch.equal(drawn, naive(net, likelihood, uniforms, h))
    with torch.no_grad():
        torch.testing.assert_close(told, net(likelihood.picture(drawn, torch.double), h), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "sizes", [{"layers": 2}, {"kernel_size": 5}, {"kernel_size": 5, "first_kernel_size": 3}, {"first_kernel_size": 9}]
)
def test_kernels_of_other_sizes(sizes):
    net, likelihood, h, uniforms = made("softmax", 1, 5, "class", **sizes)
    expected = naive(net, likelihood, uniforms, h, temperature=0.5)
    assert torch.equal(Cached(net, likelihood, N, HEIGHT, WIDTH, h).run(uniforms, temperature=0.5), expected)


def test_a_sampler_can_be_used_again():
    net, likelihood, h, uniforms = made("softmax", 3, 8, "class")
    sampler = Cached(net, likelihood, N, HEIGHT, WIDTH, h)
    first = sampler.run(uniforms)
    other = sampler.run(uniform_numbers(likelihood, N, HEIGHT, WIDTH, seed=4))
    assert not torch.equal(first, other)
    assert torch.equal(sampler.run(uniforms), first)


@pytest.mark.parametrize(("name", "channels"), [("softmax", 1), ("logistic", 3)])
def test_it_goes_on_from_given_rows(name, channels):
    net, likelihood, h, uniforms = made(name, channels, 8, "class")
    whole = Cached(net, likelihood, N, HEIGHT, WIDTH, h).run(uniforms)
    fresh = Cached(net, likelihood, N, HEIGHT, WIDTH, h)
    assert torch.equal(fresh.run(uniforms, given=whole[:, :, :2]), whole)
    other = fresh.run(uniforms, given=7 - whole[:, :, :2])
    assert torch.equal(other[:, :, :2], 7 - whole[:, :, :2]) and not torch.equal(other[:, :, 2:], whole[:, :, 2:])


def test_more_pictures_leave_the_first_ones_as_they_are():
    net, likelihood, _, _ = made("softmax", 1, 8, None)
    few, many = (
        Cached(net, likelihood, n, HEIGHT, WIDTH).run(uniform_numbers(likelihood, n, HEIGHT, WIDTH)) for n in (2, 5)
    )
    assert torch.equal(many[:2], few)


def test_a_part_can_be_drawn_naively():
    net, likelihood, h, uniforms = made("binary", 1, 2, "class")
    whole, part = (naive(net, likelihood, uniforms, h, most=most).flatten(1) for most in (None, 7))
    assert torch.equal(part[:, :7], whole[:, :7]) and not part[:, 7:].any()
