"""The games, the networks, and what a run of them shows."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from dlmkit_gan.model import Discriminator, Generator, stages
from dlmkit_gan.objectives import OBJECTIVES, gradient_penalty
from dlmkit_gan.task import GAN
from torch import nn

from dlmkit.errors import UserError
from dlmkit.figures import picture_grid
from dlmkit.tasks.task import with_metrics
from dlmkit.testing.process_checks import calmed

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*LeafSpec", "ignore:.*does not have many workers", "ignore:.*CombinedLoader"
)
REAL, MADE = [0.5, -1.2, 3.0], [-0.7, 0.1, 2.0]


def d(logit):
    return 1 / (1 + math.exp(-logit))


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        (
            "minimax",
            -mean([math.log(d(x)) for x in REAL]) - mean([math.log(1 - d(x)) for x in MADE]),
            mean([math.log(1 - d(x)) for x in MADE]),
        ),
        (
            "non-saturating",
            -mean([math.log(d(x)) for x in REAL]) - mean([math.log(1 - d(x)) for x in MADE]),
            -mean([math.log(d(x)) for x in MADE]),
        ),
        ("wasserstein", mean(MADE) - mean(REAL), -mean(MADE)),
        ("hinge", mean([max(0, 1 - x) for x in REAL]) + mean([max(0, 1 + x) for x in MADE]), -mean(MADE)),
    ],
)
def test_an_objective_is_its_formula(name, discriminator, generator):
    game = OBJECTIVES[name]()
    real, made = torch.tensor(REAL, dtype=torch.double), torch.tensor(MADE, dtype=torch.double)
    assert game.discriminator(real, made).item() == pytest.approx(discriminator, abs=1e-12)
    assert game.generator(made).item() == pytest.approx(generator, abs=1e-12)


def test_the_game_of_the_slide_saturates_where_the_other_does_not():
    made = torch.full((1,), -10.0, requires_grad=True)  # the discriminator is sure
    for name, slope in (("minimax", -d(-10)), ("non-saturating", -d(10))):
        (gradient,) = torch.autograd.grad(OBJECTIVES[name]().generator(made), made)
        assert gradient.item() == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_of_very_sure_discriminators_are_finite(name, sign):
    """Whether they are right or wrong; and so are the gradients."""
    real, made = (torch.tensor([side * sign * 1e4], requires_grad=True) for side in (1, -1))
    for loss, given in (
        (OBJECTIVES[name]().discriminator(real, made), (real, made)),
        (OBJECTIVES[name]().generator(made), (made,)),
    ):
        gradients = torch.autograd.grad(loss, given)
        assert torch.isfinite(loss) and all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_penalty_of_a_linear_critic_is_known():
    weights = torch.randn(4, 3, 5, 5, dtype=torch.double)[0].requires_grad_()
    real, made = torch.randn(2, 6, 3, 5, 5, dtype=torch.double)
    mix = torch.rand(6, 1, 1, 1, dtype=torch.double)
    penalty = gradient_penalty(lambda x: (x * weights).sum(dim=(1, 2, 3)), real, made, mix)
    length = weights.norm()
    assert penalty.item() == pytest.approx((length.item() - 1) ** 2)
    (slope,) = torch.autograd.grad(penalty, weights)
    torch.testing.assert_close(slope, (2 * (length - 1) / length * weights).detach())


def test_the_penalty_is_taken_between_real_and_made():
    seen = []

    def critic(x):
        seen.append(x)
        return x.sum(dim=(1, 2, 3))

    real, made = torch.ones(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    gradient_penalty(critic, real, made, torch.tensor([0.25, 1.0]).view(2, 1, 1, 1))
    assert seen[0][:, 0, 0, 0].tolist() == [0.25, 1.0]


# ---------- networks


@pytest.mark.parametrize(("side", "expected"), [(8, (4, 1)), (28, (7, 2)), (32, (4, 3)), (48, (6, 3)), (64, (4, 4))])
def test_sides_that_can_be_made(side, expected):
    assert stages(side) == expected
    made = Generator(5, 3, side, 2)(torch.randn(2, 5))
    assert made.shape == (2, 3, side, side) and 0 <= made.min() and made.max() <= 1
    assert Discriminator(3, side, 2)(made).shape == (2,)


@pytest.mark.parametrize("side", [4, 7, 9, 30, 72])
def test_sides_that_cannot(side):
    with pytest.raises(ValueError, match=f"a side of {side} pixels"):
        Generator(5, 3, side, 2)
    with pytest.raises(UserError, match="give pictures of another size"):
        GAN(channels=3, side=side)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.5}, r"model\.dropout: dropout is 1\.5; give at least 0 and less than 1"),
        ({"width": 0}, r"model\.width: width is 0; give at least 1"),
        ({"latent_size": 0}, r"model\.latent_size: latent_size is 0; give at least 1"),
        ({"penalty": -3.0}, r"model\.penalty: penalty is -3\.0; give at least 0"),
        ({"inception_pictures": 1}, r"inception_pictures is 1; give at least 2"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(UserError, match=message):
        GAN(1, 8, **options)


def test_spectral_normalisation_holds_every_layer_at_one():
    net = Discriminator(1, 8, 8, "spectral").train()
    for _ in range(50):
        net(torch.rand(4, 1, 8, 8))
    for layer in net.layers:
        if isinstance(layer, torch.nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("normalisation", "mixes"), [("none", False), ("spectral", False), ("batch", True)])
def test_which_discriminators_look_at_the_whole_batch(normalisation, mixes):
    net = Discriminator(1, 16, 4, normalisation).train()
    for module in net.modules():  # the power iteration changes a little with every look
        if normalisation == "spectral":
            module.eval()
    pictures = torch.rand(4, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(pictures)[0], pictures)
    assert bool(gradient[1:].any()) == mixes


# ---------- the task


@pytest.fixture
def task():
    torch.manual_seed(0)
    return GAN(channels=1, side=8, latent_size=6, width=4).eval()


def test_a_walk_goes_from_one_vector_to_another_and_stays_as_long(task):
    way = task.walk(rows=2, steps=5).view(2, 5, 6)
    torch.testing.assert_close(way[:, 0], task.fixed[:2])
    torch.testing.assert_close(way[:, -1], task.fixed[2:4])
    lengths = way.norm(dim=-1)
    assert (lengths.min(dim=1).values > 0.9 * torch.minimum(lengths[:, 0], lengths[:, -1]) - 1e-4).all()


def test_a_walk_between_numbers_is_a_line():
    """In one dimension there is no circle to walk on."""
    way = GAN(channels=1, side=8, latent_size=1, width=4).walk(rows=8, steps=3).view(8, 3)
    torch.testing.assert_close(way[:, 1], (way[:, 0] + way[:, 2]) / 2)


def test_samples_follow_from_the_seed(task):
    one, again, other = (task.sample(n=3, seed=s)[0].pixels for s in (1, 1, 2))
    assert (one == again).all() and (one != other).any() and one.dtype.name == "uint8"
    with pytest.raises(UserError, match="a GAN takes no prompt"):
        task.sample("a seven")


def test_what_is_kept_comes_back(task):
    task._outputs = [(0, 0.5, 0.25), (10, 0.75, 0.5)]
    for step in (10, 20, 30):
        task._frames.add(step, torch.ones(2, 1, 8, 8))
    kept = {}
    task.on_save_checkpoint(kept)
    fresh = GAN(channels=1, side=8, latent_size=6, width=4)
    fresh.on_load_checkpoint(kept)
    assert fresh._outputs == task._outputs
    assert fresh._frames.steps == [10, 20, 30] and (fresh._frames.pictures[2] == 255).all()
    GAN(channels=1, side=8, latent_size=6, width=4).on_save_checkpoint(kept)
    fresh.on_load_checkpoint(kept)
    assert len(fresh._frames) == 0 and fresh._outputs == []


def test_everything_is_shown(task, tmp_path):
    task._outputs = [(0, 0.5, 0.25), (10, 0.75, 0.5)]
    for step in (10, 20, 30):
        task._frames.add(step, torch.ones(32, 1, 8, 8))
    with torch.no_grad():
        shown = task.show({"picture": torch.rand(40, 1, 8, 8)})
        assert (shown["samples"].pixels == picture_grid(task(task.fixed[:32]))).all()
        assert (shown["walk"].pixels == picture_grid(task(task.walk(4, 10)), columns=10)).all()
    assert list(shown) == ["samples", "real", "walk", "training", "outputs"]
    for name, item in shown.items():
        assert item.save(tmp_path, name).stat().st_size > 200


def test_a_game_without_probabilities_is_drawn_without_them():
    for name, label in (("non-saturating", "D = σ(d)"), ("wasserstein", "d, the"), ("hinge", "d, the")):
        game = GAN(channels=1, side=8, latent_size=6, width=4, objective=name).eval()
        real, z = torch.rand(8, 1, 8, 8), torch.randn(8, 6)
        game.noise = lambda *size, z=z: z
        with torch.no_grad():
            said = game.discriminator_loss({"picture": real})[1]
        for key, pictures in (("real_output", real), ("made_output", game(z))):
            logits = game.discriminator(pictures).detach()
            expected = logits.sigmoid() if name == "non-saturating" else logits
            torch.testing.assert_close(said[key], expected.mean())
        game._outputs = [(0, 3.0, -3.0), (10, 40.0, 2.0)]
        ax = game.outputs_figure().axes[0]
        assert ax.get_ylabel().startswith(label)
        assert (ax.get_ylim()[1] > 40) == (name != "non-saturating")


def test_what_the_discriminator_says_is_kept_once_for_a_group_of_batches(task):
    task.train()
    for step in (0, 0, 3, 10, 10, 12, 20):
        task._trainer = SimpleNamespace(global_step=step, training=True)
        task.noise = lambda *size: torch.randn(size)
        task.discriminator_loss({"picture": torch.rand(4, 1, 8, 8)})
    assert [step for step, *_ in task._outputs] == [0, 10, 20]


def test_data_without_a_judge_are_refused_before_the_run(task):
    task._trainer = SimpleNamespace(datamodule=object())
    with pytest.raises(UserError, match="object has no judge, and a GAN has no other measure"):
        task.configure_callbacks()


def test_the_penalty_is_part_of_a_critics_loss_in_training():
    torch.manual_seed(0)
    options = {"objective": "wasserstein", "normalisation": "none", "penalty": 7.0}
    game = GAN(channels=1, side=8, latent_size=6, width=4, **options).train()
    for parameter in game.discriminator.parameters():
        nn.init.normal_(parameter, std=0.3)  # so that what it says counts beside the penalty
    game._stands_for = 0, 1  # as in a run, where the draws follow from the batch
    real = torch.rand(8, 1, 8, 8)
    game._begin(0)
    loss, said = game.discriminator_loss({"picture": real})
    game._begin(0)  # the same draws once more
    made = game(game.noise(8, 6))
    mix = torch.special.ndtr(game.noise(8, 1, 1, 1))
    penalty = gradient_penalty(game.discriminator, real, made, mix)
    assert float(penalty.detach()) > 0.1 and abs(said["made_output"] - said["real_output"]) > 0.1
    expected = said["made_output"] - said["real_output"] + 7 * penalty
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    game.penalty = 0.0
    game._begin(0)
    unpunished = game.discriminator_loss({"picture": real})[0]
    torch.testing.assert_close(unpunished, said["made_output"] - said["real_output"], rtol=1e-4, atol=1e-6)


def test_what_is_judged_are_the_averaged_weights(tmp_path):
    """Lightning takes the averages away when the epoch of a validation ends."""
    from dlmkit_pictures.digits import Digits
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import Callback

    from dlmkit import GeneratorAveraging

    judged, weights = [], []
    norms, said = [], []

    class Looking(GAN):
        def discriminator_loss(self, batch):
            loss, metrics = super().discriminator_loss(batch)
            if self.training:
                said.append((self.global_step, float(metrics["real_output"]), float(metrics["made_output"])))
            return loss, metrics

        def _judge(self, stage):
            judged.append(self.generator.layers[0].weight.detach().clone())
            first = self.discriminator.layers[0]
            vectors = first.parametrizations.weight[0]
            norms.extend(float(vector.norm()) for vector in (vectors._u, vectors._v))

    class Steps(Callback):
        def on_train_batch_end(self, trainer, task, *_):
            weights.append(task.generator.layers[0].weight.detach().clone())

    seed_everything(0)
    options = {"max_steps": 3, "val_check_interval": 3, "num_sanity_val_steps": 0, "limit_val_batches": 2}
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "accelerator": "cpu"}
    trainer = Trainer(
        **options,
        **quiet,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[Steps(), GeneratorAveraging(decay=0.5)],
    )
    task = Looking(1, 8, latent_size=4, width=8, optimizer=lambda p: torch.optim.SGD(p, lr=1.0))
    trainer.fit(task, datamodule=Digits())
    average = weights[0]  # the first update is taken as it is
    for later in weights[1:]:
        average = 0.5 * average + 0.5 * later
    assert len(judged) == 1 and task._outputs == said[:1]  # of every tenth step
    torch.testing.assert_close(judged[0], average)
    assert norms == pytest.approx([1, 1], abs=1e-5)  # they are not averaged, so σ is right
    assert not torch.allclose(judged[0], weights[-1], rtol=1e-3)


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.double)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double")
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_have_the_gradient_of_one(objective):
    """Of both networks, noise and penalty included; the generator's batch normalisation is held."""

    def gradients(pictures, rank, world):
        part = copy.deepcopy(game)
        part._stands_for = rank, world
        found = {}
        for player in ("discriminator", "generator"):
            loss, _ = with_metrics(part.player_loss(player, {"picture": pictures}))
            names, parameters = zip(*getattr(part, player).named_parameters(), strict=True)
            each = torch.autograd.grad(loss, parameters, materialize_grads=True)
            found |= {f"{player}.{name}": gradient for name, gradient in zip(names, each, strict=True)}
        return found

    torch.manual_seed(0)
    game = calmed(GAN(channels=1, side=8, latent_size=6, width=4, objective=objective))
    pictures = torch.rand(8, 1, 8, 8)
    whole = gradients(pictures, 0, 1)
    first, second = (gradients(half, rank, 2) for rank, half in enumerate(pictures.chunk(2)))
    for player in ("generator", "discriminator"):  # a half alone has another
        name = next(name for name in whole if name.startswith(player) and whole[name].any())
        assert not torch.allclose(first[name], whole[name])
    for name, gradient in whole.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, gradient, rtol=1e-6, atol=1e-9)


