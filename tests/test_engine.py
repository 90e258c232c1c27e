"""From a recipe to data, model and trainer: what values arrive, what is saved, and when a run saves itself."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys

import pytest
import yaml


@pytest.fixture
def built(tiny):
    """Builds a recipe with what is typed: ``built("tiny", "--model.width=3")``."""

    from dlmkit.engine import Allowed, build
    from dlmkit.recipe import read
    from dlmkit.verbs import quiet

    def give(name, *words, callbacks=(), trainer_options=None):
        return build(read(name, words), callbacks, Allowed(), trainer_options)

    with quiet():  # what a test trains by itself is as quiet as a run
        yield give


def values(engine, section="model"):
    return engine.config_values()[section]["init_args"]


# ---------- values that arrive


def test_what_is_typed_wins_over_the_recipe_which_wins_over_the_default(built, write):
    write("my.yaml", "extends: tiny\nmodel: {init_args: {width: 5, dropout: 0.5}}\n")
    args = values(built("my.yaml", "--model.width=6"))
    assert (args["width"], args["dropout"], args["bias"]) == (6, 0.5, True)


def test_values_reach_the_objects(built):
    engine = built("tiny", "--model.width=6", "--data.length=7", "--trainer.max_steps=11", "--seed_everything=5")
    assert engine.model.cell.hidden_size == 6
    assert engine.datamodule.length == 7
    assert engine.trainer.max_steps == 11
    assert engine.datamodule.seed == 5


def test_null_may_be_typed(built, write):
    write("my.yaml", "extends: tiny\nmodel: {init_args: {note: word, depths: [1]}}\n")
    args = values(built("my.yaml", "--model.note=null", "--model.depths=null"))
    assert (args["note"], args["depths"]) == (None, None)
    assert built("tiny", "--trainer.check_val_every_n_epoch=null").trainer.check_val_every_n_epoch is None


def test_the_data_tells_the_model_what_it_knows(built):
    engine = built("tiny", "--data.symbols=9")
    assert engine.links == ["vocab_size"]
    assert engine.model.embed.num_embeddings == 9
    assert values(engine)["vocab_size"] == 9


@pytest.mark.parametrize("option", ["--model.optimizer.lr=0.5", "--model.optimizer.init_args.lr=0.5"])
def test_an_option_of_the_optimiser(built, write, option):
    write("my.yaml", "model: tiny\ndata: beats\ntrainer: {max_steps: 1}\n")
    for name in ("tiny", "my.yaml"):
        optimizer = values(built(name, option))["optimizer"]
        assert optimizer["class_path"] == "torch.optim.AdamW"
        assert optimizer["init_args"]["lr"] == 0.5
        assert optimizer["init_args"]["weight_decay"] == 0.01


def test_another_optimiser_has_its_own_defaults(built, write):
    """Not those of the class that is the default: Adadelta's rate is 1.0, and it decays no weights."""
    write("my.yaml", "extends: tiny\nmodel: {init_args: {optimizer: {class_path: torch.optim.Adadelta}}}\n")
    for engine in (built("my.yaml"), built("tiny", "--model.optimizer=torch.optim.Adadelta")):
        args = values(engine)["optimizer"]["init_args"]
        assert (args["lr"], args["weight_decay"]) == (1.0, 0.0)
    made = built("my.yaml", "--model.optimizer.lr=0.5").model.optimizer([torch_parameter()])
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.5, 0.0)


@pytest.mark.parametrize(
    "words", [["--model.optimizer=Adam", "--model.optimizer.lr=0.5"], ["--model.optimizer={class_path: Adam}"]]
)
def test_an_optimiser_a_schedule_and_a_callback_without_their_modules(built, words):
    engine = built("tiny", *words, "--model.lr_scheduler={class_path: StepLR, init_args: {step_size: 3}}",
                   "--trainer.callbacks=[LearningRateMonitor]")  # fmt: skip
    written = values(engine)
    assert written["optimizer"]["class_path"] == "torch.optim.Adam"
    assert written["optimizer"]["init_args"]["lr"] == (0.5 if len(words) > 1 else 0.001)
    assert written["lr_scheduler"]["class_path"] == "torch.optim.lr_scheduler.StepLR"
    assert "LearningRateMonitor" in [type(c).__name__ for c in engine.trainer.callbacks]


