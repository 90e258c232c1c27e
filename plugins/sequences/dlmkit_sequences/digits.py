"""Small handwritten digits: which one it is (one to one), and what it is called (one to many).

Dimensions: B pictures of a batch, T time steps, N pictures of a split.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from dlmkit_pictures.digits import read_digits
from torch import Tensor

from dlmkit.data.module import Split
from dlmkit_sequences.problem import Answer, Problem, Steps, sketch

__all__ = ["Digit", "DigitNames"]

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LETTERS = (*sorted(set("".join(NAMES))), "■")
"""What a name is spelt with; ■ says that it ends."""

_SIDE = 8
_STEPS = max(map(len, NAMES)) + 1


class Digit(Problem):
    """A handwritten digit of 8 × 8 pixels: which one is it?

    The 1,797 pictures come with scikit-learn; they are shuffled once and for all, and 1,297 are for training, 200 for
    validation and 300 for the test. With a single step there is nothing to carry from one step to the next.

    Sequence shape: one to one.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository

    Args:
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    shape = "one to one"

    @property
    def input_size(self) -> int:
        """The pixels."""
        return _SIDE**2

    @property
    def output_size(self) -> int:
        """The ten digits."""
        return len(NAMES)

    @property
    def answer(self) -> Answer:
        """The only step answers."""
        return "last"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """Pictures (N, 64) from 0 to 1, and digits (N,)."""
        pictures, digits = read_digits(split)
        return pictures.flatten(1), digits

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures as sequences of one step (B, 1, 64), and digits (B,)."""
        return inputs[:, None], targets

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """A picture and its digit."""
        return ["picture"], [str(target.item())]

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The picture in lines of blocks, the digit, and the answer."""
        return [_sketch(input), str(target.item()), str(answer.item())]

    def describe(self) -> str:
        """Sizes."""
        return f"handwritten digits of 8 × 8 pixels; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """The commonest digit, and the digit whose mean picture is nearest."""
        (pictures, digits), (unseen, right) = self.table("train"), self.table("test")
        means = torch.stack([pictures[digits == digit].mean(dim=0) for digit in range(10)])
        nearest = torch.cdist(unseen, means).argmin(dim=1)
        answers = {"commonest digit": digits.bincount().argmax(), "nearest mean picture": nearest}
        return {"test/accuracy": {name: float((said == right).float().mean()) for name, said in answers.items()}}


class DigitNames(Problem):
    """A handwritten digit of 8 × 8 pixels is called by its English name, letter by letter.

    The picture goes in at the first step, and nothing (zeros) after it; a name ends with a symbol of its own, and what
    comes later is not asked for. The pictures are those of the data module ``digit``.

    Sequence shape: one to many.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository

    Args:
        batch_size: Pictures in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.
    """

    shape = "one to many"

    @property
    def input_size(self) -> int:
        """The pixels."""
        return _SIDE**2

    @property
    def output_size(self) -> int:
        """The letters, and the end of a name."""
        return len(LETTERS)

    @property
    def answer(self) -> Answer:
        """A letter at every step."""
        return "each"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """Pictures (N, 64) from 0 to 1, and letters (N, T), -100 behind the end."""
        pictures, digits = read_digits(split)
        return pictures.flatten(1), _spelt()[digits]

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures with zeros behind them (B, T, 64), and letters (B, T)."""
        steps = inputs.new_zeros(len(inputs), _STEPS, _SIDE**2)
        steps[:, 0] = inputs
        return steps, targets

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """A picture, and the letters of its name."""
        return ["picture"] + [""] * (_STEPS - 1), ["" if c < 0 else LETTERS[c] for c in target.tolist()]

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The picture in lines of blocks, the name, and what it is called."""
        return [_sketch(input), *(_name(letters) for letters in (target, answer))]

    def describe(self) -> str:
        """Sizes."""
        return f"handwritten digits of 8 × 8 pixels, called by name; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """The share of right letters when each place of a name gets its commonest letter."""
        train, test = self.table("train")[1], self.table("test")[1]
        said = torch.stack([place[place >= 0].bincount().argmax() for place in train.T])
        right = (test == said)[test >= 0]
        return {"test/accuracy": {"commonest letter of a place": float(right.float().mean())}}


@lru_cache(maxsize=1)
def _spelt() -> Tensor:
    """The names of the digits (10, T), int64: letters, the end, and -100 behind it."""
    names = torch.full((len(NAMES), _STEPS), -100)
    for digit, name in enumerate(NAMES):
        names[digit, : len(name) + 1] = torch.tensor([LETTERS.index(letter) for letter in (*name, LETTERS[-1])])
    return names


def _name(letters: Tensor) -> str:
    """A name up to its end."""
    return "".join(LETTERS[letter] for letter in letters.tolist() if letter >= 0).partition(LETTERS[-1])[0]


def _sketch(input: Tensor) -> str:
    return sketch(input[0].view(_SIDE, _SIDE), _SIDE // 2, _SIDE)
