"""The networks of the CycleGAN, its buffer, its losses, its schedule, and what a run of it shows."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dlmkit_cyclegan.model import ReplayBuffer, ResidualBlock, ResNetGenerator
from dlmkit_cyclegan.schedule import LinearDecay
from dlmkit_cyclegan.task import CycleGAN
from PIL import Image
from torch import nn

from dlmkit.errors import UserError
from dlmkit.tasks.task import with_metrics


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float32)


# ---------- the generator


@pytest.mark.parametrize(("side", "halvings"), [(8, 1), (16, 2), (20, 2), (64, 3), (9, 0)])
def test_sides_that_can_be_translated(side, halvings):
    made = ResNetGenerator(1, 3, side, width=2, halvings=halvings, blocks=1)(torch.rand(2, 1, side, side))
    assert made.shape == (2, 3, side, side) and 0 <= made.min() and made.max() <= 1


@pytest.mark.parametrize(("side", "halvings"), [(6, 1), (18, 2), (8, 3), (0, 2)])
def test_sides_that_cannot(side, halvings):
    with pytest.raises(ValueError, match=f"a side of {side} pixels does not suit halvings {halvings}, which need"):
        ResNetGenerator(3, 3, side, halvings=halvings)
    with pytest.raises(UserError, match=r"give another data\.side"):
        CycleGAN(3, 3, side, halvings=halvings)


def test_the_layers_are_those_of_the_paper():
    net = ResNetGenerator(3, 3, 256)
    convolutions = [m for m in net.layers if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert [(m.out_channels, m.kernel_size[0], m.stride[0]) for m in convolutions] == [
        (64, 7, 1),
        (128, 3, 2),
        (256, 3, 2),
        (128, 3, 2),
        (64, 3, 2),
        (3, 7, 1),
    ]
    assert sum(isinstance(m, ResidualBlock) for m in net.layers) == 9
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(11.38e6, rel=0.002)


def test_a_residual_block_adds_to_its_input():
    block = ResidualBlock(4)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x) - x, block.layers(x))
    with torch.no_grad():
        block.layers[-1].weight.zero_()
        block.layers[-1].bias.zero_()
    assert torch.equal(block(x), x) and (block.layers(x) == 0).all()


# ---------- the replay buffer


def numbered(*numbers):
    return torch.tensor(numbers).float().view(-1, 1, 1, 1)


def flat(pictures):
    return pictures.flatten().int().tolist()


def test_a_buffer_is_filled_first_and_hands_out_what_it_is_given():
    buffer = ReplayBuffer(4, 1, 1)
    assert flat(buffer(numbered(1, 2, 3), torch.zeros(3, 2))) == [1, 2, 3]
    assert buffer.held == 3 and flat(buffer.pictures) == [1, 2, 3, 0]
    assert flat(buffer(numbered(4), torch.zeros(1, 2))) == [4] and buffer.held == 4


def test_a_full_buffer_exchanges_what_the_numbers_say():
    buffer = ReplayBuffer(4, 1, 1)
    buffer(numbered(1, 2, 3, 4), torch.zeros(4, 2))
    draws = torch.tensor([[0.49, 0.0], [0.51, 0.0], [0.1, 0.99], [0.1, 0.0], [0.2, 1.0]])
    # 5 for the first; 6 is handed out itself; 7 for the last; 8 for the first, which is 5 by now; 9 for the last
    assert flat(buffer(numbered(5, 6, 7, 8, 9), draws)) == [1, 6, 4, 5, 7]
    assert flat(buffer.pictures) == [8, 2, 3, 9] and buffer.held == 4


def test_how_often_and_how_old_pictures_are():
    """Every second one is old, and each place is as likely; so an old one was made 2 K pictures ago on average."""
    size, count = 10, 20_000
    buffer = ReplayBuffer(size, 1, 1)
    draws = torch.rand(count, 2, generator=torch.Generator().manual_seed(0))
    given = torch.cat([buffer(numbered(*range(i, i + 20)), draws[i : i + 20]) for i in range(0, count, 20)]).flatten()
    age = torch.arange(count) - given
    later = age[size:]
    old = later[later > 0]
    assert (age[:size] == 0).all() and (later >= 0).all()
    assert len(old) / len(later) == pytest.approx(0.5, abs=0.02)
    assert old.mean().item() == pytest.approx(2 * size, rel=0.05)  # each is exchanged with probability 1 / 2 K
    times = torch.bincount(given.long(), minlength=count)
    assert times.max() <= 2 and len(set(flat(buffer.pictures))) == size  # a picture leaves when it is handed out


def test_a_buffer_keeps_values_and_no_graph():
    buffer = ReplayBuffer(2, 1, 1)
    made = numbered(1, 2)
    buffer(made, torch.zeros(2, 2))
    made.zero_()
    assert flat(buffer.pictures) == [1, 2] and not buffer.pictures.requires_grad
    fresh = ReplayBuffer(2, 1, 1)
    fresh.load_state_dict(buffer.state_dict())
    assert flat(fresh(numbered(3), torch.tensor([[0.0, 0.9]]))) == [2]


class Processes:
    """What a task knows of the others: as many processes as there are parts."""

    def __init__(self, rank, world):
        self.global_rank, self.world_size = rank, world


def test_processes_together_exchange_what_one_does(monkeypatch):
    """Each has its part of the pictures and of the numbers; the buffers stay the same, and so does what comes out."""
    draw = torch.Generator().manual_seed(0)
    pictures, noise = torch.rand(5, 4, 1, 8, 8, generator=draw), torch.randn(5, 4, 2, generator=draw)
    tasks = [CycleGAN(1, 1, 8, width=1, halvings=1, blocks=0, patch=1, buffer=6) for _ in range(3)]
    for made, numbers in zip(pictures, noise, strict=True):
        parts = []
        for rank, task in enumerate(tasks):  # 0 and 1 are two processes, 2 is alone
            world = 2 if rank < 2 else 1
            part = slice(2 * rank, 2 * rank + 2) if rank < 2 else slice(None)
            everyone = {2: made.view(2, 2, 1, 8, 8), 1: made}
            numbers_of = {2: torch.special.ndtr(numbers).view(2, 2, 2), 1: numbers}
            monkeypatch.setattr(task, "_trainer", Processes(rank if rank < 2 else 0, world))
            monkeypatch.setattr(task, "noise", lambda *size, part=part, numbers=numbers: numbers[part])
            gathered = iter((everyone[world], numbers_of[world]))

            def gather(tensor, gathered=gathered, rank=rank):
                whole = next(gathered)
                assert torch.equal(tensor, whole[rank])  # what this process gives is its part
                return whole

            monkeypatch.setattr(task, "all_gather", gather)
            parts.append(task._exchanged("a", made[part]))
        assert torch.equal(torch.cat(parts[:2]), parts[2])
        assert torch.equal(tasks[0].replay["a"].pictures, tasks[2].replay["a"].pictures)
    for task in tasks:
        monkeypatch.setattr(task, "_trainer", None)


# ---------- the losses


@pytest.fixture
def task():
    torch.manual_seed(0)
    return CycleGAN(1, 1, 8, width=2, halvings=1, blocks=1, patch=1, cycle=3.0, identity=7.0, buffer=4)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(1)
    return {look: torch.rand(3, 1, 8, 8, generator=draw) for look in "ab"}


def mean(tensor):
    return float(np.mean(tensor.detach().double().numpy()))


def test_the_generators_loss_is_its_formula(task, batch):
    a, b = batch["a"], batch["b"]
    forth, back = task.generators["ab"], task.generators["ba"]
    there = [task.discriminators["b"](forth(a)), task.discriminators["a"](back(b))]
    expected = sum(mean((told - 1) ** 2) for told in there)
    cycles = [mean((back(forth(a)) - a).abs()), mean((forth(back(b)) - b).abs())]
    same = [mean((forth(b) - b).abs()), mean((back(a) - a).abs())]
    expected += 3 * 2 * sum(cycles) + 7 * 2 * sum(same)
    loss, metrics = task.generators_loss(batch)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert [metrics[n].item() for n in ("cycle_a", "cycle_b")] == pytest.approx(cycles, rel=1e-5)
    assert metrics["cycle"].item() == pytest.approx(sum(cycles) / 2, rel=1e-5)


def test_the_discriminators_loss_is_its_formula(task, batch):
    made = {"b": task.generators["ab"](batch["a"]), "a": task.generators["ba"](batch["b"])}
    told = {look: (task.discriminators[look](batch[look]), task.discriminators[look](made[look])) for look in "ab"}
    expected = sum((mean((real - 1) ** 2) + mean(fake**2)) / 2 for real, fake in told.values())
    assert task.eval().discriminators_loss(batch).item() == pytest.approx(expected, rel=1e-5)
    task.train().generators_loss(batch)
    assert task.discriminators_loss(batch).item() == pytest.approx(expected, rel=1e-5)  # the buffers are not full yet
    assert [int(task.replay[look].held) for look in "ab"] == [3, 3]


def test_the_discriminators_are_shown_what_the_buffers_hand_out(task, batch, monkeypatch):
    old = torch.rand(4, 1, 8, 8)
    for look in "ab":
        task.replay[look].pictures.copy_(old)
        task.replay[look].held.fill_(4)
    monkeypatch.setattr(task, "noise", lambda *size: torch.full(size, -9.0))  # always the first one is handed out
    task.generators_loss(batch)
    made = {k: v.clone() for k, v in task._made.items()}
    loss = task.discriminators_loss(batch)
    expected = 0.0
    for look in "ab":
        shown = torch.cat([old[:1], made[look][:2]])  # the first, and then those that took its place
        d = task.discriminators[look]
        expected += (mean((d(batch[look]) - 1) ** 2) + mean(d(shown) ** 2)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    before = task.replay["a"].pictures.clone()
    task.eval().loss(batch)
    assert torch.equal(task.replay["a"].pictures, before)  # validation leaves them as they are


def test_every_parameter_has_a_gradient_in_its_player_s_turn_and_the_generators_none_in_the_other_s(task, batch):
    for player, other in (("generators", "discriminators"), ("discriminators", "generators")):
        out = task.player_loss(player, batch)
        loss = out[0] if isinstance(out, tuple) else out
        mine = torch.autograd.grad(loss, tuple(getattr(task, player).parameters()), retain_graph=True)
        assert all(g.any() for g in mine), player
        if player == "discriminators":
            yours = torch.autograd.grad(loss, tuple(getattr(task, other).parameters()), allow_unused=True)
            assert all(g is None for g in yours)


def test_without_a_buffer_new_pictures_are_shown(batch):
    task = CycleGAN(1, 1, 8, width=2, halvings=1, blocks=1, patch=1, buffer=0)
    task.generators_loss(batch)
    made = {look: pictures.clone() for look, pictures in task._made.items()}
    expected = 0.0
    for look in "ab":
        d = task.discriminators[look]
        expected += (mean((d(batch[look]) - 1) ** 2) + mean(d(made[look]) ** 2)) / 2
    assert len(task.replay) == 0 and task.discriminators_loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_two_processes_have_the_gradient_of_one(in_double):
    def gradients(part):
        copied = copy.deepcopy(whole_task)
        found = {}
        for player in copied.players():
            loss, _ = with_metrics(copied.player_loss(player, part))
            names, parameters = zip(*getattr(copied, player).named_parameters(), strict=True)
            each = torch.autograd.grad(loss, parameters)
            found |= {f"{player}.{name}": gradient for name, gradient in zip(names, each, strict=True)}
        return found

    torch.manual_seed(0)
    whole_task = CycleGAN(1, 1, 8, width=2, halvings=1, blocks=1, patch=1, identity=5.0).train()
    whole_batch = {look: torch.rand(4, 1, 8, 8) for look in "ab"}
    whole = gradients(whole_batch)
    first, second = (gradients({look: t.chunk(2)[rank] for look, t in whole_batch.items()}) for rank in (0, 1))
    assert not torch.allclose(first["generators.ab.layers.1.weight"], whole["generators.ab.layers.1.weight"])
    for name, gradient in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, gradient, rtol=1e-6, atol=1e-9)


def test_looks_of_other_channels():
    task = CycleGAN(1, 3, 8, width=2, halvings=1, blocks=1, patch=1)
    loss, _ = task.loss({"a": torch.rand(2, 1, 8, 8), "b": torch.rand(2, 3, 8, 8)})
    assert torch.isfinite(loss)
    with pytest.raises(UserError, match="look a has 1 channels and look b 3, so no picture has both looks"):
        CycleGAN(1, 3, 8, halvings=1, identity=1.0)


@pytest.mark.parametrize("name", ["cycle", "identity", "buffer", "halvings", "blocks", "width"])
def test_bad_numbers(name):
    with pytest.raises(UserError, match=rf"model\.{name}: {name} is -1; give at least {int(name == 'width')}"):
        CycleGAN(1, 1, 8, **{name: -1})


def test_a_patch_that_is_too_large_for_the_pictures():
    with pytest.raises(UserError, match="a patch of 70 pixels needs pictures of 24 or more along one side, not 16"):
        CycleGAN(1, 1, 16)


def test_the_truth_is_compared_with_where_it_is_known(task, batch):
    assert "l1_ab" not in task.loss(batch)[1]
    truth = task.generators["ab"](batch["a"]).detach()
    _, metrics = task.loss(batch | {"a_truth": truth, "b_truth": batch["b"]})
    assert metrics["l1_ab"].item() == pytest.approx(0, abs=1e-6) and metrics["l1_ba"] > 0.01


def test_a_translation_is_judged_as_a_picture_of_the_other_look(task, batch):
    """Each judge knows its own look: what was made of a is shown to the one of b."""

    class Judge:
        def __init__(self, look, share):
            self.look, self.share, self.seen = look, share, None

        def accuracy(self, pictures, labels):
            self.seen = pictures, labels
            return self.share

    judges = {"a": Judge("a", 0.25), "b": Judge("b", 0.75)}
    task._trainer = SimpleNamespace(datamodule=SimpleNamespace(judges=judges), sanity_checking=False)
    known = {f"{look}_{what}": torch.full((len(batch[look]),), n) for n, look in enumerate("ab") for what in ("class",)}
    truths = {"a_truth": batch["b"], "b_truth": batch["a"]}
    metrics = CycleGAN.loss(task.eval(), {**batch, **known, **truths})[1]
    task._trainer = None
    assert [float(metrics[f"accuracy{way}"]) for way in ("_ab", "_ba", "")] == [0.75, 0.25, 0.5]
    torch.testing.assert_close(judges["b"].seen[0], task(batch["a"], "ab"))
    torch.testing.assert_close(judges["a"].seen[0], task(batch["b"], "ba"))
    assert judges["b"].seen[1].eq(0).all() and judges["a"].seen[1].eq(1).all()


def test_the_best_are_those_that_are_told_rightly_where_that_is_known():
    sizes = {"width": 2, "halvings": 1, "blocks": 1, "patch": 1}
    scored, other = CycleGAN(1, 1, 8, scored=True, **sizes), CycleGAN(1, 1, 8, **sizes)
    assert (scored.monitor, scored.monitor_mode, scored.headline) == ("val/accuracy", "max", "test/accuracy")
    assert (other.monitor, other.monitor_mode, other.headline) == ("val/cycle", "min", "test/cycle")


# ---------- the schedule


def test_the_learning_rate_is_constant_and_then_a_line():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = LinearDecay(optimizer, constant=0.5, total_steps=10)
    rates = []
    for _ in range(11):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([2, 2, 2, 2, 2, 2, 1.6, 1.2, 0.8, 0.4, 0])
    assert not {"constant", "total_steps"} & set(schedule.state_dict())
    early = LinearDecay(optimizer, constant=0.25, total_steps=8)
    assert [early.factor(s) for s in range(9)] == pytest.approx([1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    endless = LinearDecay(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0))
    assert [endless.factor(s) for s in (0, 10**6)] == [1, 1]
    assert LinearDecay(optimizer, constant=1.0, total_steps=4).factor(3) == 1


# ---------- what it shows


def test_a_file_is_translated_both_ways(task, tmp_path):
    Image.new("RGB", (40, 20), (10, 200, 30)).save(tmp_path / "one.png")
    labels = []
    for way in ("ab", "ba"):
        (shown,) = task.sample(str(tmp_path / "one.png"), way=way)
        labels.append([label.get_text() for label in shown.figure.axes[0].get_yticklabels()])
    assert labels == [["A", "A → B", "A → B → A"], ["B", "B → A", "B → A → B"]]
    with pytest.raises(UserError, match="there is no such file"):
        task.sample(str(tmp_path / "two.png"))
    with pytest.raises(UserError, match=r"name a picture's file"):
        task.sample()


def test_what_is_kept_comes_back_and_can_be_sampled_from(task, batch):
    task._examples = {look: (pictures * 255).byte() for look, pictures in batch.items()}
    for step in (10, 20):
        task._frames.add(step, torch.ones(6, 3, 8, 8))
    kept = {}
    task.on_save_checkpoint(kept)
    fresh = CycleGAN(1, 1, 8, width=2, halvings=1, blocks=1, patch=1, identity=5.0, buffer=4)
    fresh.on_load_checkpoint(kept)
    fresh.load_state_dict(task.state_dict())
    pixels = [t.sample(n=2)[0].figure.axes[0].images[0].get_array() for t in (task, fresh)]
    assert (pixels[0] == pixels[1]).all() and fresh._frames.steps == [10, 20]


def test_everything_is_shown(task, batch, tmp_path):
    for step in (10, 20, 30):
        task._frames.add(step, torch.ones(6, 3, 8, 8))
    with torch.no_grad():
        shown = task.show(batch | {"a_truth": batch["b"]})
    assert list(shown) == ["a-b-a", "b-a-b", "training"]
    forth, back = task.generators["ab"], task.generators["ba"]
    for way, (one, other), look in (("ab", (forth, back), "a"), ("ba", (back, forth), "b")):
        given, made, returned = task._there_and_back(batch[look], way).values()
        assert torch.equal(given, batch[look])
        torch.testing.assert_close(made, one(given))
        torch.testing.assert_close(returned, other(one(given)))
    labels = [label.get_text() for label in shown["a-b-a"].figure.axes[0].get_yticklabels()]
    assert labels == ["A", "A → B", "A → B → A", "truth"]
    for name, item in shown.items():
        assert item.save(tmp_path, name).stat().st_size > 200
