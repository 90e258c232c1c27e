"""Training on a batch by the compiled kernel, on several threads, and how several processes add up what they learn.

V words, D dimensions, B rows of T tokens.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from dlmkit import UserError
from dlmkit.data.module import Batch

__all__ = ["Changes", "Threads", "available_threads", "has_numba"]

_PIECES = 4  # for each thread, so that none waits long for the last


def has_numba() -> bool:
    """Whether the extra ``fast`` is installed."""
    return importlib.util.find_spec("numba") is not None


def available_threads() -> int:
    """The cores that this process may use, shared out among the processes of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("WORLD_SIZE", "1"))))


class Threads:
    """Runs a kernel on the rows of a batch.

    Args:
        objective: Which kernel.
        threads: How many threads write into the same matrices; one repeats bit for bit. 0 for every core.

    Raises:
        UserError: If numba is not installed.
    """

    def __init__(self, objective: Literal["skip_gram", "cbow"], threads: int) -> None:
        if not has_numba():
            remedy = "pip install 'dlmkit-word2vec[fast]', or give model.engine=torch"
            raise UserError("numba is not installed", remedy, "model.engine")
        from dlmkit_word2vec import kernel

        self.kernel: Callable[..., tuple[float, int]] = getattr(kernel, objective)
        self.threads = threads or available_threads()
        self.pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def __call__(self, inputs: Tensor, outputs: Tensor, batch: Batch, negatives: int, rate: float) -> tuple[float, int]:
        """Train on a batch.

        Args:
            inputs: (V, D), float32, on the CPU; is changed.
            outputs: Likewise.
            batch: ``input``, ``window`` and ``noise`` (B, T).
            negatives: K.
            rate: The learning rate.

        Returns:
            The loss, summed, and how many terms it is the sum of.
        """
        matrices = inputs.detach().numpy(), outputs.detach().numpy()
        texts = [batch[name].numpy() for name in ("input", "window", "noise")]

        def train(rows: slice) -> tuple[float, int]:
            return self.kernel(*matrices, *(text[rows] for text in texts), negatives, rate)

        size = len(texts[0])
        if self.pool is None:
            return train(slice(0, size))
        step = max(1, -(-size // (_PIECES * self.threads)))
        found = list(self.pool.map(train, [slice(start, start + step) for start in range(0, size, step)]))
        return sum(loss for loss, _ in found), sum(count for _, count in found)


class Changes:
    """Adds up what several processes have changed since they last had the same weights.

    Each trains on its own part of every batch, as threads do; now and then all changes are summed. A word that only
    one process met is then as if there were one process; of one that several met, each has moved the vector without
    seeing the others' moves.

    Args:
        weights: The matrices, the same in every process to begin with; are changed.
    """

    def __init__(self, weights: list[Tensor]) -> None:
        self.weights = weights
        self.before = [weight.detach().clone() for weight in weights]

    @torch.no_grad()
    def exchange(self) -> None:
        """Give every process the sum of all changes."""
        for weight, before in zip(self.weights, self.before, strict=True):
            change = weight - before
            dist.all_reduce(change)
            weight.copy_(before.add_(change))