def torch_parameter():
    import torch

    return torch.nn.Parameter(torch.zeros(1))


def test_the_commands_own_trainer_options_are_not_saved(built):
    engine = built("tiny", trainer_options={"fast_dev_run": 1})
    assert engine.trainer.fast_dev_run == 1
    assert engine.config_values()["trainer"]["fast_dev_run"] is False


def test_a_recipes_own_callbacks_and_loggers_are_kept(built):
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    callback = "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.LearningRateMonitor}]"
    logger = "--trainer.logger={class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: logs}}"
    trainer = built("tiny", callback, logger).trainer
    assert any(isinstance(c, LearningRateMonitor) for c in trainer.callbacks)
    assert [type(one) for one in trainer.loggers] == [CSVLogger]
    assert built("tiny").trainer.loggers == []


def test_building_twice_gives_the_same_network(built):
    first, second = (built("tiny", "--seed_everything=3").model.state_dict() for _ in range(2))
    other = built("tiny", "--seed_everything=4").model.state_dict()
    assert all(first[name].equal(second[name]) for name in first)
    assert not first["embed.weight"].equal(other["embed.weight"])


# ---------- the saved configuration


def test_the_saved_configuration_is_complete_and_plain_lightning_reads_it(built, train, monkeypatch):
    """With every option, what the data told the model among them; nothing of dlmkit is needed to read it."""
    from lightning.pytorch.cli import LightningCLI

    folder = train("tiny", "--data.symbols=7", "--model.width=3", "--model.lr_scheduler=dlmkit.WarmupCosine")
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    assert list(saved) == ["seed_everything", "trainer", "model", "data"]
    assert saved["model"]["class_path"] == "dlmkit_tiny.task.Tiny"
    args = saved["model"]["init_args"]
    assert set(args) == {
        *("vocab_size", "width", "dropout", "bias", "depths", "span", "note", "optimizer", "lr_scheduler"),
    }
    assert (args["vocab_size"], args["width"]) == (7, 3)
    assert args["optimizer"]["init_args"]["betas"] == [0.9, 0.999]
    assert args["lr_scheduler"]["init_args"] == {"warmup": 100, "floor": 0.0, "total_steps": None}
    assert set(saved["data"]["init_args"]) == {"symbols", "count", "length", "batch_size", "num_workers"}
    assert saved["trainer"]["use_distributed_sampler"] is False

    monkeypatch.setattr(sys, "argv", ["train.py"])
    cli = LightningCLI(args=["--config", str(folder / "config.yaml")], run=False, save_config_callback=None)
    assert type(cli.model).__name__ == "Tiny"
    assert (cli.model.embed.num_embeddings, cli.model.cell.hidden_size) == (7, 3)
    assert cli.datamodule.symbols == 7
    assert cli.trainer.max_steps == 8


def test_a_saved_configuration_is_a_recipe(train, refused):
    folder = train("tiny", "--model.width=3", name="first")
    again = train(folder / "config.yaml", name="second")
    assert (again / "config.yaml").read_text() == (folder / "config.yaml").read_text()
    longer = train(folder / "config.yaml", "--model.width=4", "--data.symbols=8", "--model.vocab_size=8", name="third")
    assert "width: 4" in (longer / "config.yaml").read_text()


# ---------- check


def test_check_leaves_nothing_behind(command, workplace):
    before = sorted(workplace.rglob("*"))
    outcome = command("check", "tiny", "--model.width=3")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("tiny is sound: one batch of training, validation and test in ")
    assert "untrained: test/loss " in outcome.out or "test/bits_per_character" in outcome.out
    assert sorted(workplace.rglob("*")) == before


