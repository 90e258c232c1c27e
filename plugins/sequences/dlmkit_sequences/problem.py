"""What every sequence problem has in common: a table of examples, its splits, and the order they come in.

Dimensions: B sequences of a batch, T time steps, F numbers in a step, N examples of a split.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from dlmkit.data.examples import Examples
from dlmkit.data.module import Batch, Split
from dlmkit.errors import at_least

__all__ = ["Answer", "Problem", "Target", "generator", "shortened", "sketch", "split_sizes"]

Steps = tuple[list[str], list[str]]

Answer = Literal["last", "each"]
Target = Literal["class", "value"]

_SPLITS: dict[Split, int] = {"train": 0, "val": 1, "test": 2}


class Problem(Examples):
    """A sequence problem with a fixed table of examples for each split.

    The training examples come in an order that follows from the seed and the epoch, and those that fill no batch at
    the epoch's end are left out. Validation and test take every example once, in the order of the table.

    A batch holds ``input`` (B, T, F), float32, and ``target`` (B,) or (B, T): int64 classes, of which -100 asks for
    nothing, or float32 values.

    Args:
        batch_size: Sequences in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    shape: str
    """Which of the five shapes of a sequence problem this is."""

    @property
    @abstractmethod
    def input_size(self) -> int:
        """Numbers F in each step."""

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Classes, or 1 for a value."""

    @property
    @abstractmethod
    def answer(self) -> Answer:
        """Whether the last step answers, or each."""

    @property
    def target(self) -> Target:
        """Whether the answer is a class or a value."""
        return "class"

    @abstractmethod
    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """All examples of a split as they are kept in memory: what goes in (N, ...) and what is asked for (N, ...)."""

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The input (B, T, F), float32, and the target (B,) or (B, T) made of some rows of the table.

        Args:
            inputs: Rows of the table's first part (B, ...).
            targets: Rows of its second part (B, ...).
        """
        return inputs.float(), targets

    def size(self, split: Split) -> int:
        """The number of examples N of a split."""
        return len(self.table(split)[1])

    def setup(self, stage: str) -> None:
        """Make the tables in every process, so that a fault is found before there is a run.

        Args:
            stage: What the trainer is about to do; all splits are made whatever it is.
        """
        for split in _SPLITS:
            self.table(split)

    @abstractmethod
    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """What goes in and what is asked for at each step, in words for the drawing; empty where nothing is.

        A long sequence may be shortened to some of its steps.

        Args:
            input: One sequence (T, F).
            target: What is asked of it: a scalar, or (T,).
        """

    @abstractmethod
    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """A sequence, the right answer and the net's answer, for a person to read.

        Args:
            input: One sequence (T, F).
            target: What is asked of it: a scalar, or (T,).
            answer: What the net says, like the target.
        """

    def take(self, split: Split, rows: Tensor) -> Batch:
        """The input and the target of some examples."""
        inputs, targets = self.examples(*(part[rows] for part in self.table(split)))
        return {"input": inputs, "target": targets}

    def sizes(self, what: str = "sequences") -> str:
        """How many examples there are, in words.

        Args:
            what: What they are called.
        """
        return super().sizes(what)


def generator(seed: int, split: Split) -> torch.Generator:
    """Random numbers for the examples of a split, which follow from the run's seed.

    Args:
        seed: The run's seed.
        split: ``train``, ``val`` or ``test``.
    """
    # The further number keeps these streams apart from those of the epochs.
    state = np.random.SeedSequence((seed, _SPLITS[split], 1)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def split_sizes(train: int, val: int, test: int) -> Mapping[Split, int]:
    """The sizes of the splits by name."""
    at_least(1, "data.", train_size=train, val_size=val, test_size=test)
    return {"train": train, "val": val, "test": test}


def shortened(inputs: list[str], outputs: list[str], kept: Iterable[int]) -> Steps:
    """Some of many steps, with an ellipsis for what lies between them.

    Args:
        inputs: What goes in at each step.
        outputs: What is asked for at each step.
        kept: Which steps to keep.
    """
    short: Steps = ([], [])
    last = -1
    for step in sorted({step for step in kept if 0 <= step < len(inputs)}):
        if step > last + 1:
            short[0].append("…")
            short[1].append("")
        short[0].append(inputs[step])
        short[1].append(outputs[step])
        last = step
    return short


def sketch(picture: Tensor, rows: int, columns: int) -> str:
    """A picture in lines of blocks.

    Args:
        picture: Ink from 0 to 1 (H, W).
        rows: Lines.
        columns: Characters in a line.
    """
    cells = adaptive_avg_pool2d(picture.clamp(0, 1)[None], (rows, columns))[0]
    return "\n".join("".join(" ░▒▓█"[min(4, int(5 * ink))] for ink in row) for row in cells.tolist())
