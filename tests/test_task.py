"""What every task inherits: figures that do not depend on batches or processes, schedules, carried state, sampling."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from dlmkit.errors import UserError
from dlmkit.schedules import WarmupCosine


@pytest.fixture
def task(tiny):
    from dlmkit_tiny.task import Tiny

    torch.manual_seed(0)
    return Tiny(vocab_size=6).double()


def batch(inputs, reset):
    """One batch of streams: every token is followed by the next of its row."""
    return {
        "input": inputs[:, :-1],
        "target": inputs[:, 1:],
        "reset": torch.tensor(reset),
        "characters": torch.full((len(inputs),), inputs.shape[1] - 1),
    }


def streams(rows=3, size=13, seed=0):
    return torch.randint(6, (rows, size), generator=torch.Generator().manual_seed(seed))


# ---------- several processes


@pytest.mark.parametrize("counts", [[4, 4], [1, 5], [7, 2, 3]])
def test_a_process_weighs_as_many_items_as_it_has(task, monkeypatch, counts):
    """The mean over processes of what each one's mean is multiplied with is the mean over all items."""
    draw = torch.Generator().manual_seed(1)
    losses = [torch.rand(count, generator=draw, dtype=torch.double) for count in counts]
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: len(counts))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda total: total.fill_(float(sum(counts))))
    parts = [task._share(count) * part.mean() for count, part in zip(counts, losses, strict=True)]
    assert sum(parts) / len(parts) == pytest.approx(torch.cat(losses).mean().item())


def test_one_process_weighs_one(task):
    assert task._share(7) == 1.0


def test_what_a_loss_is_the_mean_of(task):
    tokens = streams()
    assert task.count(batch(tokens, [True] * 3)) == 3 * 12
    assert task.count({"image": torch.zeros(5, 2, 2), "label": torch.zeros(5)}) == 5


def test_figures_of_unequal_batches_are_means_over_items(train, command, tiny, monkeypatch):
    """Two batches of validation, one longer than the other, weigh as their tokens do."""
    import json

    from dlmkit_tiny.data import Beats
    from dlmkit_tiny.task import Tiny

    whole, evaluate = Beats.batch, Tiny.loss
    seen = []

    def shorter(data, split, epoch, index, rank, world):
        got = whole(data, split, epoch, index, rank, world)
        if split != "test" or index == 0:
            return got
        return {
            **{name: got[name][:, :2] for name in ("input", "target")},
            **{"reset": got["reset"], "characters": torch.full_like(got["characters"], 2)},
        }

    def loss(task, batch):
        out = evaluate(task, batch)
        if not task.training:
            seen.append((out[0].item(), batch["target"].numel()))
        return out

    monkeypatch.setattr(Beats, "batch", shorter)
    monkeypatch.setattr(Tiny, "loss", loss)
    metrics = json.loads((train("tiny", "--trainer.limit_val_batches=0") / "summary.json").read_text())["metrics"]
    (first, many), (second, few) = seen[-2:]
    assert (many, few) == (20, 8)
    assert metrics["test/loss"] == pytest.approx((first * many + second * few) / (many + few))
    assert metrics["test/bits_per_character"] == pytest.approx(metrics["test/loss"] / math.log(2))


