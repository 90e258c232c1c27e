"""A run that is stopped at any moment goes on from its folder and ends as if it had never stopped."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest
import torch

OPTIONS = ["--model.dropout=0.2", "--trainer.max_steps=18", "--trainer.val_check_interval=5"]


class Killed(BaseException):
    """As if the process had been killed: nobody may catch it."""


@pytest.fixture
def at(monkeypatch):
    """Does something when a step of training, or the n-th batch of a validation, begins."""
    from dlmkit_tiny.task import Tiny

    def arrange(step, action, where="training_step"):
        whole = getattr(Tiny, where)
        calls = []

        def replaced(task, batch, index):
            if not task.trainer.sanity_checking:
                calls.append(task.trainer.global_step if where == "training_step" else len(calls))
                if calls[-1] == step and step not in calls[:-1]:
                    action()
            return whole(task, batch, index)

        monkeypatch.setattr(Tiny, where, replaced)

        def disarm():
            monkeypatch.setattr(Tiny, where, whole)

        return disarm

    return arrange


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where a run that nobody stops is kept for several tests."""
    return tmp_path_factory.mktemp("kept") / "whole"


@pytest.fixture
def whole(train, kept):
    """A run that nobody stops."""
    if not kept.exists():
        shutil.copytree(train("tiny", *OPTIONS, name="whole"), kept)
    return kept


def press(number=signal.SIGINT):
    return lambda: signal.raise_signal(number)


def die():
    raise Killed


def same_end(one, two, weights):
    """The same weights, bit for bit, and the same figures."""
    for name, tensor in weights(one).items():
        assert tensor.equal(weights(two)[name]), name
    assert figures(one / "metrics.csv") == figures(two / "metrics.csv")
    ends = [json.loads((folder / "summary.json").read_text()) for folder in (one, two)]
    for end in ends:
        del end["seconds"], end["epochs"]
    assert ends[0] == ends[1]


def figures(path):
    """The lines of a metrics file; where the test stands does not matter.

    A run that had nothing left to train has not counted on, so its test bears the number of the step before.
    """
    head, *lines = path.read_text().splitlines()
    tested = [head.split(",").index(name) for name in head.split(",") if name.startswith("test/")]
    rows = [line.split(",") for line in lines]
    return [head, *(row[2:] if any(row[place] for place in tested) else row for row in rows)]


