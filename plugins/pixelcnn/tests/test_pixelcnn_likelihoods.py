"""The likelihoods: probabilities that sum to one, their formulas, and draws that follow them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from dlmkit_pixelcnn.generate import naive, uniform_numbers
from dlmkit_pixelcnn.likelihoods import LIKELIHOODS, LogisticMixture, choose
from dlmkit_pixelcnn.model import GatedPixelCNN

TINY = [  # name, channels, levels, height, width
    ("binary", 1, 2, 2, 2),
    ("binary", 3, 2, 1, 2),
    ("softmax", 1, 3, 2, 2),
    ("softmax", 3, 2, 2, 1),
    ("logistic", 1, 5, 2, 2),
    ("logistic", 3, 4, 1, 2),
]


def made(name, channels, levels, classes=0):
    torch.manual_seed(1)
    likelihood = LIKELIHOODS[name](channels, levels)
    sizes = {"width": 6, "layers": 3, "head_width": 6, "first_kernel_size": 3}
    net = GatedPixelCNN(channels, likelihood.outputs, likelihood.groups, classes=classes, **sizes).double().eval()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return net, likelihood


def all_pictures(channels, levels, height, width):
    codes = itertools.product(range(levels), repeat=channels * height * width)
    return torch.tensor(list(codes)).view(-1, channels, height, width)


@pytest.mark.parametrize(("name", "channels", "levels", "height", "width"), TINY)
def test_all_pictures_together_have_probability_one(name, channels, levels, height, width):
    net, likelihood = made(name, channels, levels, classes=2)
    codes = all_pictures(channels, levels, height, width)
    for label in (0, 1):
        outputs = net(likelihood.picture(codes, torch.double), torch.full((len(codes),), label))
        p = likelihood.log_prob(outputs, codes).sum(dim=(1, 2)).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-10)
        assert p.max() < 0.9  # it is no trivial distribution


@pytest.mark.parametrize(
    ("name", "channels", "levels"), [("softmax", 1, 256), ("logistic", 1, 256), ("logistic", 1, 2)]
)
def test_the_levels_of_one_pixel_have_probability_one(name, channels, levels):
    likelihood = LIKELIHOODS[name](channels, levels)
    codes = torch.arange(levels).view(-1, 1, 1, 1)
    for spread in (0.1, 1.0, 30.0):  # the last makes scales as narrow as they can be
        outputs = spread * torch.randn(1, likelihood.outputs, 1, 1, dtype=torch.double)
        p = likelihood.log_prob(outputs.expand(levels, -1, -1, -1), codes).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-9)


def test_the_logistic_mixture_is_its_formula():
    """Colour by colour with scalars: the green and the blue mean depend on the colours before."""
    likelihood = LogisticMixture(3, 5, components=2)
    outputs = torch.randn(1, likelihood.outputs, 1, 1, dtype=torch.double)
    rows = outputs.view(2, 10).tolist()  # weight, three means, three log scales, three that mix colours
    weights = [math.exp(row[0]) for row in rows]

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    for code in itertools.product(range(5), repeat=3):
        x = [value / 2 - 1 for value in code]
        total = 0.0
        for row, weight in zip(rows, weights, strict=True):
            mix = [math.tanh(a) for a in row[7:]]
            means = [row[1], row[2] + mix[0] * x[0], row[3] + mix[1] * x[0] + mix[2] * x[1]]
            p = weight / sum(weights)
            for c in range(3):
                s = math.exp(row[4 + c])
                upper = 1 if code[c] == 4 else sigmoid((x[c] + 0.25 - means[c]) / s)
                lower = 0 if code[c] == 0 else sigmoid((x[c] - 0.25 - means[c]) / s)
                p *= upper - lower
            total += p
        got = likelihood.log_prob(outputs, torch.tensor(code).view(1, 3, 1, 1)).item()
        assert got == pytest.approx(math.log(total), abs=1e-10)


def test_softmax_and_binary_are_their_formulas():
    y = torch.randn(1, 6, 1, 1, dtype=torch.double)
    flat = y.flatten().tolist()
    for code in itertools.product(range(3), repeat=2):
        parts = [flat[:3], flat[3:]]
        expected = sum(p[c] - math.log(sum(map(math.exp, p))) for p, c in zip(parts, code, strict=True))
        got = LIKELIHOODS["softmax"](2, 3).log_prob(y, torch.tensor(code).view(1, 2, 1, 1)).item()
        assert got == pytest.approx(expected, abs=1e-12)
    for code in (0, 1):
        expected = -math.log(1 + math.exp(flat[0] * (1 - 2 * code)))
        got = LIKELIHOODS["binary"](1, 2).log_prob(y[:, :1], torch.tensor(code).view(1, 1, 1, 1)).item()
        assert got == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "channels", "levels"), [("softmax", 1, 6), ("binary", 1, 2), ("logistic", 1, 6), ("logistic", 2, 3)]
)
def test_draws_are_as_frequent_as_they_are_likely(name, channels, levels):
    torch.manual_seed(0)
    likelihood, count = LIKELIHOODS[name](channels, levels), 40_000
    outputs = torch.randn(1, likelihood.outputs, dtype=torch.double)
    drawn = likelihood.draw(outputs.expand(count, -1), torch.rand(count, likelihood.numbers, dtype=torch.double))
    codes = torch.tensor(list(itertools.product(range(levels), repeat=channels)))
    p = likelihood.log_prob(outputs[:, :, None, None].expand(len(codes), -1, 1, 1), codes[:, :, None, None]).exp()
    found = (drawn[:, None] == codes).all(dim=2).double().mean(dim=0)
    torch.testing.assert_close(found, p.flatten(), rtol=0, atol=4 * math.sqrt(0.25 / count))


def test_pictures_are_drawn_as_often_as_they_are_likely():
    net, likelihood = made("softmax", 1, 2)
    codes, count = all_pictures(1, 2, 2, 2), 20_000
    p = likelihood.log_prob(net(likelihood.picture(codes, torch.double)), codes).sum(dim=(1, 2)).exp()
    drawn = naive(net, likelihood, uniform_numbers(likelihood, count, 2, 2))
    found = (drawn.flatten(1)[:, None] == codes.flatten(1)).all(dim=2).double().mean(dim=0)
    torch.testing.assert_close(found, p, rtol=0, atol=4 * math.sqrt(0.25 / count))


@pytest.mark.parametrize("name", ["softmax", "logistic"])
def test_a_low_temperature_takes_the_likeliest(name):
    likelihood = LIKELIHOODS[name](1, 9)
    outputs = torch.zeros(1, likelihood.outputs, dtype=torch.double)
    if name == "softmax":
        outputs[0, 6] = 3.0
    else:
        outputs[0, :3] = torch.tensor([3.0, 0.5, 0.0])  # weight, mean and log scale of the first: 0.5 is level 6
    for temperature in (0.0, 1e-3):
        for uniform in (0.0, 0.3, 1 - 1e-16):
            given = torch.full((1, likelihood.numbers), uniform, dtype=torch.double)
            assert likelihood.draw(outputs, given, temperature).item() == 6


def test_ink_at_a_temperature():
    """As p raised to 1 / T and scaled to one."""
    likelihood, outputs = LIKELIHOODS["binary"](1, 2), torch.tensor([[0.8]], dtype=torch.double)
    ink, paper = (1 / (1 + math.exp(sign * 0.8)) for sign in (-1, 1))
    uniforms = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.double)[:, None]
    for temperature in (0.5, 1.0, 2.0):
        expected = ink ** (1 / temperature) / (ink ** (1 / temperature) + paper ** (1 / temperature))
        drawn = likelihood.draw(outputs.expand(1000, -1), uniforms, temperature)
        assert drawn.double().mean().item() == pytest.approx(expected, abs=0.002)
    assert likelihood.draw(outputs.expand(1000, -1), uniforms, 0.0).all()


def test_a_draw_takes_the_first_level_that_the_sum_exceeds():
    logits = torch.tensor([[0.5, 0.0, 0.25, 0.25]]).log()
    uniforms = [0.0, 0.49, 0.51, 0.74, 0.76, 1 - 1e-9]
    assert [choose(logits, torch.tensor([u], dtype=torch.double)).item() for u in uniforms] == [0, 0, 2, 2, 3, 3]


@pytest.mark.parametrize(("name", "levels"), [("softmax", 256), ("logistic", 256), ("binary", 2)])
def test_extreme_outputs_have_finite_likelihoods_and_gradients(name, levels):
    likelihood = LIKELIHOODS[name](1, levels)
    for size in (0.0, 1e3, 1e5):
        outputs = (size * torch.randn(2, likelihood.outputs, 3, 3)).requires_grad_()
        value = likelihood.log_prob(outputs, torch.randint(levels, (2, 1, 3, 3)))
        value.sum().backward()
        assert torch.isfinite(value).all() and torch.isfinite(outputs.grad).all()


def test_two_levels_are_asked_of_a_binary_likelihood():
    with pytest.raises(ValueError, match="3 levels"):
        LIKELIHOODS["binary"](1, 3)
