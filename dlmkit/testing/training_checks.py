"""What a task does when it is trained: gradients, fitting, saving, showing."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from dlmkit import recipe as recipes
from dlmkit.errors import UserError
from dlmkit.media import Animation, Audio, Figure, Image, Media, Table, Text
from dlmkit.testing.check import check, tell
from dlmkit.testing.package_checks import place
from dlmkit.testing.probes import Losses
from dlmkit.testing.subject import STEPS, Subject

__all__ = ["gradient_reaches_every_parameter", "media_are_made", "overfits_one_batch", "saves_and_reloads"]

_SHARE = 0.5
_PATIENCE = 300
_SILENCE = 1e-4  # of full scale


@check("the loss has a gradient for every parameter")
def gradient_reaches_every_parameter(subject: Subject) -> str:
    """Look at the gradients of the first steps."""
    engine, seen = subject.trained
    names = [name for name, parameter in engine.model.named_parameters() if parameter.requires_grad]
    where = place(subject.task_type)
    unused = [n for n in names if n not in seen.used]
    zero = [n for n in names if n in seen.used and n not in seen.reached | seen.broken]
    faults = []
    if not names:
        faults.append(UserError("there is no parameter to train", "make the network in __init__", where))
    if unused:
        remedy = "use it in the loss, or remove it"
        faults.append(UserError(f"the loss does not use {_listed(unused)}", remedy, where))
    if zero:
        remedy = "look for a detach(), argmax or rounding on the way, or for units that never fire"
        faults.append(UserError(f"the gradient of {_listed(zero)} is zero in {STEPS} steps", remedy, where))
    if broken := [n for n in names if n in seen.broken]:
        remedy = "look for a log or a root of 0, or a division by 0, in the loss"
        faults.append(UserError(f"the gradient of {_listed(broken)} is not finite", remedy, where))
    tell(faults)
    return f"{len(names)} parameter tensors"


@check(f"with the recipe's optimiser the loss on one batch falls below {100 * _SHARE:.0f} % of its start")
def overfits_one_batch(subject: Subject) -> str:
    """Train on a single batch, again and again, at a constant learning rate."""
    losses = Losses(_SHARE)
    words = ["--trainer.limit_train_batches=1.0", "--trainer.limit_val_batches=0", f"--trainer.max_steps={_PATIENCE}"]
    engine = subject.build(*words, callbacks=(losses,))
    task: Any = engine.model
    task.lr_scheduler = None  # a warm-up or a decay belongs to a run of the recipe's length
    data: Any = engine.datamodule
    batch = first_batch(data, "train")
    data.train_dataloader = lambda: DataLoader([batch] * _PATIENCE, batch_size=None)  # type: ignore[arg-type]
    engine.trainer.fit(task, data)
    if not losses.values:
        remedy = 'self.log("train/loss", …) in the training step, or return the loss from it'
        raise UserError("the training step tells no loss", remedy, place(subject.task_type))
    if not losses.values[-1] < losses.goal:  # nor if it is nan
        what = f"the loss on one batch went from {losses.values[0]:.4g} to {losses.values[-1]:.4g} in {_PATIENCE} steps"
        remedy = "check that targets fit the output, that activations do not saturate, and the recipe's learning rate"
        raise UserError(what, remedy, str(subject.recipe.path.name))
    return f"{losses.values[0]:.3g} to {losses.values[-1]:.3g} in {len(losses.values)} steps"


@check("a checkpoint put into a fresh task gives the same loss, bit for bit")
def saves_and_reloads(subject: Subject) -> None:
    """Save after a few steps; build the task from the saved configuration alone and load."""
    from dlmkit.engine import load_checkpoint, load_task

    engine, _ = subject.trained
    path, config = subject.folder / "saved.ckpt", subject.folder / "saved.yaml"
    engine.trainer.save_checkpoint(path)
    config.write_text(engine.config_text(), encoding="utf-8")
    fresh = load_task(recipes.from_config(config, subject.entry.name))
    where = place(subject.task_type)
    try:
        load_checkpoint(fresh, path)
    except UserError as error:
        remedy = "keep only tensors, numbers, words, lists and mappings in it, and make every parameter in __init__"
        raise UserError(error.what, remedy, where) from error
    batch = first_batch(engine.datamodule, "val")
    before, after = evaluate(engine.model, batch), evaluate(fresh, batch)
    if not torch.equal(before, after):
        what = f"the loss is {before.item():.6g} before saving and {after.item():.6g} after loading"
        remedy = "what the network learns besides parameters goes into buffers, or into on_save_checkpoint"
        raise UserError(what, remedy, where)


@check("what it shows is there to see, to hear and to read")
def media_are_made(subject: Subject) -> str:
    """Look at what the run of the recipe has shown of its first validation batch, and into the files."""
    where = place(subject.task_type)
    if not callable(getattr(subject.task_type, "show", None)):
        raise UserError("there is no show method", "write show(self, batch), which returns media by name", where)
    folder, _ = subject.reference
    shown = subject.shown
    if isinstance(shown, Exception):
        raise shown
    if not shown:
        remedy = "return at least one dlmkit.Figure, Image, Audio, Table or Text by name from show"
        raise UserError("show returns nothing to look at", remedy, where)
    found = {name: media_fault(name, item, folder / "media") for name, item in dict(shown).items()}
    tell([UserError(f"{name} of show {fault}", remedy, where) for name, (fault, remedy) in found.items() if fault])
    return ", ".join(f"{name} ({type(item).__name__})" for name, item in shown.items())


def media_fault(name: str, item: Any, folder: Path) -> tuple[str, str]:
    """What is wrong with one thing that a task shows, and what helps; two empty words if nothing is.

    Args:
        name: What the task calls it.
        item: What it returned.
        folder: Where a run has written it, or else where to write it.
    """
    if not isinstance(item, Media):
        return f"is a {type(item).__name__}", "wrap it: dlmkit.Figure(…), Image, Audio, Table or Text"
    if not isinstance(name, str) or Path(name).name != name:
        return "cannot name a file", "use letters, digits, - and _"
    file = next(iter(sorted(folder.glob(f"{glob.escape(name)}-*{item.suffix}"))), None) or item.save(folder, name)
    if not file.is_file() or not file.stat().st_size:
        return "writes no file", f"mend the write method of {type(item).__name__}"
    if isinstance(item, (Image, Figure)):
        return _picture_fault(item, file)
    if isinstance(item, Animation):
        return _animation_fault(item)
    if isinstance(item, Audio):
        return _sound_fault(item)
    if isinstance(item, Text) and not item.text.strip():
        return "is empty", "show what the network writes"
    if isinstance(item, Table) and not item.rows:
        return "has no rows", "give rows"
    return "", ""


def _picture_fault(item: Image | Figure, file: Path) -> tuple[str, str]:
    from matplotlib import image

    # A picture of its own may well be black and white; a drawn figure with two colours is a frame at most.
    if _colours(np.asarray(image.imread(file))) < (2 if isinstance(item, Image) else 3):
        return "is blank", "look at the range of what is drawn: pixels are in [0, 1], or uint8"
    if isinstance(item, Figure) and not any(ax.has_data() or ax.texts for ax in item.figure.axes):
        return "has only empty axes", "draw into them"
    return "", ""


def _animation_fault(item: Animation) -> tuple[str, str]:
    if len(item.frames) < 2:
        return "has one frame only", "show it when there are more, or an Image"
    last = np.asarray(item.frames[-1])
    if _colours(last.reshape(*last.shape[:2], -1)) < 2:
        return "ends with a blank frame", "look at the range of what is drawn: pixels are in [0, 1], or uint8"
    return "", ""


def _colours(pixels: NDArray[Any]) -> int:
    """How many colours a picture (H, W, C) has, counted no further than 3."""
    rest = pixels.reshape(-1, pixels.shape[2])
    for found in range(3):
        if not len(rest):
            return found
        rest = rest[(rest != rest[0]).any(axis=1)]
    return 3


def _sound_fault(item: Audio) -> tuple[str, str]:
    wave = np.asarray(item.wave, dtype=np.float64)
    if not np.isfinite(wave).all():
        return "holds numbers that are not finite", "look at what the network gives"
    if not wave.size or np.abs(wave - wave.mean()).max() < _SILENCE:
        return "is silent", "look at the range of the wave: samples are in [-1, 1]"
    return "", ""


def first_batch(data: LightningDataModule, split: str) -> Any:
    """The first batch of a split, as the trainer's loader gives it.

    Args:
        data: Set up.
        split: ``train`` or ``val``.
    """
    if data.trainer is None:
        data.prepare_data()
        data.setup("fit")
    loader = data.train_dataloader() if split == "train" else data.val_dataloader()
    return next(iter(loader))


def evaluate(task: LightningModule, batch: Any) -> Tensor:
    """The loss of a batch in evaluation mode, the same draws each time.

    Args:
        task: Any LightningModule.
        batch: What its steps take.
    """
    task.eval()
    torch.manual_seed(0)
    loss: Any = getattr(task, "loss", None)
    # A training step logs, which Lightning allows inside a run only.
    with torch.no_grad(), mock.patch.multiple(task, log=mock.DEFAULT, log_dict=mock.DEFAULT):
        out = loss(batch) if callable(loss) else task.training_step(batch, 0)
    out = out["loss"] if isinstance(out, dict) else out[0] if isinstance(out, tuple) else out
    if not isinstance(out, Tensor):
        raise UserError(f"the loss is a {type(out).__name__}", "return a tensor", place(type(task)))
    if not torch.isfinite(out).all():
        raise UserError(f"the loss of a batch is {float(out):g}", "look for a log or a root of 0", place(type(task)))
    return out


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
