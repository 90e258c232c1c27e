"""Whether several processes do together what one does alone."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dlmkit.data.module import Batch, DataModule
from dlmkit.errors import UserError
from dlmkit.tasks.task import Task
from dlmkit.testing.check import Unsuitable, check
from dlmkit.testing.package_checks import place
from dlmkit.testing.subject import Subject, arguments, recipe_callbacks

__all__ = ["calmed", "gradient", "two_processes_one_gradient", "two_real_processes"]

_TOLERANCE = 1e-6  # of the largest gradient; float64 would give 1e-15, but a loss may be computed in float32 by design
_UPDATE_TOLERANCE = 1e-5  # of the largest update; likewise
_PARTS = "let batch(…, rank, world) give part rank of the very batch that (…, 0, 1) gives"
_LIMIT = 300.0  # seconds
_NOISE = "take self.noise(…), or let the data module put it into the batch, so that every process has its share of it"


@check("two processes have the gradient of one")
def two_processes_one_gradient(subject: Subject) -> str:
    """Compute the gradient of one batch at once and in two parts, in float64, without dropout."""
    task, data = _calm_task(subject)
    if reason := _waste(data):
        raise UserError(reason, _PARTS, place(type(data)))
    whole = gradient(task, data, world=1)
    parts = gradient(task, data, world=2)
    scale = max(float(g.abs().max()) for g in whole.values()) or 1.0
    off = {name: float((whole[name] - parts[name]).abs().max()) / scale for name in whole}
    worst = max(off, key=lambda name: off[name])
    if off[worst] > _TOLERANCE:
        raise _gradient_fault(subject, task, data, f"{worst}, by {off[worst]:.2g} of the largest gradient")
    held = any(isinstance(m, _BatchNorm) for m in task.modules())
    return f"equal to {off[worst]:.1g}" + (", batch norm held in evaluation mode" if held else "")


def _calm_task(subject: Subject) -> tuple[Task, DataModule]:
    engine = subject.build()
    task, data = engine.model, engine.datamodule
    if not isinstance(task, Task):
        raise Unsuitable("it is no dlmkit.Task, so how its loss adds up is not known")
    if not isinstance(data, DataModule):
        raise Unsuitable("its data module is no dlmkit.DataModule, so how it shares a batch out is not known")
    if not task.automatic_optimization:
        raise Unsuitable("it has several optimisers that take turns; the check with real processes looks at it")
    data.prepare_data()
    data.setup("fit")
    return calmed(task), data


def calmed(task: Task) -> Task:
    """A task without noise of its own, in float64: no dropout, batch norm in evaluation mode.

    Args:
        task: Is changed.
    """
    task.double().train()
    for module in task.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):  # as in torch's recurrent nets and attention
            setattr(module, "dropout", 0.0)  # noqa: B010  (its type is not known)
        if isinstance(module, _BatchNorm):
            module.eval()
    return task


def gradient(task: Task, data: DataModule, world: int) -> dict[str, Tensor]:
    """The gradient of the second training batch, averaged over processes as ``ddp`` does.

    The first batch goes before, so that a state that is carried from batch to batch is there.

    Args:
        task: Is left as it is.
        data: Set up.
        world: The number of processes.
    """
    counts, gradients = [], []
    for rank in range(world):
        copied = copy.deepcopy(task)
        batches = [
            _as_double(data.batch("train", 0, index, rank, world)) for index in (0, min(1, data.batches("train") - 1))
        ]
        torch.manual_seed(rank)
        copied._stands_for = rank, world
        copied.loss(batches[0])
        out = copied.loss(batches[1])
        torch.autograd.backward(out[0] if isinstance(out, tuple) else out)
        counts.append(copied.count(batches[1]))
        gradients.append({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in copied.named_parameters()})
    shares = [count / sum(counts) for count in counts]
    return {n: sum(s * g[n] for s, g in zip(shares, gradients, strict=True)) for n in gradients[0]}  # type: ignore[misc]


def _as_double(batch: Batch) -> Batch:
    return {k: v.double() if isinstance(v, Tensor) and v.is_floating_point() else v for k, v in batch.items()}


def _gradient_fault(subject: Subject, task: Task, data: DataModule, found: str) -> UserError:
    """Say whether the data, noise or the loss itself is the reason."""
    what, where = f"two processes have another gradient of {found}", place(type(task))
    if reason := share_fault(data):
        return UserError(f"{what}: {reason}", _PARTS, place(type(data)))
    batch = _as_double(data.batch("train", 0, 0, 0, 1))
    losses = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        copied = copy.deepcopy(task)
        copied._stands_for = 0, 1
        out = copied.loss(batch)
        losses.append(out[0] if isinstance(out, tuple) else out)
    if not torch.equal(*losses):
        return UserError(f"{what}: the loss draws random numbers", _NOISE, where)
    remedy = "let loss be the mean over what count(batch) counts, and mix no examples of a batch"
    return UserError(f"{what}, though each gets its part of the same batch", remedy, where)


def _waste(data: DataModule) -> str:
    """Whether each of two processes works on everything; the gradient is right then, but nothing is gained."""
    whole, part = (data.batch("train", 0, 0, 0, world) for world in (1, 2))
    same = all(part[name].shape == tensor.shape for name, tensor in whole.items())
    return "each of two processes is given as many rows as one" if same else ""


def share_fault(data: DataModule) -> str:
    """How the parts of two processes differ from the batch of one; empty if they are the same.

    Args:
        data: Set up.
    """
    whole, *parts = (data.batch("train", 0, 0, rank, world) for rank, world in ((0, 1), (0, 2), (1, 2)))
    for name, tensor in whole.items():
        sizes = [len(part[name]) for part in parts]
        if sum(sizes) != len(tensor):
            return f"{name} of one process has {len(tensor)} rows, those of two have {sizes[0]} and {sizes[1]}"
        rows = sorted(row.contiguous().numpy().tobytes() for part in parts for row in part[name])
        if rows != sorted(row.contiguous().numpy().tobytes() for row in tensor):
            return f"{name} of two processes holds other rows than that of one"
    return ""


@check("two processes that are started for real train to the weights of one", slow=True)
def two_real_processes(subject: Subject) -> str:
    """Run the command under ``ddp`` on two CPU processes and compare with one; only one run folder may come of it."""
    words = [*_calm_words(subject), "--trainer.limit_val_batches=1", "--trainer.limit_test_batches=1"]
    runs = subject.folder / "processes"
    small = ["run", subject.word, "--config", str(subject.small), "--runs", str(runs), *subject.overrides, *words]
    unseen = recipe_callbacks(subject.recipe, {"class_path": "dlmkit.testing.probes.Unseen"})
    _start([*small, "--trainer.devices=2", "--trainer.strategy=ddp", unseen])
    folders = sorted(path.name for path in runs.iterdir())
    if len(folders) != 1:
        remedy = "write files on the first process only (self.trainer.is_global_zero)"
        raise UserError(f"two processes made {len(folders)} run folders", remedy, place(subject.task_type))
    task = subject.build(*words).model
    if reason := subject.switches.get("two_processes_one_gradient") or _own_noise(task):
        return f"one run folder; weights are not compared: {reason}"
    start = task.state_dict()
    subject.run("one-process", *words).expect(0)
    off = _distance(_weights(subject.folder / "runs" / "one-process"), _weights(runs / folders[0]), start)
    if off > _UPDATE_TOLERANCE:
        what = f"two processes train to other weights than one, by {off:.2g} of what the training changed"
        remedy = "two_processes_one_gradient and the state that batches carry are where to look"
        raise UserError(what, remedy, place(subject.task_type))
    return f"one run folder, weights equal to {off:.1g} of the training's change"


def _calm_words(subject: Subject) -> list[str]:
    """Options that make a run comparable: no dropout, float64, an optimiser that does not enlarge rounding errors."""
    options = arguments(subject.task_type)
    words = [f"--model.{name}=0.0" for name, value in options.items() if "dropout" in name and isinstance(value, float)]
    calm = '{"class_path":"torch.optim.SGD","init_args":{"lr":0.01}}'
    words += [f"--model.{name}={calm}" for name in options if name.endswith("optimizer")]
    return [*words, "--trainer.precision=64-true"]


def _own_noise(task: nn.Module) -> str:
    """Why the weights of two processes cannot be those of one; empty if they must."""
    modules = list(task.modules())
    if any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in modules):
        return "it has dropout that no option turns off"
    return "batch norm sees each process's part" if any(isinstance(m, _BatchNorm) for m in modules) else ""


def _start(words: list[str]) -> None:
    """Run the command in processes of its own; nothing of them is left, however it ends."""
    unset = ("PL_GLOBAL_SEED", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {k: v for k, v in os.environ.items() if k not in unset}
    environment |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "dlmkit.cli", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            what = f"two processes have not ended in {_LIMIT:.0f} s"
            raise UserError(what, "look for one that waits for the other") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        options = "--trainer.devices=2 --trainer.strategy=ddp --trainer.accelerator=cpu --trainer.precision=64-true"
        remedy = f"dlmkit run with {options} shows all of it"
        raise UserError(f"two processes end with: {_reason(output)}", remedy)


def _reason(output: str) -> str:
    """The line that says why a command ended; the process that fails first takes the other's connection with it."""
    lines = [re.sub(r"^\[rank\d+\]: ", "", line) for line in output.splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"dlmkit: |[\w.]+(Error|Exception): ", line)]
    own = [line for line in raised if "Connection closed by peer" not in line]
    return next(iter([*own, *raised, *lines[-1:]]), "nothing said")


def _weights(folder: Path) -> dict[str, Tensor]:
    from dlmkit.engine import read_checkpoint

    weights: dict[str, Any] = read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]
    return weights


def _distance(one: dict[str, Tensor], two: dict[str, Tensor], start: dict[str, Tensor]) -> float:
    """How far two results are from each other, in units of how far training went."""
    names = [name for name, value in one.items() if value.is_floating_point()]
    apart = max(float((one[n] - two[n]).abs().max()) for n in names)
    return apart / (max(float((one[n] - start[n]).abs().max()) for n in names) or 1.0)