# ---------- signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_run_after_the_batch(command, tiny, at, number, code):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    at(6, press(number))
    outcome = command("run", "tiny", *OPTIONS, "--name", "stopped", "--allow", "some_package")
    assert outcome.code == code
    assert outcome.err == ""
    *_, said, following = outcome.out.splitlines()
    assert said == "stopped at step 7; runs/stopped holds everything"
    assert re.match(r"next +dlmkit run --resume runs/stopped --allow some_package +go on from there$", following)
    summary = json.loads((tiny / "runs" / "stopped" / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("interrupted", 7)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_memory_that_runs_out(command, train, at, whole, weights, tiny):
    """One line says how the run goes on, and it does."""

    def run_out():
        torch.empty(2**50)

    disarm = at(7, run_out)
    outcome = command("run", "tiny", *OPTIONS, "--name", "full")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert line.startswith(
        "dlmkit: the memory of this machine is full: 4.19e+06 GiB more were asked for; give a smaller"
    )
    assert line.endswith("; dlmkit run --resume runs/full goes on from step 5")
    disarm()
    same_end(train("--resume", "runs/full"), whole, weights)


def test_a_disk_that_gets_full(command, train, whole, weights, monkeypatch, tiny):
    """The checkpoint from before is whole, and the run goes on from it; nothing unfinished is left."""
    from dlmkit.callbacks import checkpoints

    saved, sync, write = [], os.fsync, checkpoints.write_whole

    def counted(path, content):
        saved.append(path)
        write(path, content)

    def full(file):
        if len(saved) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        patch.setattr(checkpoints, "write_whole", counted)
        patch.setattr(tempfile, "mkstemp", lambda *args, **kwargs: pytest.fail("on another file system, maybe"))
        outcome = command("run", "tiny", *OPTIONS, "--name", "full")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert re.match(r"dlmkit: runs/full/checkpoints/\w+\.ckpt: there is no room left on the disk; make room", line)
    assert re.search(r"; dlmkit run --resume runs/full goes on from step \d+$", line)
    assert {path.name for path in (tiny / "runs/full/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    same_end(train("--resume", "runs/full"), whole, weights)


def test_signals_are_handed_back_after_a_run(train):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    train("tiny")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_signal_asked_twice_stops_at_once(command, at):
    at(6, lambda: [signal.raise_signal(signal.SIGINT) for _ in range(2)])
    outcome = command("run", "tiny", *OPTIONS)
    assert (outcome.code, outcome.err) == (130, "dlmkit: stopped\n")


def test_a_signal_before_the_first_checkpoint(command, at, tiny):
    at(0, press(), where="validation_step")
    outcome = command("run", "tiny", *OPTIONS, "--trainer.val_check_interval=1", "--name", "early")
    assert outcome.code == 130
    assert "stopped before the first checkpoint" in outcome.out
    assert json.loads((tiny / "runs" / "early" / "summary.json").read_text())["steps"] is None


# Validations follow batches 5 and 10, where an epoch ends too, 15 and 20; sanity checking has two batches.
STOPS = {
    "in the middle": (6, "training_step"),
    "before a validation": (14, "training_step"),
    "after a validation": (5, "training_step"),
    "at the end of an epoch": (9, "training_step"),
    "at the beginning of an epoch": (10, "training_step"),
    "at the first batch": (0, "training_step"),
    "at the last batch": (17, "training_step"),
    "in a validation": (3, "validation_step"),
}


@pytest.mark.parametrize("moment", STOPS)
def test_a_stopped_run_ends_as_the_whole_one(command, train, at, whole, weights, workplace, moment):
    disarm = at(STOPS[moment][0], press(), STOPS[moment][1])
    outcome = command("run", "tiny", *OPTIONS, "--name", "stopped")
    assert outcome.code == 130, outcome
    disarm()
    same_end(train("--resume", "runs/stopped"), whole, weights)


@pytest.mark.parametrize("moment", ["in the middle", "after a validation", "at the beginning of an epoch"])
def test_a_killed_run_ends_as_the_whole_one(command, train, at, whole, weights, moment):
    """The last checkpoint is an older one, and nothing was tidied up."""
    disarm = at(STOPS[moment][0], die)
    with pytest.raises(Killed):
        command("run", "tiny", *OPTIONS, "--name", "killed")
    disarm()
    same_end(train("--resume", "runs/killed"), whole, weights)


def test_a_run_killed_between_any_two_batches(command, train, at, whole, weights, monkeypatch):
    """A checkpoint after each batch, as a slow run has them; killed in the middle of the next."""
    from dlmkit.callbacks.checkpoints import LastCheckpoint

    monkeypatch.setattr(LastCheckpoint.__init__, "__defaults__", (0.0,))
    for step in (3, 9, 10, 16):
        disarm = at(step, die)
        with pytest.raises(Killed), contextlib.redirect_stdout(None):
            words = ["--resume", "runs/killed"] if step > 3 else ["tiny", *OPTIONS, "--name", "killed"]
            command("run", *words)
        disarm()
    same_end(train("--resume", "runs/killed"), whole, weights)


WAYS = {
    "validation over epochs": (["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=7"], 8),
    "accumulated gradients": (["--trainer.accumulate_grad_batches=3"], 5),
    "a schedule of the run's length": (
        ["--model.lr_scheduler=dlmkit.WarmupCosine", "--model.lr_scheduler.warmup=4"],
        8,
    ),
    "a schedule of steps": (
        ["--model.lr_scheduler={class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 3, gamma: 0.5}}"],
        8,
    ),
    "a schedule that waits for a plateau": (
        [
            "--model.lr_scheduler={class_path: lightning.pytorch.cli.ReduceLROnPlateau, init_args: {monitor: val/loss,"
            " patience: 0, threshold: 10, factor: 0.5}}",
            "--trainer.val_check_interval=1.0",
        ],
        10,
    ),
    "loaded ahead by another process": (["--data.num_workers=1"], 8),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_train_can_be_killed(command, train, at, weights, way):
    options, step = [*OPTIONS, *WAYS[way][0]], WAYS[way][1]
    whole = train("tiny", *options, name="whole")
    disarm = at(step, die)
    with pytest.raises(Killed):
        print(command("run", "tiny", *options, "--name", "killed"))
    disarm()
    same_end(train("--resume", "runs/killed"), whole, weights)


def test_stopped_in_the_test_the_run_is_finished_by_resuming(command, train, at, whole, weights, monkeypatch):
    from dlmkit_tiny.task import Tiny

    with monkeypatch.context() as patch:
        patch.setattr(Tiny, "test_step", lambda task, batch, index: signal.default_int_handler(2, None))
        outcome = command("run", "tiny", *OPTIONS, "--name", "stopped")
    assert (outcome.code, outcome.err) == (130, "dlmkit: stopped\n")
    same_end(train("--resume", "runs/stopped"), whole, weights)


def test_the_text_of_a_run_is_resumed_with_its_tokenizer(command, train, at, prose, weights):
    options = ["--data=characters", f"--data.source={prose}", "--data.batch_size=2", "--data.length=8", *OPTIONS]
    whole = train("tiny", *options, name="whole")
    disarm = at(7, press())
    assert command("run", "tiny", *options, "--name", "stopped").code == 130
    disarm()
    same_end(train("--resume", "runs/stopped"), whole, weights)
    assert (whole / "tokenizer.json").read_bytes() == (whole.parent / "stopped" / "tokenizer.json").read_bytes()


# ---------- a real process

FORBIDDEN = ("Warning", "warning", "Tip", "GPU available", "TPU", "Trainer.fit", "litlogger", "Seed set", "deprecat")

TWICE = """
import sys
from dlmkit.cli import main

print("ended with", main(["run", "tiny", *{options!r}, "--name", "stopped"]), flush=True)
sys.exit(main(["run", "--resume", "runs/stopped"]))
"""


def wait_for(process, folder, step):
    """Wait until a run has trained to a step, as its figures tell."""
    deadline = time.monotonic() + 120
    metrics = folder / "metrics.csv"
    while not (metrics.is_file() and metrics.read_text().count("\n") > step):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_that_is_interrupted_and_resumed(train, tiny, site, weights):
    """A real signal to a real process; and all that is shown on the screen is ours."""
    options = ["--model.dropout=0.2", "--trainer.max_steps=100", "--trainer.val_check_interval=10", "--show-every=100"]
    command = [sys.executable, "-c", TWICE.format(options=options)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path]), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )
    try:
        whole = train("tiny", *options, name="whole")
        wait_for(process, tiny / "runs" / "stopped", 15)
        process.send_signal(signal.SIGINT)
        screen = process.communicate(timeout=120)[0]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, screen
    assert re.search(r"\nnext +dlmkit run --resume runs/stopped +go on from there\nended with 130\n", screen)
    assert not [word for word in FORBIDDEN if word in screen], screen
    assert re.match(r"next +dlmkit ", screen.rstrip().splitlines()[-1])
    same_end(tiny / "runs" / "stopped", whole, weights)


@pytest.mark.parametrize("batches", [5, 7, 30])
def test_processes_agree_on_stopping_after_every_ten_batches_however_long_an_epoch_is(batches):
    from types import SimpleNamespace

    from dlmkit.callbacks.checkpoints import Interrupted, LastCheckpoint

    asked = []
    strategy = SimpleNamespace(
        reduce_boolean_decision=lambda stop, all: asked.append(stop) or stop, broadcast=lambda due: due
    )
    logger = SimpleNamespace(update_train_step_metrics=lambda: None)
    known = {"max_steps": -1, "max_epochs": -1, "current_epoch": 0, "global_step": 0, "should_stop": False}
    known |= {"val_check_batch": None, "check_val_every_n_epoch": 1}
    trainer = SimpleNamespace(
        **known,
        world_size=2,
        strategy=strategy,
        accumulate_grad_batches=1,
        num_training_batches=batches,
        enable_validation=False,
        _logger_connector=logger,
    )
    last = LastCheckpoint()
    for number in range(40):
        last.on_train_batch_end(trainer, None, None, None, number % batches)
    assert asked == [False] * 4
    last._asked(signal.SIGINT, None)
    with pytest.raises(Interrupted):
        for number in range(10):
            last.on_train_batch_end(trainer, None, None, None, number % batches)
