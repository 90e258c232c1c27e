"""What the task computes, draws, shows and keeps."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from dlmkit_pixelcnn.figures import grid_figure
from dlmkit_pixelcnn.task import PixelCNN

from dlmkit.errors import UserError
from dlmkit.figures import picture_grid

SMALL = {"channels": 1, "side": 6, "levels": 5, "width": 6, "layers": 3, "head_width": 6, "first_kernel_size": 3}


def made(**options):
    torch.manual_seed(0)
    task = PixelCNN(**SMALL | options).eval()
    for parameter in task.net.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return task


def batch(n=12, embedding_size=0, channels=1, levels=5, side=6):
    draw = torch.Generator().manual_seed(0)
    codes = torch.randint(levels, (n, channels, side, side), generator=draw)
    found = {"picture": codes / (levels - 1), "label": torch.arange(n) % 3}
    return found | ({"embedding": torch.randn(n, embedding_size, generator=draw)} if embedding_size else {})


def test_the_loss_in_its_three_units():
    task, given = made(num_classes=3), batch()
    loss, metrics = task.loss(given)
    outputs = task.net(given["picture"], given["label"])
    log_prob = torch.log_softmax(outputs, dim=1).gather(1, (given["picture"] * 4).long())
    nats = -log_prob.sum().item() / 12
    assert metrics["nats"].item() == pytest.approx(nats, rel=1e-5)
    assert loss.item() == pytest.approx(nats / 36, rel=1e-5)
    assert metrics["bits_per_dimension"].item() == pytest.approx(nats / 36 / math.log(2), rel=1e-5)


def test_a_net_that_knows_nothing_needs_the_logarithm_of_the_levels():
    task = made()
    for parameter in task.parameters():
        torch.nn.init.zeros_(parameter)
    assert task.loss(batch())[1]["bits_per_dimension"].item() == pytest.approx(math.log2(5), rel=1e-6)


def test_what_the_condition_is():
    given = batch(embedding_size=4)
    assert torch.equal(made(num_classes=3).condition(given), given["label"])
    assert torch.equal(made(num_classes=3, embedding_size=4).condition(given), given["embedding"])
    assert made(num_classes=3, embedding_size=4, conditional=False).condition(given) is None


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["samples"]),
        ({"num_classes": 3}, ["samples"]),
        (
            {"num_classes": 3, "embedding_size": 4},
            ["portraits", "strip"],
        ),
        ({"channels": 3, "likelihood": "logistic"}, ["samples"]),
    ],
)
def test_everything_is_shown(options, names, tmp_path):
    task = made(**options)
    given = batch(embedding_size=options.get("embedding_size", 0), channels=options.get("channels", 1))
    with torch.inference_mode():
        shown = task.show(given)
    assert list(shown) == [*names, "drawing", "completions", "surprise", "sight"]
    for name, item in shown.items():
        assert item.save(tmp_path, name).stat().st_size > 2000


def test_the_drawing_begins_grey_and_ends_with_the_pictures():
    task = made()
    pictures = task.draw(4)
    drawing = task.drawing(pictures)
    assert len(drawing.frames) == 37 and drawing.captions[0::36] == ["pixel 0 of 36", "pixel 36 of 36"]
    assert (drawing.frames[-1] == picture_grid(pictures)).all()
    assert (drawing.frames[0] == picture_grid(torch.full_like(pictures, 0.5))).all()
    halfway = torch.cat((pictures[:, :, :3], torch.full_like(pictures[:, :, 3:], 0.5)), dim=2)
    assert (drawing.frames[18] == picture_grid(halfway)).all()


@pytest.mark.parametrize(
    ("options", "prompt", "caption"),
    [
        ({}, None, "Drawn pixel by pixel, seed 2, temperature 0.5"),
        ({"num_classes": 3}, None, "Drawn pixel by pixel, each class in turn, seed 2, temperature 0.5"),
        ({"num_classes": 3}, "2", "Drawn pixel by pixel, class 2, seed 2, temperature 0.5"),
        ({"embedding_size": 4}, "0-1", "Drawn pixel by pixel, vector 0-1, seed 2, temperature 0.5"),
    ],
)
def test_samples_say_what_they_are(options, prompt, caption):
    task = made(**options)
    task.examples = {"picture": torch.rand(2, 1, 6, 6), "embedding": torch.randn(2, 4)}
    assert task.sample(prompt, n=2, seed=2, temperature=0.5)[0].caption == caption


@pytest.mark.parametrize(
    "options",
    [
        {"likelihood": "binary", "levels": 2, "side": 28},
        {"likelihood": "logistic", "levels": 256, "channels": 3},
        {"likelihood": "softmax", "levels": 5},
    ],
)
def test_a_net_in_half_precision_has_an_exact_likelihood(options):
    """What the net tells may be rounded; what follows from it is computed as for the same numbers in float32."""
    task = made(**options)
    given = batch(channels=options.get("channels", 1), levels=options["levels"], side=options.get("side", 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = task(given["picture"])
        found = task.log_prob(given)
    assert outputs.dtype == torch.bfloat16 and found.dtype == torch.float32
    codes = task.likelihood.codes(given["picture"])
    torch.testing.assert_close(found, task.likelihood.log_prob(outputs.float(), codes))
    whole = task.likelihood.log_prob(outputs.double(), codes).sum(dim=(1, 2))
    torch.testing.assert_close(found.sum(dim=(1, 2)).double(), whole, rtol=1e-5, atol=0)


def test_samples_follow_from_the_seed_and_the_class():
    task = made(num_classes=3)
    one, again, other = (task.sample(n=4, seed=seed)[0].pixels for seed in (1, 1, 2))
    assert (one == again).all() and (one != other).any()
    for prompt, classes in (("0", [0] * 4), ("2", [2] * 4), (None, [0, 1, 2, 0])):
        drawn = picture_grid(task.draw(4, torch.tensor(classes), seed=1))
        assert (task.sample(prompt, n=4)[0].pixels == drawn).all(), prompt
    zero, two = (task.sample(prompt, n=4)[0].pixels for prompt in ("0", "2"))
    assert (zero != two).any()
    coldest = task.sample("1", n=2, temperature=0.0)[0].pixels
    assert (task.sample("1", n=2, temperature=0.0, seed=5)[0].pixels == coldest).all()


@pytest.mark.parametrize(
    ("options", "prompt", "words"),
    [
        ({"num_classes": 3}, "3", "no class '3'"),
        ({"num_classes": 3}, "a seven", "no class 'a seven'"),
        ({"num_classes": 3}, "0-1", "no class '0-1'"),
        ({}, "0", "without classes"),
        ({"embedding_size": 4}, "0-2", "no vector '0-2'"),
    ],
)
def test_prompts_that_name_nothing(options, prompt, words):
    task = made(**options)
    task.examples = {"picture": torch.rand(2, 1, 6, 6), "embedding": torch.randn(2, 4)}
    with pytest.raises(UserError, match=words):
        task.sample(prompt, n=2)


@pytest.mark.parametrize("options", [{"n": 0}, {"temperature": -1.0}, {"temperature": math.inf}])
def test_options_of_sampling_that_are_out_of_range(options):
    with pytest.raises(UserError, match=r"is (0|-1\.0|inf)"):
        made().sample(**options)


def test_a_way_between_vectors_begins_and_ends_with_what_they_give():
    task = made(embedding_size=4)
    first, last = torch.randn(2, 2, 4)
    way = task.between(first, last, 5).unflatten(0, (2, 5))
    torch.testing.assert_close(way[:, 0], task.draw(2, first))
    torch.testing.assert_close(way[:, 4], task.draw(2, last))
    same = task.between(first, first, 5).unflatten(0, (2, 5))
    assert torch.equal(same, same[:, :1].expand_as(same))  # the random numbers are the same on all of the way


def test_vectors_travel_with_a_checkpoint():
    task = made(embedding_size=4)
    task.examples = {"picture": torch.rand(3, 1, 6, 6), "embedding": torch.randn(3, 4)}
    kept = {}
    task.on_save_checkpoint(kept)
    fresh = made(embedding_size=4)
    fresh.on_load_checkpoint(kept)
    assert (fresh.sample("2", n=3)[0].pixels == task.sample("2", n=3)[0].pixels).all()
    torch.testing.assert_close(fresh._asked("0-2", 3)[0][1], task.examples["embedding"][[0, 2]].mean(dim=0))


def test_the_judge_looks_at_what_was_drawn_for_each_class(monkeypatch):
    task, seen, told = made(num_classes=3), [], {}

    class Judge:
        def verdict(self, drawn, real):
            seen.append((drawn, real))
            return SimpleNamespace(distance=2.5)

        def accuracy(self, drawn, classes):
            seen.append((drawn, classes))
            return 0.75

    real = batch()["picture"]
    monkeypatch.setattr("dlmkit_pixelcnn.task._JUDGED", 7)
    task._trainer = SimpleNamespace(datamodule=SimpleNamespace(judge=Judge(), table=lambda split: (real, split)))
    task.print, task.log = (lambda text: None), (lambda name, value, **_: told.update({name: value}))
    task.on_test_epoch_end()
    task._trainer = None
    classes = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    drawn = task.draw(7, classes)
    assert torch.equal(seen[0][0], drawn) and seen[0][1] is real
    assert torch.equal(seen[1][0], drawn) and torch.equal(seen[1][1], classes)
    assert told["test/distance"] == 2.5 and told["test/as_asked"] == 0.75 and told["test/pictures_per_second"] > 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_vectors_are_taken_in_the_net_s_precision(dtype):
    task = made(embedding_size=4).to(dtype)
    task.examples = {"picture": torch.rand(3, 1, 6, 6), "embedding": torch.randn(3, 4)}
    first, last = task.examples["embedding"][:2]
    assert task.between(first[None], last[None], 3).shape == (3, 1, 6, 6)
    assert task.sample("0-2", n=3)[0].pixels.shape == task.sample(n=3)[0].pixels.shape


@pytest.mark.parametrize("options", [{"num_classes": 3}, {"embedding_size": 4}, {}])
def test_what_is_drawn_elsewhere_is_the_same(options, monkeypatch):
    task = made(**options)
    condition = {"num_classes": torch.arange(3), "embedding_size": torch.randn(3, 4)}.get(next(iter(options), ""))
    given = torch.rand(3, 1, 2, 6).mul(4).round() / 4
    here = task.draw(3, condition, given=given)
    monkeypatch.setattr("dlmkit_pixelcnn.task._with_double", lambda device: torch.device("cpu", 0))
    assert torch.equal(task.draw(3, condition, given=given), here)


@pytest.mark.parametrize("options", [{"num_classes": 3}, {"embedding_size": 4, "maps": 2}, {}])
def test_what_is_drawn_in_parts_is_the_same(options, monkeypatch):
    task = made(**options)
    condition = {"num_classes": torch.arange(5) % 3, "embedding_size": torch.randn(5, 4)}.get(next(iter(options), ""))
    given = torch.rand(5, 1, 2, 6).mul(4).round() / 4
    whole = task.draw(5, condition, given=given)
    monkeypatch.setattr("dlmkit_pixelcnn.task._KEPT_NUMBERS", 2 * 3 * 6 * 36 * (9 if "maps" in options else 1))
    assert task._at_once() == 2
    assert torch.equal(task.draw(5, condition, given=given), whole)


def test_dropout_is_for_training_only():
    task, given = made(dropout=0.5), batch()
    assert torch.equal(task(given["picture"]), task(given["picture"]))
    task.train()
    assert not torch.equal(task(given["picture"]), task(given["picture"]))


def test_drawing_leaves_the_mode_and_the_run_s_random_numbers_alone():
    task = made().train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    task.draw(2)
    task.samples_figure()
    assert task.net.training and torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"likelihood": "binary"}, "pixels have 5 levels"),
        ({"kernel_size": 2}, "kernel_size is 2"),
        ({"channels": 3, "width": 7}, "width is 7 and must be a multiple of 3"),
        ({"components": 0}, "components is 0; give at least 1"),
        ({"width": 0}, "width is 0; give at least 1"),
        ({"dropout": 1.0}, "dropout is 1.0; give at least 0 and less than 1"),
    ],
)
def test_what_does_not_fit(options, words):
    with pytest.raises(UserError, match=words):
        made(**options)


def test_a_grid_has_its_heads():
    figure = grid_figure(torch.rand(6, 1, 4, 4), ["a", "b", "c"], "title", ["x", "y"])
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["x", "y"]
