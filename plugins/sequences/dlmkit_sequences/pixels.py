"""Handwritten digits read pixel by pixel.

Dimensions: B sequences of a batch, T time steps, N examples of a split.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from dlmkit_pictures.idx import mnist_splits
from torch import Tensor
from torch.nn.functional import avg_pool2d

from dlmkit.data.module import Split
from dlmkit.errors import UserError, at_least
from dlmkit_sequences.problem import Answer, Problem, Steps, shortened, sketch

__all__ = ["SequentialMNIST"]

_MEAN, _DEVIATION = 0.1307, 0.3081  # of MNIST's training pixels, as everybody rounds them


class SequentialMNIST(Problem):
    r"""Sequential MNIST: a handwritten digit comes in pixel by pixel, row by row; which one was it?

    .. math::
        x_t = \frac{p_{\pi(t)} / 255 - 0.1307}{0.3081}, \qquad t = 1, \dots, 784

    Here p are the pixels from 0 to 255, and π leaves them in their order or, ``permuted``, shuffles them, in the same
    way for every picture, which tears apart what lay together. The shuffling follows from ``permutation_seed`` and not
    from the run's seed, so that all runs have the same problem; the code of Bai et al. draws one anew for each run.

    Sequence shape: many to one.

    References:
        | A Simple Way to Initialize Recurrent Networks of Rectified Linear Units (Le, Jaitly & Hinton, 2015)
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018)

    Args:
        source: A folder with MNIST's four idx files, gzipped or not, or the name of a Hugging Face dataset.
        permuted: Whether the pixels are shuffled.
        permutation_seed: Which shuffling.
        pool: Side of the squares of pixels that are averaged into one; 2 makes the sequences 196 steps long.
        val_size: Pictures at the end of the training set that are kept for validation, where a dataset has no split
            for it.
        batch_size: Sequences in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If an option is out of range; and, when the pictures are first needed, if they cannot be read.
    """

    shape = "many to one"

    def __init__(
        self,
        source: str = "ylecun/mnist",
        permuted: bool = False,
        permutation_seed: int = 1,
        pool: int = 1,
        val_size: int = 5_000,
        batch_size: int = 64,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(0, "data.", permutation_seed=permutation_seed)
        if pool < 1 or 28 % pool:
            raise UserError(f"pool is {pool}", "give a divisor of 28, the side of a picture", "data.pool")
        at_least(1, "data.", val_size=val_size)
        self.source, self.permuted, self.permutation_seed = source, permuted, permutation_seed
        self.pool, self.val_size = pool, val_size

    @property
    def input_size(self) -> int:
        """A pixel."""
        return 1

    @property
    def output_size(self) -> int:
        """The ten digits."""
        return 10

    @property
    def answer(self) -> Answer:
        """The digit is asked for when all pixels have been seen."""
        return "last"

    def prepare_data(self) -> None:
        """Read once on every machine."""
        _ = self._splits

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """Pictures (N, 28, 28), uint8, and digits (N,), int64."""
        return self._splits[split]

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels one after the other (B, 784, 1), and digits (B,), for pictures (B, 28, 28)."""
        pixels = inputs.float() / 255
        if self.pool > 1:
            pixels = avg_pool2d(pixels[:, None], self.pool)
        pixels = pixels.flatten(1)
        if self.permuted:
            pixels = pixels[:, permutation(pixels.shape[1], self.permutation_seed)]
        return ((pixels - _MEAN) / _DEVIATION)[:, :, None], targets

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """How much ink each pixel has, and the digit at the end."""
        ink = [f"{max(value, 0):.1f}" for value in (input[:, 0] * _DEVIATION + _MEAN).tolist()]
        count = len(ink)
        outputs = ["" for _ in ink[1:]] + [str(target.item())]
        return shortened(ink, outputs, [0, 1, 2, *range(count // 2, count // 2 + 3), count - 2, count - 1])

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The picture in lines of blocks, the digit, and the answer."""
        return [self._sketch(input), str(target.item()), str(answer.item())]

    def describe(self) -> str:
        """Length, order and sizes."""
        order = f"shuffled by permutation {self.permutation_seed}" if self.permuted else "row by row"
        return f"MNIST pixel by pixel, {order}: {(28 // self.pool) ** 2} steps; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """The share of the commonest training digit on the test split."""
        common = self._splits["train"][1].bincount().argmax()
        return {"test/accuracy": {"commonest digit": float((self._splits["test"][1] == common).float().mean())}}

    @cached_property
    def _splits(self) -> dict[Split, tuple[Tensor, Tensor]]:
        """Pictures (N, 28, 28), uint8, and digits (N,), int64."""
        return mnist_splits(self.source, self.val_size)

    def _sketch(self, input: Tensor) -> str:
        """The picture in lines of blocks, whatever the order of the pixels was."""
        ink = torch.empty_like(input[:, 0])
        ink[permutation(len(ink), self.permutation_seed) if self.permuted else slice(None)] = input[:, 0]
        side = 28 // self.pool
        return sketch((ink * _DEVIATION + _MEAN).view(side, side), -(-side // 4), -(-side // 2))


@lru_cache(maxsize=2)
def permutation(count: int, seed: int) -> Tensor:
    """A shuffling of ``count`` places (count,), int64."""
    return torch.from_numpy(np.random.default_rng(seed).permutation(count))
