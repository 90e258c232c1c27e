"""A recurrent net of a few numbers, with an option of every type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlmkit import Image, Media, SequenceTask, Text
from dlmkit.data.module import Batch
from dlmkit.tasks.sequence import State


class Tiny(SequenceTask):
    """A gated recurrent net that takes milliseconds.

    Args:
        vocab_size: Symbols.
        width: Units.
        dropout: Fraction dropped before the output, so that training draws random numbers.
        bias: Whether the output has a bias.
        depths: A list.
        span: A pair.
        note: A word, or none.
        optimizer: Makes the optimiser.
        lr_scheduler: Makes the schedule.
    """

    headline = "test/loss"

    def __init__(
        self,
        vocab_size: int,
        width: int = 8,
        dropout: float = 0.0,
        bias: bool = True,
        depths: list[int] | None = None,
        span: tuple[float, float] = (0.0, 1.0),
        note: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.embed = nn.Embedding(vocab_size, width)
        self.cell = nn.GRU(width, width, batch_first=True)
        self.drop = nn.Dropout(dropout)
        self.out = nn.Linear(width, vocab_size, bias=bias)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Logits (B, T, V) and the state (1, B, H)."""
        hidden, last = self.cell(self.embed(tokens), state[0] if state else None)
        return self.out(self.drop(hidden)), (last,)

    def show(self, batch: Batch) -> dict[str, Media]:
        """The likeliest continuation as numbers, and what the units do."""
        logits, _ = self(batch["input"][:1])
        words = " ".join(str(n) for n in logits[0].argmax(-1).tolist())
        units = torch.sigmoid(logits[0]).float().cpu().numpy()
        return {"words": Text(words), "units": Image(np.asarray(units))}


class Needy(Tiny):
    """A tiny net with an option that has no default.

    Args:
        vocab_size: Symbols.
        needed: Must be given.
        **kwargs: Those of the tiny net.
    """

    def __init__(self, vocab_size: int, needed: int, **kwargs: Any) -> None:
        super().__init__(vocab_size, **kwargs)
        self.needed = needed
