"""The networks of pix2pix, its losses, and what a run of it shows."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from dlmkit_pictures.fidelity import fidelity
from dlmkit_pix2pix.model import PATCHES, PatchDiscriminator, UNet, receptive_field
from dlmkit_pix2pix.task import Pix2Pix
from PIL import Image
from torch import nn

from dlmkit.errors import UserError


def plain(net):
    """Without normalisation, which carries something of the whole picture to every output."""
    for module in net.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.Identity())
    return net.double()


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float32)


def softplus(x):
    return math.log(1 + math.exp(x))


# ---------- the generator


@pytest.mark.parametrize("side", [16, 32, 64, 128, 256])
def test_sides_that_can_be_translated(side):
    net = UNet(1, 3, side, width=2)
    made = net(torch.rand(2, 1, side, side), torch.randn(2, net.noise_size))
    assert made.shape == (2, 3, side, side) and 0 <= made.min() and made.max() <= 1
    assert len(net.down) == len(net.up) == int(math.log2(side))


@pytest.mark.parametrize("side", [0, -4, 8, 48, 72, 512])
def test_sides_that_cannot(side):
    with pytest.raises(ValueError, match=f"a side of {side} pixels"):
        UNet(3, 3, side)
    with pytest.raises(UserError, match=r"a side of .* give another data\.side"):
        Pix2Pix(3, 3, side)


def test_the_layers_are_those_of_the_paper():
    net = UNet(3, 3, 256)
    down = [step[-1 if i in (0, 7) else -2] for i, step in enumerate(net.down)]
    assert [layer.out_channels for layer in down] == [64, 128, 256, 512, 512, 512, 512, 512]
    up = [next(m for m in step if isinstance(m, nn.ConvTranspose2d)) for step in net.up]
    assert [layer.in_channels for layer in up] == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    assert all(layer.kernel_size == (4, 4) and layer.stride == (2, 2) for layer in [*down, *up])
    assert [isinstance(step[-1], nn.InstanceNorm2d) for step in net.down] == [False] + [True] * 6 + [False]
    assert net.dropped == [(512, 2, 2), (512, 4, 4), (512, 8, 8)] and net.noise_size == 512 * 84
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(54.4e6, rel=0.002)


def test_each_size_has_a_connection_across():
    """Where the way through the bottom and all other connections are cut, a change still arrives through this one."""
    net = plain(UNet(1, 1, 16, width=4))
    picture, z = torch.rand(1, 1, 16, 16).double(), torch.ones(1, net.noise_size).double()
    weights = [step[1].weight for step in net.up]
    kept = [weight.detach().clone() for weight in weights]
    for open_at in range(1, 4):
        with torch.no_grad():
            for level, weight in enumerate(weights):
                weight.copy_(kept[level])
                half = len(weight) // 2 if level else 0  # the second half of what is read comes from the encoder
                if level <= open_at:
                    weight[: half or None] = 0
                if level != open_at:
                    weight[half:] = 0
        assert not torch.equal(net(picture, z), net(1 - picture, z)), open_at
        with torch.no_grad():
            weights[open_at][len(weights[open_at]) // 2 :] = 0
        assert torch.equal(net(picture, z), net(1 - picture, z)), open_at


def test_the_connection_at_full_size_is_local_and_the_way_down_sees_everything():
    net = plain(UNet(1, 1, 32, width=4))
    picture = torch.rand(1, 1, 32, 32, dtype=torch.double, requires_grad=True)
    z = torch.ones(1, net.noise_size).double()
    (seen,) = torch.autograd.grad(net(picture, z)[0, 0, 16, 16], picture)
    assert (seen != 0).all()
    with torch.no_grad():
        net.up[-1][1].weight[: net.up[-1][1].weight.shape[0] // 2] = 0
    (seen,) = torch.autograd.grad(net(picture, z)[0, 0, 16, 16], picture)
    rows = seen[0, 0].any(dim=1).nonzero()
    assert rows.max() - rows.min() + 1 <= 6 and rows.min() <= 16 <= rows.max()


def test_noise_drops_half_of_the_values_and_doubles_the_rest():
    """In the first three levels of the decoder, each with its part of the numbers; the last one is left as it is."""
    net = UNet(1, 1, 32, width=4)
    made, taken = {}, {}
    for level, step in enumerate(net.up):
        step.register_forward_hook(lambda module, args, out, level=level: made.update({level: out}))
        step.register_forward_pre_hook(lambda module, args, level=level: taken.update({level: args[0]}))
    z = torch.randn(1, net.noise_size)
    net(torch.rand(1, 1, 32, 32), z)
    assert len(net.dropped) == 3 and sum(math.prod(shape) for shape in net.dropped) == net.noise_size
    parts = z.split([math.prod(shape) for shape in net.dropped], dim=1)
    for level, (part, shape) in enumerate(zip(parts, net.dropped, strict=True)):
        mask = (part > 0).view(1, *shape)
        torch.testing.assert_close(taken[level + 1][:, : shape[0]], made[level] * mask * 2)
    assert torch.equal(taken[4][:, : made[3].shape[1]], made[3])


# ---------- the discriminator


@pytest.mark.parametrize("patch", PATCHES)
def test_the_receptive_field_is_what_the_name_says(patch):
    net = PatchDiscriminator(2, patch, width=1)
    assert receptive_field(net) == patch


@pytest.mark.parametrize("patch", [1, 16, 34, 70, 142])
def test_the_receptive_field_by_gradient(patch):
    """One output in the middle of a large picture changes with a square of so many pixels, and with nothing else."""
    torch.manual_seed(patch)
    net = plain(PatchDiscriminator(1, patch, width=2))
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, 0.1, 1.0)  # so that nothing cancels out
    picture = torch.rand(1, 1, 256, 256, dtype=torch.double, requires_grad=True)
    told = net(picture)
    middle = told.shape[1] // 2
    (seen,) = torch.autograd.grad(told[0, middle, middle], picture)
    rows, columns = seen[0, 0].any(dim=1).nonzero(), seen[0, 0].any(dim=0).nonzero()
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == patch
    assert seen[0, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


def test_the_discriminator_is_that_of_the_paper():
    net = PatchDiscriminator(6)
    layers = [m for m in net.layers if isinstance(m, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [64, 128, 256, 512, 1]
    assert [layer.stride[0] for layer in layers] == [2, 2, 2, 1, 1]
    assert net(torch.rand(2, 3, 256, 256), torch.rand(2, 3, 256, 256)).shape == (2, 30, 30)
    pixel = [m for m in PatchDiscriminator(6, 1).layers if isinstance(m, nn.Conv2d)]
    assert [layer.out_channels for layer in pixel] == [64, 128, 1]
    with pytest.raises(ValueError, match="a patch of 50 pixels cannot be made; there are 1, 16, 34, 70"):
        PatchDiscriminator(6, 50)


# ---------- the losses


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Pix2Pix(1, 3, 16, width=4, patch=16, l1=3, adversary=0.5).eval()


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    return {"input": torch.rand(4, 1, 16, 16, generator=draw), "target": torch.rand(4, 3, 16, 16, generator=draw)}


def test_the_losses_are_their_formulas(task, batch):
    torch.manual_seed(3)
    made = task(batch["input"]).detach()
    torch.manual_seed(3)
    loss, metrics = task.generator_loss(batch)
    fake = task.discriminator(batch["input"], made).flatten().tolist()
    real = task.discriminator(batch["input"], batch["target"]).flatten().tolist()
    pixels = zip((2 * made - 1).flatten().tolist(), (2 * batch["target"] - 1).flatten().tolist(), strict=True)
    distance = np.mean([abs(a - b) for a, b in pixels])
    assert loss.item() == pytest.approx(0.5 * np.mean([softplus(-d) for d in fake]) + 3 * distance, rel=1e-5)
    assert metrics["l1"].item() == pytest.approx(distance / 2, rel=1e-5)
    loss, metrics = task.discriminator_loss(batch)
    expected = (np.mean([softplus(-d) for d in real]) + np.mean([softplus(d) for d in fake])) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert metrics["made_output"].item() == pytest.approx(np.mean([1 / (1 + math.exp(-d)) for d in fake]), rel=1e-5)


def test_the_discriminator_is_shown_what_the_generator_has_just_made(task, batch):
    torch.manual_seed(3)
    task.generator_loss(batch)
    first = task.discriminator_loss(batch)[0]
    torch.manual_seed(3)
    assert torch.equal(task.discriminator_loss(batch)[0], first)  # made anew, from the same noise


def test_without_an_adversary_there_is_one_player(batch):
    torch.manual_seed(0)
    task = Pix2Pix(1, 3, 16, width=4, patch=16, adversary=0)
    assert list(task.players()) == ["generator"] and not any(p.requires_grad for p in task.discriminator.parameters())
    loss, metrics = task.generator_loss(batch)
    assert loss.item() == pytest.approx(200 * metrics["l1"].item())
    assert "discriminator_loss" not in task.loss(batch)[1] and "patches" not in task.show(batch)


def test_every_parameter_has_a_gradient_in_its_player_s_turn_and_the_generator_none_in_the_other_s(task, batch):
    for player, other in (("generator", "discriminator"), ("discriminator", "generator")):
        loss, _ = task.player_loss(player, batch)
        mine = torch.autograd.grad(loss, tuple(getattr(task, player).parameters()), retain_graph=True)
        assert all(g.any() for g in mine), player
        if player == "discriminator":
            yours = torch.autograd.grad(loss, tuple(getattr(task, other).parameters()), allow_unused=True)
            assert all(g is None for g in yours)


def test_figures_of_the_validation(task, batch, monkeypatch):
    """They are of what is made of the input, compared with the truth; each picture counts as much."""
    z = torch.randn(4, task.generator.noise_size)
    monkeypatch.setattr(task, "noise", lambda *size: z)
    _, metrics = task.loss(batch)
    near = fidelity(task(batch["input"], z), batch["target"])
    assert set(metrics) == {*near, "generator_loss", "discriminator_loss", "real_output", "made_output"}
    for name, each in near.items():
        torch.testing.assert_close(metrics[name][0], each.mean())
        assert metrics[name][1] == 4


def test_two_processes_have_the_gradient_of_one(in_double):
    def gradients(part, rank, world):
        copied = copy.deepcopy(whole_task)
        copied._stands_for = rank, world
        found = {}
        for player in copied.players():
            loss, _ = copied.player_loss(player, part)
            names, parameters = zip(*getattr(copied, player).named_parameters(), strict=True)
            each = torch.autograd.grad(loss, parameters)
            found |= {f"{player}.{name}": gradient for name, gradient in zip(names, each, strict=True)}
        return found

    torch.manual_seed(0)
    whole_task = Pix2Pix(1, 3, 16, width=4, patch=16).train()
    whole_batch = {"input": torch.rand(4, 1, 16, 16), "target": torch.rand(4, 3, 16, 16)}
    whole = gradients(whole_batch, 0, 1)
    first, second = (
        gradients({name: tensor.chunk(2)[rank] for name, tensor in whole_batch.items()}, rank, 2) for rank in (0, 1)
    )
    assert not torch.allclose(first["generator.up.0.1.weight"], whole["generator.up.0.1.weight"])
    for name, gradient in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, gradient, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1": -1.0}, r"model\.l1: l1 is -1\.0; give at least 0"),
        ({"adversary": -0.5}, r"model\.adversary: adversary is -0\.5; give at least 0"),
        ({"width": 0}, r"model\.width: width is 0; give at least 1"),
        ({"patch": 70}, r"a patch of 70 pixels needs pictures of 24 or more along one side, not 16"),
        ({}, r"a patch of 70 pixels"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(UserError, match=message):
        Pix2Pix(1, 3, 16, **options)


@pytest.mark.parametrize(("patch", "least"), [(1, 2), (16, 6), (34, 12), (70, 24), (142, 48), (286, 96)])
def test_the_smallest_picture_for_a_patch(patch, least):
    """One more halving would leave nothing to look at; the message says so before a pass would fail."""
    told = PatchDiscriminator(1, patch, 2, side=least)(torch.rand(2, 1, least, least))
    assert told.ndim == 3 and min(told.shape[1:]) >= 1
    with pytest.raises(ValueError, match=f"a patch of {patch} pixels needs pictures of {least} or more"):
        PatchDiscriminator(1, patch, 2, side=least - 1)
    with pytest.raises((ValueError, RuntimeError)):
        PatchDiscriminator(1, patch, 2)(torch.rand(2, 1, least - 1, least - 1))


# ---------- what it shows


def test_a_file_is_translated(task, tmp_path):
    Image.new("RGB", (40, 20), (10, 200, 30)).save(tmp_path / "one.png")
    (shown,) = task.sample(str(tmp_path / "one.png"), n=2)
    assert shown.save(tmp_path, "shown").stat().st_size > 1000
    assert shown.figure.axes[0].get_yticklabels()[0].get_text() == "one.png"
    with pytest.raises(UserError, match=r"there is no such file; did you mean one\.png"):
        task.sample(str(tmp_path / "ones.png"))
    Image.new("RGBA", (20, 20), (10, 200, 30, 99)).save(tmp_path / "two.png")
    (shown,) = task.sample(str(tmp_path / "two.png"), n=2)
    assert shown.figure.axes[0].get_title().endswith("; transparent in parts, which lie on white; in colour, made grey")
    for prompt in ({}, {"prompt": ""}):
        with pytest.raises(UserError, match=r"name a picture's file"):
            task.sample(**prompt)


def test_what_is_kept_comes_back_and_can_be_sampled_from(task, batch):
    task._examples = (batch["input"] * 255).byte()
    for step in (10, 20):
        task._frames.add(step, torch.ones(4, 3, 16, 16))
    kept = {}
    task.on_save_checkpoint(kept)
    fresh = Pix2Pix(1, 3, 16, width=4, patch=16)
    fresh.on_load_checkpoint(kept)
    fresh.load_state_dict(task.state_dict())
    assert fresh._frames.steps == [10, 20]
    pixels = [
        t.sample(n=2, seed=s)[0].figure.axes[0].images[0].get_array() for t, s in ((task, 1), (fresh, 1), (task, 2))
    ]
    assert (pixels[0] == pixels[1]).all() and (pixels[0] != pixels[2]).any()


def test_everything_is_shown(task, batch, tmp_path):
    for step in (10, 20, 30):
        task._frames.add(step, torch.ones(4, 3, 16, 16))
    with torch.no_grad():
        shown = task.show(batch)
    assert list(shown) == ["translations", "noise", "patches", "training"]
    labels = [label.get_text() for label in shown["translations"].figure.axes[0].get_yticklabels()]
    assert labels == ["input", "output", "truth"]
    for name, item in shown.items():
        assert item.save(tmp_path, name).stat().st_size > 200
