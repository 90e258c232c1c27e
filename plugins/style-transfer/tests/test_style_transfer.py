"""Pictures that are optimised: from the command and as a task."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dlmkit_pictures.files import luminance
from dlmkit_style_transfer.colour import match_colours, match_luminance
from dlmkit_style_transfer.data import ContentAndStyle
from dlmkit_style_transfer.features import Features
from dlmkit_style_transfer.guard import Guard
from dlmkit_style_transfer.task import StyleTransfer
from PIL import Image

from dlmkit.cli import main
from dlmkit.errors import UserError

SMALL = ["--data.size=64", "--model.coarse_steps=[]", "--trainer.val_check_interval=5"]


@pytest.fixture
def batch():
    return ContentAndStyle(size=64, style=["strokes", "hopper"]).batch("train", 0, 0, 0, 1)


def made(batch, **options):
    torch.manual_seed(0)
    high, wide = batch["content"].shape[2:]
    task = StyleTransfer(high, wide, **options)
    task.pixels.data.copy_(batch["content"])
    return task


def run(tmp_path, *words, name="run"):
    words = ["run", "style-transfer", "--runs", str(tmp_path), "--name", name, *SMALL, *words]
    assert main(words) == 0
    return tmp_path / name


# ---------- the task


def test_the_pixels_are_all_that_is_trained(batch):
    task = made(batch)
    assert [name for name, _ in task.named_parameters()] == ["pixels"]
    assert task.pixels.shape == batch["content"].shape
    before = {name: value.clone() for name, value in task.named_buffers()}
    task.loss(batch)[0].backward()
    assert float(task.pixels.grad.abs().sum()) > 0
    assert before and all(torch.equal(value, before[name]) for name, value in task.named_buffers())


def test_a_content_that_is_the_style(tmp_path, capsys):
    folder = run(tmp_path, "--trainer.max_steps=2", "--data.content=china", '--data.style=["china"]')
    assert (folder / "media" / "transfer-test.png").is_file() and "ZeroDivision" not in capsys.readouterr().err


def test_targets_are_computed_once(batch, monkeypatch):
    task = made(batch)
    calls = []
    own = Features.forward
    monkeypatch.setattr(Features, "forward", lambda net, x, wanted: calls.append(tuple(x.shape)) or own(net, x, wanted))
    for _ in range(3):
        task.loss(batch)
    content, first, second = (tuple(batch[name].shape) for name in ("content", "style_1", "style_2"))
    assert calls == [first, second, content, *3 * [content]]


def test_the_loss_is_the_weighted_sum(batch):
    task = made(batch, content_weight=2.0, style_weight=7.0, smoothness=3.0)
    task.pixels.data.add_(0.2)
    x = task.pixels.detach()
    loss, metrics = task.loss(batch)
    rough = (x[..., 1:] - x[..., :-1]).square().mean() + (x[..., 1:, :] - x[..., :-1, :]).square().mean()
    expected = 2 * metrics["content_loss"] + 7 * metrics["style_loss"] + 3 * rough
    torch.testing.assert_close(loss, expected)
    task.eval()
    assert task().max() <= 1 < x.max() and task.loss(batch)[0].item() != pytest.approx(loss.item())


def test_the_shares_of_several_styles(batch):
    losses = {}
    for name, shares in {"both": [1.0, 3.0], "first": [1.0, 0.0], "second": [0.0, 2.0]}.items():
        losses[name] = float(made(batch, style_shares=shares).loss(batch)[1]["style_loss"].detach())
    assert losses["first"] != pytest.approx(losses["second"])
    alone = {n: {"content": batch["content"], "style_1": batch[f"style_{k}"]} for k, n in ((1, "first"), (2, "second"))}
    for name, one in alone.items():
        assert losses[name] == pytest.approx(float(made(one).loss(one)[1]["style_loss"].detach()), rel=1e-5)
    assert losses["both"] not in (losses["first"], losses["second"])


def test_the_brightness_alone_is_painted(batch):
    task = made(batch, keep_colours="luminance")
    task.pixels.data = torch.rand(task.pixels.shape) * 0.2 + 0.4
    seen = task()
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])
    content = batch["content"] * 0.2 + 0.4  # so that nothing has to be cut off
    made_of = task.finished(content)
    torch.testing.assert_close(luminance(made_of), luminance(task.pixels.detach()), rtol=0, atol=1e-6)
    difference = (made_of - content)[0]
    torch.testing.assert_close(difference[0], difference[1], rtol=0, atol=1e-6)


def test_the_style_in_the_content_s_colours(batch):
    content, styles = made(batch, keep_colours="histogram")._prepared(batch)
    assert torch.equal(content, batch["content"])
    for found, style in zip(styles, (batch["style_1"], batch["style_2"]), strict=True):
        torch.testing.assert_close(found, match_colours(style, content))


def test_the_style_in_the_content_s_brightness(batch):
    content, styles = made(batch, keep_colours="luminance")._prepared(batch)
    bright = luminance(batch["content"])
    assert torch.equal(content, bright.expand(-1, 3, -1, -1))
    for found, style in zip(styles, (batch["style_1"], batch["style_2"]), strict=True):
        torch.testing.assert_close(found, match_luminance(luminance(style), bright).expand(-1, 3, -1, -1))


def test_coarse_steps_are_at_the_beginning_and_only_in_training(batch, monkeypatch):
    big = ContentAndStyle(size=192).batch("train", 0, 0, 0, 1)
    task = made(big, coarse_steps=[2, 3])
    sizes = []
    for step in range(7):
        monkeypatch.setattr(StyleTransfer, "global_step", step)
        sizes.append((task.halvings, tuple(task(task.halvings).shape[2:])))
    assert sizes == [(2, (32, 48))] * 2 + [(1, (64, 96))] * 3 + [(0, (128, 192))] * 2
    monkeypatch.setattr(StyleTransfer, "global_step", 0)
    task.eval()
    assert task.halvings == 0


def test_where_the_size_is_another_the_search_begins_anew(monkeypatch):
    big = ContentAndStyle(size=192).batch("train", 0, 0, 0, 1)
    task, begun = made(big, coarse_steps=[2, 3]), []
    monkeypatch.setattr(task, "_trainer", SimpleNamespace(optimizers=[None]))
    monkeypatch.setattr(task.guard, "begin", lambda optimizer, *, anew: begun.append(anew))
    for step in range(7):
        monkeypatch.setattr(StyleTransfer, "global_step", step)
        task.on_train_batch_start(big, step)
    assert begun == [False, False, True, False, False, True, False]


def test_the_guard_keeps_what_is_good_and_takes_back_what_is_not():
    pixels = torch.nn.Parameter(torch.zeros(1, 3, 4, 4))
    guard, optimizer = Guard(pixels), torch.optim.SGD([pixels], lr=0.0, momentum=0.9)

    def step(value, *losses, anew=False):
        guard.begin(optimizer, anew=anew)
        pixels.data.fill_(value)
        optimizer.state[pixels] = {"momentum_buffer": torch.ones(1)}
        for loss in losses:
            guard.look(pixels, torch.tensor(loss))
        guard.end(pixels, optimizer)
        return float(pixels.detach().max()), len(optimizer.state)

    assert step(1.0, 10.0) == (1.0, 1)
    assert step(2.0, 10.9, 99.0) == (2.0, 1)  # a tenth more is borne, and only the first look in a step counts
    assert step(3.0, 12.1) == (2.0, 0)
    assert step(4.0, float("nan")) == (2.0, 0)
    assert step(5.0, 11.5) == (5.0, 1)
    assert step(6.0, 1000.0, anew=True) == (6.0, 1)  # another loss from now on
    assert float(guard.loss) == 1000 and float(guard.picture.max()) == 6


def test_a_jump_teaches_the_search_how_the_loss_bends():
    """Along a parabola that is steeper than it seemed; after a second jump only a part of the gradient is gone down."""
    pixels = torch.nn.Parameter(torch.ones(1, 3, 4, 4))
    guard = Guard(pixels)
    optimizer = torch.optim.LBFGS([pixels], lr=1.0, max_iter=1)
    bend, seen = 1.0, []

    def closure():
        optimizer.zero_grad()
        loss = bend * pixels.square().sum() / 2
        loss.backward()
        seen.append((float(pixels.detach().max()), float(loss.detach())))
        guard.look(pixels, loss)
        return loss

    def step():
        guard.begin(optimizer)
        optimizer.step(closure)
        guard.end(pixels, optimizer)

    step()
    bend = 20.0  # what was learnt of it so far is far too flat
    guard.loss.fill_(float("inf"))
    for _ in range(4):
        step()
    places = [place for place, _ in seen]
    assert places[2] < -10 and places[3] == places[1] == pytest.approx(47 / 48)  # a jump, and back
    assert abs(places[4]) < 1e-4
    held = guard.picture.clone()
    scale = float(optimizer.state[pixels]["H_diag"])
    for number in (1, 2):  # as if every step led astray
        guard.begin(optimizer)
        optimizer.zero_grad()
        optimizer.step(closure)
        guard._astray, guard.jumps = held + 1, torch.tensor(number)
        guard.end(pixels, optimizer)
        assert torch.equal(pixels.data, held)
    state = optimizer.state[pixels]
    assert state["old_dirs"] == [] and not state["d"].any() and float(state["H_diag"]) < scale


def test_after_a_jump_the_search_is_told_what_is_left_of_a_step_within_the_range():
    """Half of the pixels are drawn to -3, where they cannot go, the others to 0.6."""

    def searched(careful):
        """Where it ends, and what the search holds its last step for, beside what there was of it in the range."""
        pixels = torch.nn.Parameter(torch.full((1, 3, 4, 4), 0.5))
        guard, optimizer = Guard(pixels), torch.optim.LBFGS([pixels], lr=1.0, max_iter=1)

        def closure():
            pixels.data.clamp_(0, 1)
            optimizer.zero_grad()
            loss = (pixels.flatten() - torch.tensor([-3.0, 0.6]).repeat(24)).square().sum() / 2
            loss.backward()
            guard.look(pixels, loss)
            return loss

        for _ in range(12):
            guard.begin(optimizer)
            guard.careful.fill_(careful)
            optimizer.step(closure)
            guard.end(pixels, optimizer)
        state, ends = optimizer.state[pixels], pixels.detach().clamp(0, 1)
        return ends, state["d"] * state["t"], (ends - guard.picture).flatten()

    ends, told, _ = searched(careful=False)
    assert told.min() < -2  # where no pixel can go
    assert (ends.flatten()[1::2] - 0.6).abs().max() > 0.1
    ends, told, taken = searched(careful=True)
    assert torch.equal(told, taken)
    assert torch.allclose(ends.flatten(), torch.tensor([0.0, 0.6]).repeat(24), atol=1e-4)


def test_jumps_from_the_same_place_are_counted():
    pixels = torch.nn.Parameter(torch.full((1, 3, 4, 4), 0.5))
    guard, optimizer, found = Guard(pixels), torch.optim.LBFGS([pixels], lr=1.0, max_iter=1), []
    for place, loss in ((0.5, 1.0), (0.6, 2.0), (0.5, 1.0), (0.7, 3.0), (0.5, 1.0), (0.4, 0.9)):
        guard.begin(optimizer)
        pixels.data.fill_(place)
        guard.look(pixels, torch.tensor(loss))
        guard.end(pixels, optimizer)
        found.append(int(guard.jumps))
    assert found == [0, 1, 1, 2, 2, 0]


def test_the_search_is_careful_from_its_first_jump_until_the_loss_is_another_one():
    pixels = torch.nn.Parameter(torch.full((1, 3, 4, 4), 0.5))
    guard, optimizer, found = Guard(pixels), torch.optim.LBFGS([pixels], lr=1.0, max_iter=1), []
    for loss, anew in ((1.0, False), (2.0, False), (0.5, False), (9.0, True)):
        guard.begin(optimizer, anew=anew)
        guard.look(pixels, torch.tensor(loss))
        guard.end(pixels, optimizer)
        found.append(bool(guard.careful))
    assert found == [False, True, True, False]


def test_pixels_are_brought_back_into_their_range(batch):
    task = made(batch)
    task.pixels.data[:] = torch.linspace(-1, 2, task.pixels.numel()).view_as(task.pixels)
    task.into_range()
    found = task.pixels.detach()
    assert (float(found.min()), float(found.max())) == (0, 1) and 0 < float(found.mean()) < 1


@pytest.mark.parametrize(
    "options, text",
    [
        ({"style_weight": -1.0}, "style_weight is -1.0; give at least 0"),
        ({"coarse_steps": [5, -1]}, "coarse_steps are"),
        ({"coarse_steps": [5, 5]}, "64 × 43 pixels halved 2 times are less than 32"),
        ({"style_layers": ["random7"]}, "there is no layer random7; did you mean random"),
        ({"style_shares": [0.0, 0.0]}, "style_shares are"),
        ({"style_shares": []}, "style_shares are"),
        ({"style_shares": [1.0]}, "there are 1 shares for 2 styles"),
    ],
)
def test_options_out_of_range(batch, options, text):
    with pytest.raises(UserError, match=text):
        made(batch, **options).loss(batch)


def test_a_missing_file_of_weights_leaves_no_run_folder(tmp_path, capsys):
    words = ["run", "style-transfer", "--runs", str(tmp_path), *SMALL, "--model.features=tiny-darknet"]
    assert main([*words, f"--model.weights={tmp_path}/none.npz"]) == 2
    assert "none.npz: there is no such file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# ---------- a run


def test_a_run_lowers_the_style_loss_and_leaves_its_pictures(tmp_path, capsys):
    folder = run(tmp_path, "--trainer.max_steps=20", "--model.optimizer.history_size=5")
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["val/style_loss"]) for row in rows if row.get("val/style_loss")]
    assert losses[-1] < losses[0]
    metrics = json.loads((folder / "summary.json").read_text())["metrics"]
    assert metrics["test/style_left"] < 0.05 and metrics["test/seconds_per_picture"] > 0
    with Image.open(folder / "media" / "picture-test.png") as picture:
        assert picture.size == (64, 43)
    with Image.open(folder / "media" / "forming-test.gif") as forming:
        assert forming.n_frames >= 3
    assert (folder / "media" / "transfer-test.png").is_file()
    told = capsys.readouterr().out
    assert (
        "random weights, which was trained on nothing" in told
        and "seconds per picture" in told
        and "the content as it is" in told
    )


def painted(folder):
    with Image.open(folder / "media" / "picture-test.png") as picture:
        return np.asarray(picture)[..., :3] / 255


def test_runs_that_keep_the_colours(tmp_path):
    """The brightness alone is painted, or the style is given the content's colours first."""
    words = ["--trainer.max_steps=20", "--model.optimizer.history_size=5"]
    found = {
        name: painted(run(tmp_path, *words, f"--model.keep_colours={name}", name=name))
        for name in ("no", "luminance", "histogram")
    }
    content = ContentAndStyle(size=64).batch("train", 0, 0, 0, 1)["content"][0].permute(1, 2, 0).numpy()
    bright = found["luminance"]
    inside = ((bright > 0.01) & (bright < 0.99)).all(axis=-1)
    assert inside.mean() > 0.5
    for one, other in ((0, 1), (1, 2)):  # what two colours differ by tells I and Q
        difference = (bright[..., one] - bright[..., other]) - (content[..., one] - content[..., other])
        assert np.abs(difference[inside]).max() < 0.01
    assert np.abs(bright - content).mean() > 0.02
    off = {name: np.abs(pixels.mean(axis=(0, 1)) - content.mean(axis=(0, 1))).max() for name, pixels in found.items()}
    assert off["histogram"] < off["no"] / 2


