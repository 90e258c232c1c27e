"""Networks that take turns: steps, gradients, clipping, accumulation, processes, and going on after a stop."""

from __future__ import annotations

import copy
import itertools
import json
from types import SimpleNamespace

import pytest
import torch

from dlmkit.errors import UserError

SGD = '--model.optimizer={"class_path":"torch.optim.SGD","init_args":{"lr":1.0}}'


@pytest.fixture
def rivals(tiny):
    from dlmkit_tiny.rivals import Rivals

    torch.manual_seed(0)
    return Rivals()


def points(count=4):
    return {"point": torch.randn(count, 2, generator=torch.Generator().manual_seed(3))}


@pytest.fixture
def fit(tiny):
    """Trains in this process: ``fit("--trainer.max_steps=4", callbacks=...)`` gives the task."""

    def give(*words, callbacks=()):
        from dlmkit import recipe as recipes
        from dlmkit.engine import build
        from dlmkit.verbs import quiet

        with quiet():
            options = {"default_root_dir": str(tiny)}
            engine = build(recipes.read("rivals", words), tuple(callbacks), trainer_options=options)
            engine.trainer.fit(engine.model, engine.datamodule)
        return engine.model

    return give


def watcher(**hooks):
    from lightning.pytorch import Callback

    return type("Watcher", (Callback,), {k: staticmethod(v) for k, v in hooks.items()})()


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


# ---------- a step is a round


@pytest.mark.parametrize(
    ("words", "batches", "steps"),
    [
        (["--trainer.max_steps=7"], 7, 7),
        (["--trainer.max_steps=3", "--trainer.accumulate_grad_batches=5"], 15, 3),
        (["--trainer.max_steps=7", "--model.generator_every=3"], 7, 7),
        (["--trainer.max_steps=-1", "--trainer.max_epochs=1", "--trainer.accumulate_grad_batches=4"], 10, 3),
    ],
)
def test_max_steps_counts_rounds(fit, words, batches, steps):
    seen = []
    task = fit(*words, callbacks=[watcher(on_train_batch_end=lambda *_: seen.append(1))])
    assert (len(seen), task.trainer.global_step) == (batches, steps)


def test_the_generator_takes_its_turn_once_in_so_many_rounds(fit):
    moved = {"generator": [], "discriminator": []}
    before = {}

    def remember(trainer, task, *_):
        before.update({name: state(getattr(task, name)) for name in moved})

    def compare(trainer, task, *_):
        for name, steps in moved.items():
            if not same(before[name], state(getattr(task, name))):
                steps.append(trainer.global_step - 1)

    fit(
        "--trainer.max_steps=7",
        "--model.generator_every=3",
        callbacks=[watcher(on_train_batch_start=remember, on_train_batch_end=compare)],
    )
    assert moved == {"generator": [0, 3, 6], "discriminator": list(range(7))}


@pytest.mark.parametrize("further", [[], ["--model.generator_every=2"]])
def test_schedules_go_by_rounds(fit, further):
    """Also that of a network whose turn it is not."""
    words = ["--trainer.max_steps=8", "--trainer.accumulate_grad_batches=2", "--model.lr_scheduler=dlmkit.WarmupCosine"]
    task = fit(*words, "--model.lr_scheduler.warmup=2", *further)
    assert [s.last_epoch for s in task.lr_schedulers()] == [8, 8]
    assert [s.total_steps for s in task.lr_schedulers()] == [8, 8]
    assert all(group["lr"] == 0 for o in task.optimizers() for group in o.param_groups)


STEPS = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 2, "gamma": 0.5}}


def test_each_network_has_an_optimiser_and_a_schedule_of_its_own(fit):
    """The generator's stands still and has no schedule; the discriminator's moves and has one."""
    started = {}
    remember = watcher(on_train_start=lambda trainer, task: started.update(state(task)))
    still, own = SGD.replace("1.0", "0.0"), SGD.replace("model.optimizer", "model.discriminator_optimizer")
    words = [still, own, f"--model.discriminator_lr_scheduler={json.dumps(STEPS)}", "--trainer.max_steps=3"]
    task = fit(*words, callbacks=[remember])
    rates = [optimizer.param_groups[0]["lr"] for optimizer in task.optimizers()]
    assert rates == [0.5, 0.0]  # the discriminator comes first
    for name in ("discriminator", "generator"):
        before = {key: value for key, value in started.items() if key.startswith(f"{name}.")}
        assert same(before, task.state_dict()) == (name == "generator")
    task = fit(SGD, f"--model.lr_scheduler={json.dumps(STEPS)}", "--trainer.max_steps=3")
    assert [optimizer.param_groups[0]["lr"] for optimizer in task.optimizers()] == [0.5, 0.5]