def test_each_game_has_a_gradient_for_every_parameter():
    for name in OBJECTIVES:
        torch.manual_seed(0)
        game = GAN(channels=1, side=8, latent_size=6, width=4, objective=name).train()
        batch = {"picture": torch.rand(8, 1, 8, 8)}
        for player in ("discriminator", "generator"):
            out = game.player_loss(player, batch)
            network = getattr(game, player)
            loss = out[0] if isinstance(out, tuple) else out
            names, parameters = zip(*network.named_parameters(), strict=True)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
            idle = [n for n, g in zip(names, gradients, strict=True) if g is None or not g.any()]
            # What is added to all outputs makes no difference to a critic, nor within the margin.
            constant = player == "discriminator" and name in ("wasserstein", "hinge")
            assert idle == (["layers.5.bias"] if constant else []), name


def test_the_inception_distance_is_asked_for_before_training_and_given_by_the_test(monkeypatch, tmp_path):
    from dlmkit_pictures.digits import Digits
    from lightning.pytorch import Trainer, seed_everything
    from torchmetrics.image.fid import FrechetInceptionDistance

    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    net.num_features = 12
    asked = []

    def stand_in(weights, where):
        asked.append((weights, where))
        return FrechetInceptionDistance(net, normalize=True)

    monkeypatch.setattr("dlmkit_gan.task.inception_distance", stand_in)
    seed_everything(0)
    task = GAN(1, 8, latent_size=4, width=8, inception="some.pth", inception_pictures=300)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    data = Digits()
    found = trainer.test(task, datamodule=data, verbose=False)[0]
    metric = FrechetInceptionDistance(net, normalize=True)
    z = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for pictures, real in ((data.table("test")[0][:300], True), (task.eval()(z), False)):
            metric.update(pictures.expand(-1, 3, -1, -1), real=real)
    assert found["test/fid"] == pytest.approx(float(metric.compute()), rel=1e-3)
    assert asked == [("some.pth", "model.inception")] * 2  # when the trainer began, and at the end


def test_the_judge_looks_at_what_is_made_and_sees_where_the_modes_have_collapsed(tmp_path):
    from dlmkit_pictures.digits import Digits
    from lightning.pytorch import Trainer

    torch.manual_seed(0)
    task, data = GAN(1, 8, latent_size=4, width=8), Digits()
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    found = trainer.test(task, datamodule=data, verbose=False)[0]
    with torch.no_grad():
        verdict = data.judge.verdict(task.eval()(task.fixed), data.table("test")[0])
    for name, value in verdict._asdict().items():
        assert found[f"test/{name}"] == pytest.approx(value, rel=1e-4), name
    seven = data.table("train")[0][data.table("train")[1] == 7][0]
    task.generator.forward = lambda z: seven.expand(len(z), -1, -1, -1)
    collapsed = trainer.test(task, datamodule=data, verbose=False)[0]
    assert collapsed["test/coverage"] < 0.15 and collapsed["test/confidence"] > 0.9
    assert collapsed["test/distance"] > 10 * data.judge.verdict(*(data.table(s)[0] for s in ("train", "test"))).distance
