"""What a run of the command does: complete, repeatable, resumable, and good for samples afterwards."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from lightning.pytorch.cli import LightningCLI
from torch import Tensor

from dlmkit.data.module import DataModule
from dlmkit.errors import UserError
from dlmkit.tasks.adversarial import Adversarial
from dlmkit.testing.check import Unsuitable, check, short, tell
from dlmkit.testing.package_checks import place
from dlmkit.testing.probes import Killed
from dlmkit.testing.subject import BATCHES, VALIDATION, Outcome, Show, Subject, recipe_callbacks

__all__ = ["difference", "recipe_trains", "resumes_exactly", "same_seed_same_result", "samples_from_checkpoint"]

_FILES = ("config.yaml", "recipe.yaml", "provenance.json", "metrics.csv", "checkpoints/last.ckpt", "summary.json")
_COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")
_OTHERS = {"epoch", "loops", "callbacks", "pytorch-lightning_version", "hyper_parameters", "hparams_name"}
_STATE = "what training carries from step to step belongs into buffers, or into on_save_checkpoint and its counterpart"
_POSITION = "let the data module be a dlmkit.DataModule: the position of another's loader is not in the checkpoint"
_DRAWS = "draw random numbers from torch, NumPy or random only, and in a data module from self.seed, epoch and index"

# After how many batches, whether as by a power cut, and how to call it. A power cut after a validation is survived by
# the checkpoint that was written with its outcome.
_STOPS = (
    (VALIDATION - 1, False, "within an epoch"),
    (BATCHES, False, "on the last batch of an epoch"),
    (VALIDATION, True, "right after a validation"),
)


@check("the default recipe trains, and its run folder is complete")
def recipe_trains(subject: Subject) -> str:
    """Look at the recipe, at what the command did with it, and at what is in the folder."""
    name, recipe = subject.entry.name, subject.recipe
    lines = recipe.text.splitlines()
    if not lines or not lines[0].startswith("#") or f"dlmkit run {name}" not in lines[0]:
        remedy = f"let its first line be: # dlmkit run {name}, and the next ones say the paper and what to expect"
        raise UserError("the recipe does not begin with its command", remedy, f"{recipe.path.name}:1")
    folder, outcome = subject.reference
    missing = [file for file in _FILES if not (folder / file).is_file()]
    if missing:
        remedy = "a task or callback of its own must not keep the command from writing them"
        raise UserError(f"the run folder lacks {', '.join(missing)}", remedy, recipe.path.name)
    tell([*_warning_faults(subject, outcome), *_figure_faults(subject, folder)])
    _read_plainly(folder / "config.yaml")
    seconds = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["seconds"]
    return f"{seconds:.1f} s"


def _warning_faults(subject: Subject, outcome: Outcome) -> Iterator[UserError]:
    for file, message in dict.fromkeys(outcome.warned):
        if subject.package in Path(file).parts:
            yield UserError(
                f"a run warns: {message}", "mend what it warns of; a first run's screen is clean", short(file)
            )


def _figure_faults(subject: Subject, folder: Path) -> Iterator[UserError]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    where = place(subject.task_type)
    logged = {name for row in rows for name, value in row.items() if value}
    if issubclass(subject.task_type, Adversarial) and any(re.fullmatch("train/.+_loss", name) for name in logged):
        logged.add("train/loss")  # each of its networks has a loss of its own
    for name in ("train/loss", "val/loss"):
        if name not in logged:
            yield UserError(f"{name} is not logged", "let dlmkit.Task do the steps, or log it in yours", where)
    for row in rows:
        for name, value in row.items():
            if value and not math.isfinite(float(value)):
                remedy = "look for a log of 0 or a division by 0, and lower the recipe's learning rate"
                yield UserError(f"{name} is {value} at step {row['step']}", remedy, where)


class _Plain(LightningCLI):
    def instantiate_classes(self) -> None:
        """Nothing: whether it can be read is the question."""


def _read_plainly(path: Path) -> None:
    """Read a saved configuration as LightningCLI without dlmkit does."""
    try:
        _Plain(
            args=["--config", str(path)], run=False, save_config_callback=None, parser_kwargs={"exit_on_error": False}
        )
    except Exception as error:
        text = " ".join(str(error).split())
        remedy = "give the options types that jsonargparse can write and read again"
        raise UserError(f"plain LightningCLI does not read the saved configuration: {text}", remedy) from error


@check("the same seed gives the same weights, another seed others")
def same_seed_same_result(subject: Subject) -> None:
    """Compare runs; the second and third show nothing, so it also matters whether showing leaves a trace."""
    folder, _ = subject.reference
    where = place(subject.task_type)
    if found := difference(folder, _finished(subject, "again")):
        if difference(folder, _finished(subject, "again-shown", show="once")):
            raise UserError(f"two runs with the same seed differ in {found}", _DRAWS, where)
        remedy = "let show leave no state in the task that training goes on with"
        raise UserError(f"showing changes the training: it differs in {found}", remedy, where)
    seed = int(subject.recipe.config.get("seed_everything", 1)) + 1
    if difference(folder, _finished(subject, "other-seed", f"--seed_everything={seed}")) is None:
        raise UserError("another seed gives the same weights", "remove the seed that is set in the code", where)


@check("a run that was stopped anywhere and resumed ends with the weights of one that was not")
def resumes_exactly(subject: Subject) -> str:
    """Stop runs in three places, resume each, and compare how they end."""
    folder, _ = subject.reference
    where = place(subject.task_type)
    remedy = _STATE if issubclass(subject.data_type, DataModule) else _POSITION
    faults = []
    for after, kill, text in _STOPS:
        if found := difference(folder, _resumed(subject, after, kill)):
            what = f"stopped {text} (after batch {after}) and resumed, the run ends with another {found}"
            faults.append(UserError(what, remedy, where))
    if faults and difference(folder, _finished(subject, "once-more")):
        raise UserError("even a run that is not stopped does not end the same", _DRAWS, where)
    tell(faults)
    return f"stopped in {len(_STOPS)} places"


@check("it generates from the checkpoint alone, the same with the same seed")
def samples_from_checkpoint(subject: Subject) -> str:
    """Sample twice while the data module cannot be made."""
    from dlmkit.tasks.task import Task

    if getattr(subject.task_type, "sample", Task.sample) is Task.sample:
        raise Unsuitable("it generates nothing")
    folder, _ = subject.reference
    where = place(subject.task_type)
    first, second = (_sampled(subject, folder, subject.folder / name) for name in ("samples", "samples-again"))
    if not any(text.strip() for text in first):
        raise UserError("sample returns nothing", "return media, at least one", where)
    if first != second:
        remedy = "give sample an option seed: int = 1, and draw from torch.Generator().manual_seed(seed)"
        raise UserError("sampling twice with the same seed gives different samples", remedy, where)
    return f"{sum(map(len, first)):,} bytes"


def _sampled(subject: Subject, run: Path, out: Path) -> list[bytes]:
    """What one sampling gives: the files it wrote, then the text it printed."""

    def gone(*args: Any, **kwargs: Any) -> None:
        remedy = "take what sampling needs of the data into the checkpoint, with on_save_checkpoint"
        raise UserError("sampling makes the data module", remedy, place(subject.task_type))

    with mock.patch.object(subject.data_type, "__init__", gone):
        outcome = subject.command("sample", str(run), "--out", str(out)).expect(0)
    written = sorted(out.iterdir()) if out.is_dir() else []
    printed = [line for line in outcome.output.splitlines() if not written or str(out) not in line]
    return [file.read_bytes() for file in written] + ["\n".join(printed).encode()]


def _finished(subject: Subject, name: str, *words: str, show: Show = "never") -> Path:
    subject.run(name, *words, show=show).expect(0)
    return subject.folder / "runs" / name


def _resumed(subject: Subject, after: int, kill: bool) -> Path:
    name = f"stopped-{after}"
    folder = subject.folder / "runs" / name
    stop = {"class_path": "dlmkit.testing.probes.Stop", "init_args": {"after": after, "kill": kill}}
    with contextlib.suppress(Killed):
        subject.run(name, recipe_callbacks(subject.recipe, stop)).expect(130)
    subject.command("run", "--resume", str(folder), recipe_callbacks(subject.recipe)).expect(0)
    return folder


def difference(one: Path, other: Path) -> str | None:
    """What differs between the ends of two runs.

    Args:
        one: A run folder.
        other: Another one.

    Returns:
        The first parameter or state that is not equal bit for bit and by how much; None if all are. What a task keeps
        in the checkpoint itself belongs to it, but for single floats, which may be clocks.
    """
    from dlmkit.engine import read_checkpoint

    a, b = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (one, other))
    own = sorted((a.keys() | b.keys()) - _OTHERS - set(_COMPARED))  # what the task keeps
    keys = [*_COMPARED, *(key for key in own if not isinstance(a.get(key), float))]  # such as a clock's seconds
    return next((text for key in keys for text in _differences(a.get(key), b.get(key), key)), None)


def _differences(a: Any, b: Any, name: str) -> Iterator[str]:
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        for key in a:
            yield from _differences(a[key], b[key], f"{name}.{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        for position, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differences(x, y, f"{name}.{position}")
    elif isinstance(a, Tensor) and isinstance(b, Tensor):
        if a.shape != b.shape:
            yield f"{name}: {tuple(a.shape)} and {tuple(b.shape)}"
        elif not torch.equal(a, b):
            yield f"{name}, by up to {(a.double() - b.double()).abs().max().item():.2g}"
    elif isinstance(a, Tensor) or isinstance(b, Tensor) or a != b:
        yield f"{name}: {a!r} and {b!r}"