def test_noise_of_a_test_is_the_same_each_time(command, train, monkeypatch):
    from dlmkit_tiny.task import Tiny

    whole, drawn = Tiny.loss, []

    def loss(task, batch):
        numbers = [task.noise(4, 2) for _ in range(2)]
        drawn.append((task.trainer.state.stage.value, torch.stack(numbers)))
        return whole(task, batch)

    monkeypatch.setattr(Tiny, "loss", loss)
    folder = train("tiny", "--trainer.max_epochs=2", "--trainer.max_steps=-1")
    assert command("test", folder).code == 0
    tests, training = ([d for stage, d in drawn if stage == name] for name in ("test", "train"))
    assert len(tests) == 4 and torch.equal(torch.stack(tests[:2]), torch.stack(tests[2:]))
    assert not torch.equal(tests[0], tests[1]) and not torch.equal(tests[0][0], tests[0][1])
    assert not torch.equal(training[0], training[len(training) // 2])  # the second epoch's


def test_a_task_without_samples_says_so():
    from dlmkit import Task

    class Silent(Task):
        def loss(self, batch):
            return torch.zeros(())

    with pytest.raises(UserError, match="Silent generates nothing; look at the run's media folder"):
        Silent().sample()
    assert Silent().show({}) == {}


def test_a_task_must_have_a_loss():
    from dlmkit import Task

    with pytest.raises(TypeError, match="loss"):
        Task()


# ---------- schedule


def rates(total, warmup, floor, steps, base=0.5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    schedule = WarmupCosine(optimizer, warmup=warmup, floor=floor, total_steps=total)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("total", "warmup", "floor"), [(20, 5, 0.0), (20, 5, 0.1), (10, 0, 0.0), (3, 8, 0.5), (9, 9, 0)]
)
def test_warmup_and_cosine(total, warmup, floor):
    for step, rate in enumerate(rates(total, warmup, floor, 24)):
        if step < warmup:
            expected = (step + 1) / warmup
        else:
            done = min(1, (step - warmup) / max(1, total - warmup))
            expected = floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
        assert rate == pytest.approx(0.5 * expected), step


def test_landmarks_of_the_schedule():
    seen = rates(total=24, warmup=4, floor=0.2, steps=30, base=1.0)
    assert seen[0] == 0.25, "not zero at the first step"
    assert seen[3] == 1.0
    assert seen[14] == pytest.approx(0.6), "half way down"
    assert seen[24:] == [pytest.approx(0.2)] * 6
    assert rates(total=None, warmup=2, floor=0.0, steps=4, base=1.0) == [0.5, 1.0, 1.0, 1.0]


def test_a_schedules_state_is_its_place_not_its_curve():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    old = WarmupCosine(optimizer, warmup=2, total_steps=8)
    for _ in range(4):
        optimizer.step()
        old.step()
    new = WarmupCosine(optimizer, warmup=2, total_steps=100)
    new.load_state_dict(old.state_dict())
    assert (new.last_epoch, new.total_steps) == (4, 100)


@pytest.mark.parametrize(
    ("options", "total"),
    [
        (["--trainer.max_steps=12"], 12),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=3"], 30),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=3", "--trainer.accumulate_grad_batches=4"], 9),
        (["--model.lr_scheduler.total_steps=5"], 5),
    ],
)
def test_a_schedule_is_as_long_as_the_run(train, monkeypatch, options, total):
    from dlmkit_tiny.task import Tiny

    made = []
    whole = Tiny.configure_optimizers
    monkeypatch.setattr(Tiny, "configure_optimizers", lambda task: made.append(whole(task)) or made[-1])
    train("tiny", "--model.lr_scheduler=dlmkit.WarmupCosine", "--model.lr_scheduler.warmup=3", *options)
    (settings,) = made
    assert settings["lr_scheduler"]["interval"] == "step"
    assert settings["lr_scheduler"]["scheduler"].total_steps == total


def test_a_schedule_that_waits_for_a_plateau(train):
    """It sees every validation, not every epoch; the learning rate halves where the loss did not fall enough."""
    plateau = "lightning.pytorch.cli.ReduceLROnPlateau"
    schedule = f"{{class_path: {plateau}, init_args: {{monitor: val/loss, patience: 0, threshold: 9, factor: 0.5}}}}"
    folder = train("tiny", f"--model.lr_scheduler={schedule}", "--trainer.max_steps=12")
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.01 / 4
    assert state["lr_schedulers"][0]["last_epoch"] == 2


# ---------- carried state


def test_two_batches_in_sequence_are_one_long_pass(task):
    tokens = streams()
    task.eval()
    logits, (state,) = task(tokens[:, :-1])
    first, carried = task(tokens[:, :6])
    second, (end,) = task(tokens[:, 6:-1], carried)
    torch.testing.assert_close(torch.cat([first, second], 1), logits)
    torch.testing.assert_close(end, state)
    whole = task.loss(batch(tokens, [True] * 3))[0]
    parts = [task.loss(batch(tokens[:, :7], [True] * 3))[0], task.loss(batch(tokens[:, 6:], [False] * 3))[0]]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_no_gradient_reaches_back_into_the_batch_before(task):
    task.train()
    task.loss(batch(streams(seed=1), [True] * 3))
    (state,) = task._states[True]
    assert not state.requires_grad
    task.loss(batch(streams(seed=2), [False] * 3)).backward()


def test_a_reset_forgets_the_flagged_streams_only(task):
    task.eval()
    before, after = streams(seed=1), streams(seed=2)
    task.loss(batch(before, [True] * 3))
    (kept,) = task._carried(torch.tensor([False, True, False]))
    (carried,) = task._states[False]
    assert carried.abs().min() > 0
    assert kept[:, 1].eq(0).all()
    assert kept[:, [0, 2]].equal(carried[:, [0, 2]])
    mixed = task(after[:, :-1], (kept,))[0]
    torch.testing.assert_close(mixed[[1]], task(after[[1], :-1])[0])
    torch.testing.assert_close(mixed[[0, 2]], task(after[[0, 2], :-1], (carried[:, [0, 2]].contiguous(),))[0])


def test_training_and_validation_carry_states_of_their_own(task):
    task.train()
    task.loss(batch(streams(seed=1), [True] * 3))
    (trained,) = task._states[True]
    task.eval()
    task.loss(batch(streams(seed=2), [True] * 3))
    assert task._states[True][0] is trained
    assert not task._states[False][0].equal(trained)


def test_another_number_of_streams_starts_anew(task):
    task.eval()
    task.loss(batch(streams(rows=3), [True] * 3))
    assert task._carried(torch.tensor([False] * 2)) is None


def test_bits_per_character_are_those_of_the_text(task):
    """A token may stand for several characters."""
    task.eval()
    given = batch(streams(), [True] * 3)
    given["characters"] = torch.tensor([10, 20, 30])
    loss, metrics = task.loss(given)
    bits, characters = metrics["bits_per_character"]
    assert characters == 60
    assert bits.item() == pytest.approx(loss.item() * 36 / 60 / math.log(2))


