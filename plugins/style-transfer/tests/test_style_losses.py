"""The losses of style transfer against loops and formulas."""

from __future__ import annotations

import pytest
import torch
from dlmkit_pictures.files import luminance
from dlmkit_style_transfer.colour import match_colours, match_luminance, with_luminance
from dlmkit_style_transfer.features import random_convnet
from dlmkit_style_transfer.model import StyleLosses, gram, total_variation
from scipy.linalg import sqrtm


def pictures(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.double, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def losses():
    torch.manual_seed(0)
    return StyleLosses(random_convnet((4, 5, 6)).double(), ["random2"], ["random1", "random3"])


def test_gram_against_loops():
    x = pictures(2, 3, 4, 5)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                sum_ = sum(float(x[b, i, r, c] * x[b, j, r, c]) for r in range(4) for c in range(5))
                assert float(gram(x)[b, i, j]) == pytest.approx(sum_ / 20, abs=1e-10)


def test_gram_does_not_care_how_maps_lie_in_memory_or_where_things_are():
    x = pictures(2, 6, 8, 8)
    torch.testing.assert_close(gram(x), gram(x.to(memory_format=torch.channels_last)), rtol=0, atol=1e-12)
    torch.testing.assert_close(gram(x), gram(x.roll((3, 2), (2, 3))), rtol=0, atol=1e-12)


def test_gram_in_a_run_of_half_precision():
    """The sum over many places is beyond float16, and bfloat16 would leave three digits of it."""
    x = 3 * pictures(1, 4, 300, 300).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(gram(x), gram(x.double()).float(), rtol=1e-4, atol=0)
        assert gram(x.half()).isfinite().all()


def test_total_variation_against_loops():
    x = pictures(1, 2, 3, 4)
    across = [float(x[0, c, i, j + 1] - x[0, c, i, j]) ** 2 for c in range(2) for i in range(3) for j in range(3)]
    down = [float(x[0, c, i + 1, j] - x[0, c, i, j]) ** 2 for c in range(2) for i in range(2) for j in range(4)]
    assert float(total_variation(x)) == pytest.approx(sum(across) / 18 + sum(down) / 16, abs=1e-10)


def test_content_loss_against_the_formula(losses):
    made, content, style = pictures(2, 3, 32, 40, seed=1), pictures(2, 3, 32, 40, seed=2), pictures(1, 3, 36, 32)
    found = losses(made, losses.content_target(content), losses.style_target([style])).content
    f, p, s = (losses.features(x, ["random2"])["random2"] for x in (made, content, style))
    for b in range(2):
        expected = float(((f[b] - p[b]) ** 2).sum()) / f[b].numel() / (float((s**2).sum()) / s.numel())
        assert float(found[b]) == pytest.approx(expected, rel=1e-10)


def test_style_loss_against_the_formula_of_several_styles(losses):
    made, content = pictures(2, 3, 32, 40, seed=1), pictures(2, 3, 32, 40, seed=2)
    styles = [pictures(1, 3, 33 + 3 * k, 40 - k, seed=5 + k) ** (k + 1) for k in range(3)]
    weights = [1.0, 0.5, 2.5]
    found = losses(made, losses.content_target(content), losses.style_target(styles, weights)).style
    for b in range(2):
        expected = 0.0
        for layer in ("random1", "random3"):
            g = gram(losses.features(made[b : b + 1], [layer])[layer])
            a = [gram(losses.features(style, [layer])[layer]) for style in styles]
            above = sum(w / 4 * float(((g - each) ** 2).sum()) for w, each in zip(weights, a, strict=True))
            below = sum(w / 4 * float((each**2).sum()) for w, each in zip(weights, a, strict=True))
            expected += above / below / 2
        assert float(found[b]) == pytest.approx(expected, rel=1e-10)


def test_the_style_itself_has_no_style_loss_and_the_content_no_content_loss(losses):
    content, style = pictures(1, 3, 32, 40), pictures(1, 3, 32, 40, seed=1)
    target = losses.content_target(content), losses.style_target([style])
    assert float(losses(content, *target).content) == 0 and float(losses(content, *target).style) > 0
    assert float(losses(style, *target).style) == pytest.approx(0, abs=1e-12)
    both = losses.style_target([style, style])
    assert float(losses(style, target[0], both).style) == pytest.approx(0, abs=1e-12)


def test_a_style_of_share_zero_counts_for_nothing(losses):
    made, first, second = (pictures(1, 3, 32, 32, seed=seed) for seed in range(3))
    content = losses.content_target(made)
    alone = losses(made, content, losses.style_target([first])).style
    torch.testing.assert_close(losses(made, content, losses.style_target([first, second], [2.0, 0.0])).style, alone)


def test_the_gradient_is_that_of_the_formula(losses):
    made = pictures(1, 3, 16, 16).requires_grad_(True)
    target = (
        losses.content_target(pictures(1, 3, 16, 16, seed=1)),
        losses.style_target([pictures(1, 3, 16, 16, seed=2)]),
    )
    (gradient,) = torch.autograd.grad(sum(losses(made, *target)).sum(), made)
    nudge = torch.zeros_like(made)
    nudge[0, 1, 7, 5] = 1e-5
    with torch.no_grad():
        up, down = (sum(losses(made + sign * nudge, *target)).sum() for sign in (1, -1))
    assert float((up - down) / 2e-5) == pytest.approx(float(gradient[0, 1, 7, 5]), rel=1e-5)


def test_a_layer_that_is_not_there():
    with pytest.raises(ValueError, match="there is no layer nothing"):
        StyleLosses(random_convnet(), ["nothing"], [])


# ---------- colours


def test_another_brightness_keeps_the_colours():
    content, bright = pictures(1, 3, 8, 9), pictures(1, 1, 8, 9, seed=1)
    made = with_luminance(content, bright)
    torch.testing.assert_close(luminance(made), bright, rtol=0, atol=1e-10)
    yiq = torch.tensor([[0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.double)
    chroma = [torch.einsum("kc,bchw->bkhw", yiq, x) for x in (content, made)]
    torch.testing.assert_close(*chroma, rtol=0, atol=1e-10)


def test_a_matched_brightness_has_the_content_s_mean_and_deviation():
    style, content = pictures(1, 1, 8, 9), pictures(1, 1, 20, 7, seed=1) ** 3
    matched = match_luminance(style, content)
    torch.testing.assert_close(matched.mean(), content.mean(), rtol=0, atol=1e-10)
    torch.testing.assert_close(matched.std(), content.std(), rtol=0, atol=1e-10)


def test_matched_colours_have_the_content_s_mean_and_covariance():
    mix = torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.5, 0.4], [0.0, 0.2, 0.3]], dtype=torch.double)
    style = pictures(1, 3, 30, 20)
    content = torch.einsum("kc,bchw->bkhw", mix, pictures(1, 3, 25, 40, seed=1))
    matched = match_colours(style, content)
    assert matched.shape == style.shape
    ours, theirs = matched[0].flatten(1), content[0].flatten(1)
    torch.testing.assert_close(ours.mean(dim=1), theirs.mean(dim=1), rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.cov(ours), torch.cov(theirs), rtol=0, atol=1e-6)


