"""How far back in time the gradient reaches: vanishing and exploding gradients, measured in the run itself.

B batch, T time steps, L layers, H hidden width, K distances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure as MatplotlibFigure
from torch import Tensor, nn

from dlmkit.callbacks.media import ShowMedia
from dlmkit.errors import UserError
from dlmkit.media import Figure, Media, Table
from dlmkit.tasks.problem import IGNORED, SequenceProblem
from dlmkit.tasks.sequence import SequenceTask

__all__ = ["GradientFlow", "gradient_by_inputs", "gradient_by_states", "spectral_radii"]

_BLOCKS = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}
"""The order in which torch stacks the recurrent matrices of the gates, by ``nn.RNNBase.mode``."""


class GradientFlow(Callback):
    r"""Shows how much of a step's gradient arrives k steps earlier, at every validation and at the test.

    .. math::
        \left\| \frac{\partial \mathcal{L}_T}{\partial h_{T-k}} \right\|, \qquad
        \frac{\partial \mathcal{L}_T}{\partial h_{T-k}} = \frac{\partial \mathcal{L}_T}{\partial h_{T-1}}
        \prod_{j=1}^{k-1} \frac{\partial h_{T-j}}{\partial h_{T-j-1}}

    :math:`\mathcal{L}_T` is the loss of the last step of the first batch alone, and the norm is the mean over the
    batch. Where the product shrinks, what happened long ago cannot be learnt; where it grows, one step of training can
    ruin the net. Beside it stands the spectral radius of each recurrent matrix: a linear net's gradient behaves like
    its k-th power. In the run's media folder are the picture, ``gradient-flow-STEP.png``, its numbers,
    ``gradient-flow-STEP.csv`` (distance, gradient), and ``spectral-radius-STEP.csv``.

    A sequence task is followed through the state that it carries, a sequence problem by its inputs, at every step of
    the whole sequence. Any other task is followed to what its method ``way_back`` names, such as the embeddings of a
    net that carries no state: it takes a batch, and gives the loss of the last step alone, summed over the batch, and
    a tensor (B, T, ...) on which that depends. Nothing of the training changes, neither gradients nor carried states.

    References:
        | Learning Long-Term Dependencies with Gradient Descent is Difficult (Bengio, Simard & Frasconi, 1994)
        | On the difficulty of training Recurrent Neural Networks (Pascanu, Mikolov & Bengio, 2013)

    Args:
        distance: How many steps back a sequence task is followed, at most as many as a batch has.
    """

    def __init__(self, distance: int = 100) -> None:
        if distance < 1:
            raise UserError(f"distance is {distance}", "give at least 1", "trainer.callbacks")
        self.distance = distance
        self.media: ShowMedia | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find who writes this run's media; in plain Lightning, write below the trainer's folder."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self.media = next((callback for callback in callbacks if isinstance(callback, ShowMedia)), self.media)
        if self.media is None:
            self.media = ShowMedia()
            self.media.folder = Path(trainer.default_root_dir) / "media"

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure on the first batch of every validation."""
        if batch_idx == 0 and dataloader_idx == 0 and not trainer.sanity_checking:
            self._measure(trainer, pl_module, batch, f"{trainer.global_step:07d}")

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Measure on the first batch of the test."""
        if batch_idx == 0 and dataloader_idx == 0:
            self._measure(trainer, pl_module, batch, "test")

    def _measure(self, trainer: Trainer, task: LightningModule, batch: Any, suffix: str) -> None:
        assert self.media is not None  # made in setup
        self.media.put(trainer, lambda: self.flow(task, batch), "gradient flow", suffix)

    def flow(self, task: LightningModule, batch: Mapping[str, Tensor]) -> dict[str, Media]:
        """The curve as picture and numbers, and the spectral radii.

        Args:
            task: A sequence task, a sequence problem, or one with ``way_back``, in evaluation mode.
            batch: As the task takes it.

        Raises:
            UserError: If the task carries no state and names no other way.
        """
        way_back: Any = getattr(task, "way_back", None)
        if not isinstance(task, (SequenceTask, SequenceProblem)) and not callable(way_back):
            what = f"{type(task).__name__} is no sequence task, so there is no way back in time"
            raise UserError(what, "leave the callback out, or give the task a method way_back")
        # Validation runs in inference mode, whose tensors autograd refuses; cuDNN has no backward in evaluation mode.
        with torch.inference_mode(False), torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            batch = {name: tensor.clone() for name, tensor in batch.items()}
            if isinstance(task, SequenceTask):
                distances, curves = gradient_by_states(task, batch["input"], batch["target"], self.distance)
            elif isinstance(task, SequenceProblem):
                distances, curves = gradient_by_inputs(task, batch["input"], batch["target"])
            else:
                distances, curves = _by_distance(*way_back(batch))
        radii = spectral_radii(task)
        table = Table(["distance", "gradient"], list(zip(distances, next(iter(curves.values())), strict=True)))
        media: dict[str, Media] = {"gradient-flow": _Curve(flow_figure(distances, curves, radii), table)}
        if radii:
            media["spectral-radius"] = Table(["matrix", "radius"], list(radii.items()))
        return media


@dataclass
class _Curve(Figure):
    """A figure with its numbers beside it, under the same name.

    Args:
        table: The numbers.
    """

    table: Table

    def write(self, path: Path) -> None:
        """Write PNG and CSV."""
        super().write(path)
        self.table.write(path.with_suffix(self.table.suffix))


Curves = tuple[list[int], dict[str, list[float]]]


def gradient_by_states(task: SequenceTask, tokens: Tensor, targets: Tensor, distance: int) -> Curves:
    """The norm of the gradient of the last step's loss by the states before it.

    Args:
        task: Whose state is followed.
        tokens: (B, T) int64; those before the last ``distance`` only fill the state.
        targets: (B, T) int64.
        distance: How many steps back.

    Returns:
        Distances 1 to K, and for all state tensors together and for each alone the norm at each distance, the mean
        over the batch.

    Raises:
        UserError: If the task carries no state, or its loss does not depend on it.
    """
    steps = min(distance, tokens.shape[1])
    states = [_start(task, tokens, tokens.shape[1] - steps)]
    for t in range(tokens.shape[1] - steps, tokens.shape[1]):
        logits, state = task(tokens[:, t : t + 1], states[-1])
        states.append(state)
    loss = _cross_entropy(logits[:, -1], targets[:, -1])
    wanted = [s for state in states[:-1] for s in state]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    gradients = [torch.zeros_like(s) if g is None else g for s, g in zip(wanted, found, strict=True)]
    each = torch.stack([_norms(g, task.state_batch_dim) for g in gradients]).view(steps, len(state), -1)  # (K, S, B)
    each = each.flip(0)
    curves = {"all": each.square().sum(1).sqrt().mean(1).tolist()}
    if len(state) > 1:
        curves |= dict(zip(_names(len(state)), each.mean(2).T.tolist(), strict=True))
    return list(range(1, steps + 1)), curves


def _start(task: SequenceTask, tokens: Tensor, before: int) -> tuple[Tensor, ...]:
    """The state after some tokens, as the beginning of a graph; zeros where there are none."""
    with torch.no_grad():
        _, state = task(tokens[:, : max(before, 1)])
        state = tuple(s.clone() if before else torch.zeros_like(s) for s in state)
    if not any(s.is_floating_point() for s in state):
        raise UserError(f"{type(task).__name__} carries no state, so there is no way back in time")
    return tuple(s.requires_grad_() for s in state)


def gradient_by_inputs(task: SequenceProblem, x: Tensor, target: Tensor) -> Curves:
    """The norm of the gradient of the last answer's loss by the input of every step.

    Args:
        task: Which answers.
        x: Inputs (B, T, F).
        target: (B,) or (B, T); classes, of which -100 asks for nothing, or values.

    Returns:
        Distances from 0, the step of the answer, to the sequence's beginning, and the norm at each, the mean over the
        batch.
    """
    x.requires_grad_()
    out, last = task(x), x.shape[1] - 1
    if task.answer == "each":
        if task.target == "class":
            last = int((target != IGNORED).any(0).nonzero().max())
        out, target = out[:, last], target[:, last]
    if task.target == "class":
        loss = _cross_entropy(out, target)
    else:
        loss = (out.squeeze(-1) - target).square().sum()
    return _by_distance(loss, x, last + 1)


def _by_distance(loss: Tensor, followed: Tensor, steps: int | None = None) -> Curves:
    """The norm of a loss' gradient by the first steps of (B, T, ...), backwards, the mean over the batch."""
    (gradient,) = torch.autograd.grad(loss, followed)
    norms = torch.stack([_norms(g, 0).mean() for g in gradient[:, :steps].unbind(1)])
    return list(range(len(norms))), {"all": norms.flip(0).tolist()}


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """The sum over the batch, so that each sequence has its own gradient, in single precision at least."""
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(exact, target, ignore_index=IGNORED, reduction="sum")


