"""Sequence problems: a sequence of vectors goes in, an answer comes out at its end or at every step."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from dlmkit.data.module import Batch
from dlmkit.figures import sequence_shape_figure
from dlmkit.media import Figure, Media, Table
from dlmkit.tasks.task import Metrics, Task

__all__ = ["SequenceProblem"]

IGNORED = -100
"""The target of a step that asks for nothing."""


class SequenceProblem(Task):
    r"""Answers a question about a sequence: with a class or with a number, at its end or at every step.

    .. math::
        \hat y_t = W h_t + b, \qquad
        \mathcal{L} = \begin{cases} -\log \operatorname{softmax}(\hat y_t)_{y_t} & \text{classes} \\
        (\hat y_t - y_t)^2 & \text{values} \end{cases}

    A child makes ``features``, the sequence of hidden vectors :math:`h_t`. Shapes: B sequences, T time steps, F numbers
    in a step, H hidden width, K classes or 1.

    Args:
        hidden_size: Width H of the features that the child gives.
        input_size: Numbers F in each step; follows from the data.
        output_size: Classes K, or 1 for a value; follows from the data.
        answer: Whether the last step answers, or each; follows from the data.
        target: Whether the answer is a class or a value; follows from the data.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    headline: ClassVar[str] = "test/loss"
    shown_steps: ClassVar[int] = 12

    def __init__(
        self,
        hidden_size: int,
        input_size: int,
        output_size: int,
        answer: Literal["last", "each"],
        target: Literal["class", "value"],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_size, self.output_size, self.answer, self.target = input_size, output_size, answer, target
        self.readout = nn.Linear(hidden_size, output_size)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Hidden vectors (B, T, H), float, for inputs (B, T, F), float."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits or values: (B, K) where the last step answers, (B, T, K) where each does, for inputs (B, T, F)."""
        hidden = self.features(x)
        answers: Tensor = self.readout(hidden[:, -1] if self.answer == "last" else hidden)
        return answers

    def loss(self, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """Cross-entropy in nats and accuracy in [0, 1], or the mean squared error.

        Args:
            batch: ``input`` (B, T, F) float; ``target`` (B,) or (B, T): int64 classes, of which -100 asks for nothing,
                or float values.
        """
        out, target = self(batch["input"]), batch["target"]
        if self.target == "value":
            return F.mse_loss(out.squeeze(-1), target)
        out, target = out.flatten(0, -2).float(), target.flatten()
        loss = F.cross_entropy(out, target, ignore_index=IGNORED)
        asked = target != IGNORED
        right = (out.argmax(-1) == target)[asked].float().mean()
        return loss, {"accuracy": right}

    def count(self, batch: Batch) -> int:
        """How many answers a batch asks for."""
        target = batch["target"]
        return target.numel() if self.target == "value" else int((target != IGNORED).sum())

    def show(self, batch: Batch) -> Mapping[str, Media]:
        """The problem's shape, and for some sequences what was asked, what was answered and what is right."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        out = self(batch["input"])
        answers = out.squeeze(-1) if self.target == "value" else out.argmax(-1)
        shown: dict[str, Media] = {}
        if callable(steps := getattr(data, "steps", None)):
            inputs, outputs = steps(batch["input"][0].cpu(), batch["target"][0].cpu())
            last = slice(max(0, len(inputs) - self.shown_steps), None)
            shown["shape"] = Figure(sequence_shape_figure(data.shape, inputs[last], outputs[last]))
        tell: Callable[..., list[str]] | None = getattr(data, "tell", None)
        if tell is not None:
            cpu = [values[:8].detach().cpu() for values in (batch["input"], batch["target"], answers)]
            rows = [tell(*row) for row in zip(*cpu, strict=True)]
            shown["answers"] = Table(["input", "right", "answered"], rows)
        return shown