def test_check_tells_every_fault(refused, write):
    write("my.yaml", "model: {class_path: tiny, init_args: {widht: 3, dropout: x}}\ndata: beats\n")
    lines = refused("check", "my.yaml")
    assert len(lines) == 2
    (line,) = refused("check")
    assert "what is to be checked?" in line


def test_check_tells_of_a_show_that_fails(refused, monkeypatch):
    from dlmkit_tiny.task import Tiny

    def show(task, batch):
        raise KeyError("nothing to show")

    monkeypatch.setattr(Tiny, "show", show)
    (line,) = refused("check", "tiny")
    assert re.match(r"\S+test_engine\.py:\d+: show of Tiny failed: KeyError: 'nothing to show'", line)


def test_check_tells_of_a_loss_that_is_no_number(refused, monkeypatch):
    from dlmkit_tiny.task import Tiny

    whole = Tiny.loss
    monkeypatch.setattr(Tiny, "loss", lambda task, batch: (whole(task, {**batch})[0] * float("inf"), {}))
    monkeypatch.setattr(Tiny, "training_step", lambda task, batch, index: None)
    (line,) = refused("check", "tiny")
    assert "test/loss is inf on the first batch" in line


def test_a_show_that_fails_costs_its_pictures_not_the_run(command, monkeypatch, tiny):
    from dlmkit_tiny.task import Tiny

    monkeypatch.setattr(Tiny, "show", lambda task, batch: {"words": None})
    outcome = command("run", "tiny", "--name", "first")
    assert outcome.code == 0
    assert outcome.out.count("show of Tiny failed: AttributeError") == 1
    assert (tiny / "runs" / "first" / "summary.json").is_file()


@pytest.mark.parametrize(("every", "steps"), [(1, ["0000004", "0000008"]), (2, ["0000004"])])
def test_show_at_a_chosen_pace(train, every, steps):
    folder = train("tiny", f"--show-every={every}")
    shown = sorted(path.stem.removeprefix("words-") for path in (folder / "media").glob("words-*"))
    assert shown == [*steps, "test"]


# ---------- when it is saved

SETTINGS = [
    {},
    {"val_check_interval": 4},
    {"val_check_interval": 0.25},
    {"val_check_interval": 3, "limit_train_batches": 7},
    {"val_check_interval": 0.5, "limit_train_batches": 5},
    {"limit_train_batches": 0.5},
    {"check_val_every_n_epoch": 2},
    {"check_val_every_n_epoch": 2, "val_check_interval": 5},
    {"check_val_every_n_epoch": None, "val_check_interval": 7},
    {"check_val_every_n_epoch": None, "val_check_interval": 15},
    {"check_val_every_n_epoch": None, "val_check_interval": 4, "limit_train_batches": 6},
    {"accumulate_grad_batches": 3},
    {"accumulate_grad_batches": 3, "val_check_interval": 4},
    {"limit_val_batches": 0},
    {"max_steps": 14},
]