def test_one_network_may_be_alone(train, fit, weights, monkeypatch):
    """With a schedule, also over a stop; the other network is not touched."""
    from dlmkit_tiny.rivals import Rivals

    both = Rivals.players
    monkeypatch.setattr(Rivals, "players", lambda self: {"generator": both(self)["generator"]})
    words = ["--model.lr_scheduler=dlmkit.WarmupCosine", "--model.lr_scheduler.total_steps=6"]
    whole = train("rivals", "--trainer.max_steps=6", *words, name="whole")
    part = train("rivals", "--trainer.max_steps=3", *words, name="part")
    train("--resume", part, "--trainer.max_steps=6")
    assert same(weights(whole), weights(part))
    started = {}
    remember = watcher(on_train_start=lambda trainer, task: started.update(state(task)))
    task = fit(*words, "--trainer.max_steps=2", callbacks=[remember])
    moved = {
        name.partition(".")[0] for name, value in task.state_dict().items() if not torch.equal(value, started[name])
    }
    assert moved == {"generator"} and task.trainer.global_step == 2


def test_a_schedule_that_waits_for_a_plateau_is_refused(command):
    plateau = '{"class_path":"lightning.pytorch.cli.ReduceLROnPlateau","init_args":{"monitor":"val/loss"}}'
    outcome = command("run", "rivals", f"--model.lr_scheduler={plateau}")
    assert outcome.code == 2 and "a schedule that waits for a plateau has none" in outcome.err


def test_somebody_must_take_a_turn_in_every_round(rivals):
    players = {name: SimpleNamespace(every=2) for name in ("one", "two")}
    rivals.players = lambda: players
    with pytest.raises(UserError, match="no network is updated in every round; let one have every=1"):
        rivals.configure_optimizers()
    with pytest.raises(UserError, match="generator_every is 0; give at least 1"):
        type(rivals)(generator_every=0)


# ---------- whose gradient


def test_a_turn_leaves_the_other_network_as_it_is(fit):
    """After each backward pass only one network has gradients, and only its parameters were asked for them."""
    seen = []

    def look(trainer, task):
        networks = {name: list(getattr(task, name).parameters()) for name in ("generator", "discriminator")}
        own = {name for name, ps in networks.items() if any(p.grad is not None for p in ps)}
        asked = {name for name, ps in networks.items() if ps[0].requires_grad}
        seen.append((own, asked))

    fit("--trainer.max_steps=2", callbacks=[watcher(on_after_backward=look)])
    turn = [({"discriminator"}, {"discriminator"}), ({"generator"}, {"generator"})]
    assert seen == turn * 2


@pytest.mark.parametrize("group", [1, 2])
def test_a_step_changes_its_own_network_and_no_other(fit, group):
    """Bit by bit, around every step of an optimiser; between the steps nothing changes at all."""
    seen = []

    def look(trainer, task):
        networks = {name: getattr(task, name) for name in ("discriminator", "generator")}

        def note(*_):
            seen.append({name: state(network) for name, network in networks.items()})

        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(note)
            optimizer.register_step_post_hook(note)

    fit("--trainer.max_steps=3", f"--trainer.accumulate_grad_batches={group}", callbacks=[watcher(on_train_start=look)])
    assert len(seen) == 3 * 2 * 2
    for index, (before, after) in enumerate(itertools.pairwise(seen)):
        own = ("discriminator", None, "generator", None)[index % 4]
        assert [name for name in before if not same(before[name], after[name])] == ([own] if own else [])


def test_a_step_is_the_step_of_the_paper(fit):
    """One round with plain gradient descent, computed by hand from the same points and the same noise."""
    started = {}

    def remember(trainer, task, batch, *_):
        started.update(task=copy.deepcopy(torch.nn.ModuleDict(dict(task.named_children()))), batch=batch)

    task = fit(SGD, "--trainer.max_steps=1", callbacks=[watcher(on_train_batch_start=remember)])
    hand, batch = started["task"], started["batch"]
    for draws, name in enumerate(("discriminator", "generator")):
        made = hand["generator"](expected_noise(0, draws))
        if name == "discriminator":
            real, fake = (
                torch.sigmoid(hand["discriminator"](batch["point"])),
                torch.sigmoid(hand["discriminator"](made)),
            )
            loss = -(real.log() + (1 - fake).log()).mean()
        else:
            loss = -torch.sigmoid(hand["discriminator"](made)).log().mean()
        network = hand[name]
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= gradient
    for name, value in task.state_dict().items():
        torch.testing.assert_close(value, hand.state_dict()[name], rtol=1e-5, atol=1e-6)