def test_a_run_goes_on_at_full_size_after_coarse_steps(tmp_path):
    words = ["--trainer.max_steps=16", "--model.coarse_steps=[6]", "--data.size=96", "--trainer.val_check_interval=2"]
    with (run(tmp_path, *words) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/style_loss")]
    steps, losses = zip(*((int(row["step"]), float(row["val/style_loss"])) for row in rows), strict=True)
    switch = steps.index(5)  # after the sixth step
    assert losses[-1] < 0.7 * losses[switch] < losses[switch] < losses[0]


def test_a_step_that_leads_astray_is_taken_back(tmp_path):
    wild = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e9"]
    states = []
    for steps in (2, 3):
        folder = run(tmp_path, *wild, f"--trainer.max_steps={steps}", name=f"steps-{steps}")
        checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        states.append(checkpoint["state_dict"])
    # What the first step led to is kept; the second one led astray, so the third ends there again.
    assert not torch.equal(states[0]["pixels"], states[0]["guard.picture"])
    assert torch.equal(states[1]["pixels"], states[1]["guard.picture"]) and torch.equal(
        states[0]["guard.picture"], states[1]["guard.picture"]
    )
    assert states[0]["guard.loss"] == states[1]["guard.loss"] < 1e6


def test_adam_optimises_as_well(tmp_path):
    words = ["--trainer.max_steps=10", "--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=0.02"]
    folder = run(tmp_path, *words)
    assert json.loads((folder / "summary.json").read_text())["metrics"]["test/style_left"] < 0.9


@pytest.mark.slow
def test_two_hundred_steps_leave_a_thousandth_of_the_style_loss(tmp_path):
    folder = run(tmp_path, "--trainer.max_steps=200", "--data.size=128")
    assert json.loads((folder / "summary.json").read_text())["metrics"]["test/style_left"] < 0.002