def _norms(gradient: Tensor, batch_dim: int) -> Tensor:
    """The norm of each sequence's part, (B,); in double precision, because squares of what vanishes vanish first."""
    norms: Tensor = torch.linalg.vector_norm(gradient.movedim(batch_dim, 0).flatten(1).cpu().double(), dim=1)
    return norms


def _names(count: int) -> list[str]:
    return ["h", "c"] if count == 2 else [f"state {i}" for i in range(1, count + 1)]


def spectral_radii(module: nn.Module) -> dict[str, float]:
    """The largest modulus of an eigenvalue of every recurrent matrix (``weight_hh_l*``), for each gate by itself.

    Args:
        module: Any, with recurrent layers somewhere inside.
    """
    radii: dict[str, float] = {}
    for path, child in module.named_modules():
        projects = bool(getattr(child, "proj_size", 0))  # then the matrix is not square
        for name, weight in child.named_parameters(recurse=False):
            if not name.startswith("weight_hh_l") or projects or weight.shape[0] % weight.shape[1]:
                continue
            blocks = weight.detach().cpu().double().unflatten(0, (-1, weight.shape[1]))  # (gates, H, H)
            several, layer = len(blocks) > 1, name.removeprefix("weight_hh_")
            if any(label.split()[0] == layer for label in radii):  # another module has a layer of this number
                layer = f"{path}.{layer}"
            gates = _BLOCKS.get(str(getattr(child, "mode", "")), range(1, len(blocks) + 1))
            for gate, block in zip(gates, blocks, strict=True):
                radius = torch.linalg.eigvals(block).abs().max()
                radii[f"{layer} {gate}" if several else layer] = float(radius)
    return radii