def expected_noise(batch_idx, draws, epoch=0, seed=1, count=4):
    import numpy as np

    word = int(np.random.SeedSequence((seed, epoch, batch_idx, draws)).generate_state(1)[0])
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(word))


def test_processes_draw_together_what_one_draws(rivals):
    def drawn(rank, world, count):
        rivals._trainer = SimpleNamespace(
            world_size=world,
            global_rank=rank,
            current_epoch=2,
            training=True,
            state=SimpleNamespace(status="running"),
        )
        rivals._begin(5)
        return [rivals.noise(count, 3) for _ in range(2)]

    whole, first, second = drawn(0, 1, 6), drawn(0, 2, 3), drawn(1, 2, 3)
    for one, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(one, torch.cat([a, b]))
    assert not torch.equal(*whole)
    rivals._trainer = None


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_the_gradient_of_each_network_is_clipped_by_itself(fit, algorithm):
    sizes = []

    def look(trainer, task, optimizer):
        sizes.append(1)

    words = [SGD, "--trainer.max_steps=1", "--trainer.gradient_clip_val=0.001"]
    started = {}
    task = fit(
        *words,
        f"--trainer.gradient_clip_algorithm={algorithm}",
        callbacks=[watcher(on_train_start=lambda t, m: started.update(state(m)), on_before_optimizer_step=look)],
    )
    assert len(sizes) == 2 and task.trainer.gradient_clip_val == 0.001
    for name in ("generator", "discriminator"):
        moved = [task.state_dict()[k] - v for k, v in started.items() if k.startswith(name)]
        if algorithm == "norm":
            assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(0.001, rel=1e-3)
        else:
            assert max(m.abs().max().item() for m in moved) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("scaled", [False, True])
def test_accumulated_gradients_are_those_of_the_whole_group(fit, scaled):
    """Two batches of four in one step are one batch of eight, as both losses are means over examples.

    A loss scale, as fp16 has it, grows here at every update, and must not grow between the players of a step.
    """
    from dlmkit_tiny.rivals import Points

    found, start = [], []

    def keep(trainer, task, optimizer):
        found.append([p.grad.clone() for group in optimizer.param_groups for p in group["params"]])

    def remember(trainer, task):
        start.append(copy.deepcopy([task.discriminator, task.generator]))

    def scale(trainer, task):
        if scaled:
            trainer.precision_plugin.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)

    looking = watcher(on_before_optimizer_step=keep, on_train_start=remember, on_fit_start=scale)
    words = ["--trainer.precision=bf16-mixed"] if scaled else []
    task = fit("--trainer.max_steps=1", "--trainer.accumulate_grad_batches=2", *words, callbacks=[looking])
    assert not scaled or task.trainer.precision_plugin.scaler.get_scale() == 4
    ((critic, maker),) = start
    real = torch.cat([Points().batch("train", 0, index, 0, 1)["point"] for index in range(2)])
    made = [maker(torch.cat([expected_noise(index, draws) for index in range(2)])) for draws in range(2)]
    softplus = torch.nn.functional.softplus
    losses = (
        (softplus(-critic(real)).mean() + softplus(critic(made[0].detach())).mean(), critic),
        (softplus(-critic(made[1])).mean(), maker),
    )
    for gradients, (loss, network) in zip(found, losses, strict=True):
        expected = list(torch.autograd.grad(loss, list(network.parameters())))
        torch.testing.assert_close(gradients, expected, **({"rtol": 0.1, "atol": 0.01} if scaled else {}))


def test_gradients_are_unscaled_before_they_are_clipped(fit):
    """A loss scale of 1024 beside a limit of 0.01: clipped before, the steps would be a thousand times too short."""
    start, moved = [], []

    def scale(trainer, task):
        trainer.precision_plugin.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        start.append(copy.deepcopy([task.discriminator, task.generator]))

    words = ["--trainer.precision=bf16-mixed", "--trainer.max_steps=1", "--trainer.gradient_clip_val=0.01"]
    task = fit(*words, SGD, "--model.optimizer.lr=1", callbacks=[watcher(on_fit_start=scale)])
    for before, now in zip(start[0], (task.discriminator, task.generator), strict=True):
        steps = [one - other for one, other in zip(now.parameters(), before.parameters(), strict=True)]
        moved.append(torch.cat([step.flatten() for step in steps]).norm().item())
    assert moved == pytest.approx([0.01, 0.01], rel=0.02)