@pytest.mark.parametrize("final", [False, True], ids=["", "final"])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()) or "defaults")
def test_a_validation_is_foreseen_and_nothing_is_saved_before_it(built, settings, final, tmp_path):
    """``validation_follows`` says what Lightning does; and the batches of an optimiser step are never torn apart.

    And a training ends with one validation, whatever the interval; what is saved before it is for longer runs.
    """
    from dlmkit_tiny.data import Beats
    from dlmkit_tiny.task import Tiny
    from lightning.pytorch import Callback, Trainer

    from dlmkit.callbacks.checkpoints import LastCheckpoint, validation_follows

    events = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
            done = (
                batch_idx + 1 == trainer.num_training_batches or (batch_idx + 1) % trainer.accumulate_grad_batches == 0
            )
            events.append(("batch", validation_follows(trainer, batch_idx), done))

        def on_validation_start(self, trainer, task):
            if not trainer.sanity_checking:
                events.append(("validation",))

    last = LastCheckpoint(pace=-1.0)
    if not final:
        last._ask_for_validation = lambda trainer: None
    last.path = tmp_path / "last.ckpt"
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    trainer = Trainer(**{"max_epochs": 3, "callbacks": [Watch(), last], **quiet, **settings})
    trainer.save_checkpoint = lambda path: events.append(("save",))
    trainer.fit(Tiny(vocab_size=6), Beats())

    foreseen = [event[1] for event in events if event[0] == "batch"]
    happened = []
    done = True
    if final and "limit_val_batches" not in settings:
        place = max(place for place, event in enumerate(events) if event[0] == "batch")
        validations = [event[0] for event in events[place:]].count("validation")
        assert validations == 1
        if not foreseen[-1]:  # and it is the last that happens
            assert events[place + 1 :] == [("save",), ("validation",)]
            events = events[: place + 1]
    for event, following in zip(events, [*events[1:], ("end",)], strict=True):
        if event[0] == "batch":
            happened.append(following[0] == "validation")
            done = event[2]
        if event[0] == "save":
            assert done, "in the middle of an accumulation"
            assert following[0] != "validation", "between a batch and its validation"
    assert foreseen == happened
    assert sum(happened) == sum(event[0] == "validation" for event in events)
    assert any(event[0] == "save" for event in events)
    if "limit_val_batches" not in settings:
        assert any(happened)


def test_checkpoints_keep_their_pace(built, tmp_path, monkeypatch):
    from dlmkit.callbacks import checkpoints

    clock = iter(range(0, 10_000, 4))
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: next(clock))
    last = checkpoints.LastCheckpoint(pace=10.0)
    last.path = tmp_path / "last.ckpt"
    engine = built("tiny", callbacks=[last], trainer_options={"max_steps": 10, "limit_val_batches": 0})
    steps = []
    engine.trainer.save_checkpoint = lambda path: steps.append(engine.trainer.global_step)
    engine.trainer.fit(engine.model, engine.datamodule)
    assert len(steps) == len(set(steps)), "the same step is not saved twice"
    assert 2 <= len(steps) <= 5
    assert steps[-1] == 10


# ---------- the data