def flow_figure(
    distances: Sequence[int], curves: Mapping[str, Sequence[float]], radii: Mapping[str, float]
) -> MatplotlibFigure:
    """The gradient over the distance back in time, on a logarithmic axis.

    Args:
        distances: Steps back.
        curves: Name to norms; the first is drawn heavily.
        radii: Matrix to spectral radius.
    """
    figure = MatplotlibFigure(figsize=(9, 5.5), layout="constrained")
    ax = figure.subplots()
    for place, (name, norms) in enumerate(curves.items()):
        values = np.where(np.asarray(norms) > 0, norms, np.nan)  # nothing has no logarithm
        style: dict[str, Any] = {"linewidth": 3} if place == 0 else {"linewidth": 1.8, "linestyle": "--"}
        ax.plot(distances, values, label="whole state" if place == 0 else f"{name} alone", **style)
    if any(value > 0 for norms in curves.values() for value in norms):
        ax.set_yscale("log")
    ax.set_xlabel("k, steps back in time", fontsize=15)
    ax.set_ylabel("norm of the gradient", fontsize=15)
    ax.set_title(_finding(distances, next(iter(curves.values()))), fontsize=13)
    ax.tick_params(labelsize=13)
    ax.grid(alpha=0.3)
    if len(curves) > 1:
        ax.legend(fontsize=13)
    figure.suptitle("How far back in time the gradient reaches", fontsize=18)
    if radii:
        told = [f"{name if len(radii) > 1 else ''} {radius:.2f}" for name, radius in list(radii.items())[:8]]
        told += ["…"] if len(radii) > len(told) else []
        figure.supxlabel(f"spectral radius of the recurrent matrix: {', '.join(told)}", fontsize=12)
    return figure


def _finding(distances: Sequence[int], norms: Sequence[float]) -> str:
    """What the curve says, in words."""
    if not norms[0] > 0:
        return "no gradient at all arrives"
    if not norms[-1] > 0:
        last = max(k for k, norm in zip(distances, norms, strict=True) if norm > 0)
        return f"nothing arrives from more than {last} steps back"
    return f"{norms[-1] / norms[0]:.1e} of what arrives at k = {distances[0]} arrives at k = {distances[-1]}"