def test_mixed_precision(fit):
    started = {}
    remember = watcher(on_train_start=lambda trainer, task: started.update(state(task)))
    words = ["--trainer.precision=bf16-mixed", "--trainer.max_steps=3", "--trainer.gradient_clip_val=1"]
    seen = set()

    def look(trainer, task, batch, batch_idx):
        for network in (task.discriminator, task.generator):
            network.register_forward_hook(lambda module, given, made: seen.add(made.dtype))

    task = fit(*words, callbacks=[remember, watcher(on_train_batch_start=look)])
    assert seen == {torch.bfloat16}
    for name, parameter in task.named_parameters():
        assert torch.isfinite(parameter).all() and not torch.equal(parameter, started[name]), name


# ---------- runs


@pytest.mark.parametrize("further", [[], ["--trainer.accumulate_grad_batches=2"], ["--model.generator_every=2"]])
def test_a_resumed_run_ends_like_an_uninterrupted_one(train, weights, further):
    schedule = ["--model.lr_scheduler=dlmkit.WarmupCosine", "--model.lr_scheduler.warmup=2"]
    adam = "--model.lr_scheduler.total_steps=8"
    whole = train("rivals", "--trainer.max_steps=8", *schedule, adam, *further, name="whole")
    part = train("rivals", "--trainer.max_steps=3", *schedule, adam, *further, name="part")
    train("--resume", part, "--trainer.max_steps=8")
    assert same(weights(whole), weights(part))
    checkpoints = [torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (whole, part)]
    for one, other in zip(*(c["optimizer_states"] for c in checkpoints), strict=True):
        assert all(torch.equal(one["state"][k]["exp_avg_sq"], other["state"][k]["exp_avg_sq"]) for k in one["state"])


def test_a_run_of_epochs_is_resumed_in_the_midst_of_one(train, command, weights):
    """Its schedule counts the epochs' batches, for which Lightning makes the loader before it knows where to go on."""
    words = ["--trainer.max_steps=-1", "--trainer.max_epochs=2", "--model.lr_scheduler=dlmkit.WarmupCosine", SGD]
    whole = train("rivals", *words, name="whole")
    stop = "--trainer.callbacks=[{class_path: dlmkit.testing.probes.Stop, init_args: {after: 14}}]"
    assert command("run", "rivals", *words, stop, "--name", "part").code == 130
    part = whole.parent / "part"
    train("--resume", part, "--trainer.callbacks=[]")
    assert same(weights(whole), weights(part))


def test_what_is_typed_when_a_run_is_resumed_is_of_its_own_optimiser(train, command, rows):
    own = SGD.replace("model.optimizer", "model.discriminator_optimizer").replace("1.0", "0.25")
    part = train("rivals", SGD, own, "--trainer.max_steps=3", name="part")
    groups = {}
    for words, rates in (([], [0.25, 1.0]), (["--model.optimizer.lr=0.5"], [0.25, 0.5])):
        steps = 5 + len(groups)
        train("--resume", part, *words, f"--trainer.max_steps={steps}")
        states = torch.load(part / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]
        groups[steps] = [each["param_groups"][0]["lr"] for each in states]
        assert groups[steps] == rates
    train("--resume", part, "--model.discriminator_optimizer.lr=0.125", "--trainer.max_steps=9")
    states = torch.load(part / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]
    assert [each["param_groups"][0]["lr"] for each in states] == [0.125, 0.5]
    outcome = command("run", "--resume", part, "--model.discriminator_optimizer=Adam", "--trainer.max_steps=11")
    assert outcome.code == 2 and "the run was trained with torch.optim.SGD, not torch.optim.Adam" in outcome.err


def test_a_discriminator_s_optimiser_that_cannot_be_made(command, tiny):
    wrong = '--model.discriminator_optimizer={"class_path":"torch.optim.Adam","init_args":{"betas":[2.0,0.9]}}'
    outcome = command("run", "rivals", wrong)
    assert outcome.code == 2 and "discriminator_optimizer cannot be made: Invalid beta" in outcome.err
    assert not (tiny / "runs").exists() or not any((tiny / "runs").iterdir())


AVERAGED = "--trainer.callbacks+={class_path: dlmkit.GeneratorAveraging, init_args: {decay: 0.5}}"