def test_the_state_of_the_streams_is_in_the_checkpoint(train):
    folder = train("tiny", "--trainer.max_steps=7", "--trainer.limit_val_batches=0")
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (streams,) = checkpoint["streams"]
    assert streams.shape == (1, 4, 8)
    assert streams.abs().sum() > 0


def test_each_process_takes_up_its_own_streams(task):
    whole = torch.arange(24.0).view(1, 6, 4)
    for rank in range(3):
        task._trainer = SimpleNamespace(global_rank=rank, world_size=3)
        task.on_load_checkpoint({"streams": (whole,)})
        assert task._states[True][0].equal(whole[:, 2 * rank : 2 * rank + 2])


# ---------- sampling


@pytest.fixture
def written(train, prose):
    """A run on a text."""
    return train("tiny", "--data=characters", "--data.batch_size=2", "--data.length=8", f"--data.source={prose}")


def test_sampling_needs_the_run_alone(command, refused, written, prose, tiny):
    prose.unlink()
    outcome = command("sample", written, "--prompt", "the ", "-n", 2, "--length", 30, "--temperature", 0.5)
    assert outcome.code == 0, outcome
    first, second = outcome.out.rstrip("\n").split("\n" + "─" * 20 + "\n")
    assert first.startswith("the ")
    assert (len(first), len(second)) == (34, 34)
    again = command("sample", written, "--prompt=the ", "-n=2", "--length=30", "--temperature=0.5")
    assert again.out == outcome.out
    assert command("sample", written, "--prompt=the ", "-n=2", "--length=30", "--seed=2").out != outcome.out
    last = command("sample", written, "--checkpoint", written / "checkpoints" / "last.ckpt", "--length=5")
    assert last.code == 0

    (line,) = refused("sample", written, "--prompt=the xylophone")
    assert line.startswith("--prompt: the prompt holds 'l' 'p' 'x' 'y', which the training text did not")
    (line,) = refused("sample", written, "--prompt=")
    assert line.startswith("--prompt: the prompt is empty")
    (line,) = refused("sample", written, "--lenght=3")
    assert line == "--lenght is no option of Tiny's sample; did you mean length?"
    (line,) = refused("sample", written, "--length=long")
    assert "--length is 'long'" in line
    assert "a whole number" in line
    (line,) = refused("sample", written, "-n", 0)
    assert line.startswith("-n is 0; ")
    (line,) = refused("sample", written, "--length=-1")
    assert "length is -1" in line
    (line,) = refused("sample", written, "--temperature=-1")
    assert line == "--temperature: temperature is -1.0; give at least 0"


def test_text_that_is_not_there_or_too_short(refused, write):
    (line,) = refused("run", "tiny", "--data=characters", "--data.source=nowhere.txt")
    assert "nowhere.txt" in line
    write("short.txt", "too short")
    (line,) = refused("run", "tiny", "--data=characters", "--data.source=short.txt")
    assert "training split has" in line


def test_near_zero_the_likeliest_is_taken(task):
    task.eval()
    prompt = streams(rows=2, size=4)
    out = task.generate(prompt, length=6, temperature=0.0)
    assert out.shape == (2, 10)
    assert out[:, :4].equal(prompt)
    for position in range(4, 10):
        assert out[:, position].equal(task(out[:, :position])[0][:, -1].argmax(-1)), "as without a carried state"


def test_draws_follow_the_models_own_distribution(task):
    task.eval()
    prompt = torch.zeros(4000, 1, dtype=torch.int64)
    drawn = task.generate(prompt, length=1, temperature=1.0)[:, 1].bincount(minlength=6) / 4000
    expected = task(prompt[:1])[0][0, -1].softmax(-1)
    torch.testing.assert_close(drawn.double(), expected, atol=0.03, rtol=0)
    assert task.generate(prompt, 3, seed=5).equal(task.generate(prompt, 3, seed=5))


def test_the_first_step_of_a_longer_run_is_taken_at_the_rate_of_its_own_curve():
    from dlmkit import WarmupCosine

    def made(steps):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        return optimizer, WarmupCosine(optimizer, warmup=1, total_steps=steps)

    optimizer, schedule = made(4)
    for _ in range(4):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0
    longer, resumed = made(8)
    longer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    rate = 2 * resumed.factor(4)
    assert longer.param_groups[0]["lr"] == resumed.get_last_lr()[0] == pytest.approx(rate) and rate > 1


def test_counts_keep_their_fraction_over_several_processes(tiny, monkeypatch):
    """Lightning takes the mean of the processes' counts, and cuts that of whole numbers: of 1 and 2 items it is 1."""
    from dlmkit_tiny.task import Tiny

    seen = []
    monkeypatch.setattr(Tiny, "log", lambda task, name, value, batch_size, **options: seen.append(batch_size))
    Tiny(vocab_size=3)._log_metrics("val", {"loss": torch.tensor(0.25), "share": (torch.tensor(0.5), 7)}, 3)
    assert seen == [3.0, 7.0] and all(isinstance(count, float) for count in seen)