def test_matched_colours_are_moved_by_the_symmetric_roots():
    """Mean and covariance alone leave a rotation open, by which a style could even be turned into its negative."""
    style, content = pictures(1, 3, 30, 20) ** 2, pictures(1, 3, 25, 40, seed=1)
    style[:, 1] += 0.5 * style[:, 0]
    torch.testing.assert_close(match_colours(style, style), style, rtol=0, atol=1e-6)
    bright = luminance(style)
    torch.testing.assert_close(match_luminance(bright, bright), bright, rtol=0, atol=1e-10)
    x, y = style[0].flatten(1), match_colours(style, content)[0].flatten(1)
    middle = x.mean(dim=1, keepdim=True)
    moved = torch.linalg.lstsq((x - middle).T, (y - y.mean(dim=1, keepdim=True)).T).solution.T
    roots = [torch.from_numpy(sqrtm(torch.cov(c[0].flatten(1)).numpy()).real) for c in (content, style)]
    torch.testing.assert_close(moved, roots[0] @ torch.linalg.inv(roots[1]), rtol=0, atol=1e-5)


def test_a_grey_style_can_be_matched():
    matched = match_colours(pictures(1, 1, 8, 8).expand(-1, 3, -1, -1), pictures(1, 3, 8, 8, seed=1))
    assert torch.isfinite(matched).all() and matched.abs().max() < 3