def test_the_generator_is_averaged_and_nothing_else(fit):
    """By hand, after each of four steps; what the trained task ends with is the average."""
    steps, validated = [], []

    def look(trainer, task, *_):
        steps.append(state(task))

    def validate(trainer, task, *_):
        validated.append(state(task))

    words = [SGD, AVERAGED, "--trainer.max_steps=4", "--trainer.val_check_interval=4"]
    task = fit(*words, callbacks=[watcher(on_train_batch_end=look, on_validation_batch_end=validate)])
    averages = steps[0]
    for step in steps[1:]:
        averages = {name: (averages[name] + step[name]) / 2 for name in step}
    for found in (task.state_dict(), validated[-1]):
        for name, value in found.items():
            expected = averages if name.startswith("generator.") else steps[-1]
            torch.testing.assert_close(value, expected[name])
    assert any(not torch.equal(averages[name], steps[-1][name]) for name in averages if name.startswith("generator."))


def test_a_resumed_average_is_that_of_an_uninterrupted_run(train):
    whole = train("rivals", "--trainer.max_steps=8", AVERAGED, "--trainer.gradient_clip_val=0.5", name="whole")
    part = train("rivals", "--trainer.max_steps=3", AVERAGED, "--trainer.gradient_clip_val=0.5", name="part")
    train("--resume", part, "--trainer.max_steps=8")
    one, other = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (whole, part))
    for kept in ("state_dict", "current_model_state", "averaging_state"):
        assert one[kept] and same(one[kept], other[kept]), kept
    assert not same(one["state_dict"], one["current_model_state"])


def test_what_is_tested_after_a_training_is_the_average(train, monkeypatch):
    """Lightning would take the last weights: of a callback that has an average in hand it restores both."""
    from dlmkit_tiny.rivals import Rivals

    tested = []
    monkeypatch.setattr(Rivals, "on_test_start", lambda self: tested.append(state(self)), raising=False)
    for averaged in (AVERAGED, AVERAGED.replace("dlmkit.Generator", "lightning.pytorch.callbacks.EMAWeight")):
        folder = train("rivals", averaged, "--trainer.max_steps=8", SGD)
        best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
        assert same(tested[-1], best["state_dict"]) and not same(tested[-1], best["current_model_state"])


def test_a_training_that_ends_early_keeps_the_weights_beside_the_average(train):
    early = "{class_path: EarlyStopping, init_args: {monitor: train/generator_loss, stopping_threshold: 1000.0, "
    words = [f"--trainer.callbacks+={early}check_on_train_epoch_end: true}}}}", "--trainer.limit_val_batches=0"]
    folder = train("rivals", AVERAGED, *words, "--trainer.max_steps=40")
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 10 and not same(last["state_dict"], last["current_model_state"])


@pytest.mark.parametrize(
    ("options", "words"),
    [("decay: 1.0", "decay is 1.0; give at least 0 and less than 1"), ("network: maker", "no network called maker")],
)
def test_an_average_that_cannot_be_taken(command, options, words):
    callback = f"--trainer.callbacks+={{class_path: dlmkit.GeneratorAveraging, init_args: {{{options}}}}}"
    outcome = command("run", "rivals", callback)
    assert outcome.code == 2 and words in outcome.err


def test_every_loss_is_logged_and_a_broken_one_is_told(train, command, rows, monkeypatch):
    folder = train("rivals", "--trainer.log_every_n_steps=1")
    known = {name for row in rows(folder / "metrics.csv") for name, value in row.items() if value}
    assert {"train/generator_loss", "train/discriminator_loss", "train/passed", "test/loss", "test/passed"} <= known
    from dlmkit_tiny.rivals import Rivals

    monkeypatch.setattr(Rivals, "generator_loss", lambda self, batch: self.made(batch).sum() * float("nan"))
    outcome = command("run", "rivals")
    assert outcome.code == 2 and "the generator loss is nan at step" in outcome.err


@pytest.mark.parametrize("further", [(), ("--trainer.accumulate_grad_batches=2",)], ids=["each", "in groups"])
def test_two_real_processes_train_to_the_weights_of_one(tiny, monkeypatch, further):
    from dlmkit_tiny.rivals import Rivals

    from dlmkit.testing import process_checks
    from dlmkit.testing.subject import Subject

    monkeypatch.setattr(Rivals, "conformance_options", (*Rivals.conformance_options, *further))
    with Subject("rivals") as subject:
        assert "one run folder, weights equal to" in str(process_checks.two_real_processes(subject))