def test_validation_and_test_are_the_same_batches_every_time(built, monkeypatch):
    from dlmkit_tiny.data import Beats

    seen = []
    whole = Beats.batch

    def batch(data, split, epoch, index, rank, world):
        seen.append((split, epoch, index))
        return whole(data, split, epoch, index, rank, world)

    monkeypatch.setattr(Beats, "batch", batch)
    engine = built("tiny", "--trainer.max_steps=25", "--trainer.val_check_interval=1.0")
    engine.trainer.fit(engine.model, engine.datamodule)
    engine.trainer.test(engine.model, engine.datamodule, verbose=False)
    assert [position for position in seen if position[0] == "train"][:25] == [
        ("train", n // 10, n % 10) for n in range(25)
    ]
    assert {epoch for split, epoch, _ in seen if split != "train"} == {0}


def test_a_batch_must_divide_among_the_processes(built):
    from types import SimpleNamespace

    from dlmkit.errors import UserError

    data = built("tiny").datamodule
    data.trainer = SimpleNamespace(global_rank=0, world_size=3, num_training_batches=10)
    with pytest.raises(UserError, match="a batch of 4 does not divide among 3 processes; give a multiple of 3"):
        data.train_dataloader()


def test_every_training_batch_draws_its_own_numbers(built):
    import random
    from types import SimpleNamespace

    import numpy as np
    import torch

    from dlmkit.callbacks.seeding import Seeding

    built("tiny", "--seed_everything=7")

    def draw(epoch, batch, rank=0):
        Seeding().on_train_batch_start(SimpleNamespace(current_epoch=epoch, global_rank=rank), None, None, batch)
        return (torch.rand(1).item(), np.random.rand(), random.random())

    first = draw(0, 0)
    torch.rand(5)
    assert draw(0, 0) == first
    others = [draw(0, 1), draw(1, 0), draw(0, 0, rank=1)]
    for place in range(3):
        assert len({numbers[place] for numbers in [first, *others]}) == 4


def test_the_table_of_figures_has_a_column_for_methods_that_it_shows():
    from dlmkit.screen import figures_table

    baselines = {"test/loss": {"as it is": 2.0, "nearest": 1.0}, "val/loss": {"guessing": 3.0}}
    table = figures_table("Net", {"test/accuracy": 0.5, "test/loss": 0.25}, baselines, "test/loss")
    assert [column.header for column in table.columns] == ["", "Net", "nearest", "as it is"]
    assert [list(column.cells) for column in table.columns[1:]] == [["0.250", "0.500"], ["1.000", ""], ["2.000", ""]]


def test_many_methods_are_lines_so_that_no_name_is_cut_off():
    from rich.console import Console

    from dlmkit.screen import figures_table

    names = ["independent pixels", "independent pixels by class", "two neighbours", "training pictures", "one class"]
    baselines = {"test/nats": {name: 100.0 + place for place, name in enumerate(names)}}
    metrics = {"test/bits_per_dimension": 1.5, "test/nats": 73.5}
    table = figures_table("Net", metrics, baselines, "test/nats")
    assert [column.header for column in table.columns] == ["", "test/nats", "test/bits per dimension"]
    assert [list(column.cells) for column in table.columns] == [
        ["Net", *names],
        ["73.500", "100.000", "101.000", "102.000", "103.000", "104.000"],
        ["1.500", *[""] * 5],
    ]
    console = Console(width=80)
    with console.capture() as printed:
        console.print(table)
    assert "…" not in printed.get()


# ---------- progress


def test_a_log_gets_a_line_each_tenth_and_each_minute_with_the_time_left(monkeypatch, capsys):
    from types import SimpleNamespace

    from dlmkit import screen

    now = 0.0
    monkeypatch.setattr(screen.time, "monotonic", lambda: now)
    trainer = SimpleNamespace(
        global_step=0, estimated_stepping_batches=1000, is_global_zero=True, callback_metrics={},
        progress_bar_metrics={"train/loss": 1.0},
        enable_validation=True, lightning_module=None,
    )  # fmt: skip
    line = screen.ProgressLine()
    line.on_train_start(trainer, None)
    for step, second in ((50, 30), (90, 61), (95, 70), (100, 75), (200, 80), (1000, 90)):
        trainer.global_step, now = step, float(second)
        line.on_train_batch_end(trainer, None, None, None, 0)
    assert [row.strip() for row in capsys.readouterr().out.splitlines()] == [
        "step 90/1000  train/loss 1.000  1.5 steps/s  10 min left",
        "step 100/1000  train/loss 1.000  1.3 steps/s  11 min left",
        "step 200/1000  train/loss 1.000  2.5 steps/s  5 min left",
    ]


# ---------- memory

_PAGES = """
import resource, torch
from dlmkit.engine import keep_freed_memory
keep_freed_memory()
torch.ones(1 << 23)  # 32 MiB, and free again
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
def test_memory_that_is_freed_is_used_again_unless_the_user_has_a_say():
    def pages(**environment):
        plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run([sys.executable, "-c", _PAGES], env=plain | environment, capture_output=True, text=True)
        return int(done.stdout)

    once = (32 << 20) // resource.getpagesize()
    assert pages() < 3 * once
    assert pages(MALLOC_TRIM_THRESHOLD_="131072") > 10 * once


def test_l_bfgs_and_the_loss_scale_of_float16_are_refused_together(built, monkeypatch):
    from types import SimpleNamespace

    from lightning.pytorch import Trainer

    from dlmkit.errors import UserError

    monkeypatch.setattr(Trainer, "precision_plugin", SimpleNamespace(scaler=object()))  # as with 16-mixed on a GPU
    with pytest.raises(UserError, match="the loss scale of float16 forbids; give bf16-mixed, or another optimizer"):
        built("tiny", "--model.optimizer=LBFGS")
    built("tiny")
