"""Problems whose answer depends on what was seen hundreds of steps ago.

Dimensions: B sequences of a batch, T time steps, N examples of a split.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dlmkit.data.module import Split
from dlmkit.errors import UserError, at_least
from dlmkit_sequences.problem import Answer, Problem, Steps, Target, generator, shortened, split_sizes

__all__ = ["Adding", "CopyMemory"]

SYMBOLS = 10
"""Of copy memory: 0 is the pause, 9 its end, and 1 to 8 are to be remembered."""


class Adding(Problem):
    r"""The adding problem: two of many numbers are marked; what is their sum?

    .. math::
        x_t = (u_t, m_t), \quad u_t \sim U(0, 1), \quad m_t = [t \in \{i, j\}], \qquad y = u_i + u_j

    The two marked steps :math:`i \neq j` are drawn from the whole sequence, as in the code of Bai et al.; in the older
    form of the problem they lie in its first and its second half. Always answering 1, the mean, has a squared error of
    1/6, the variance of the sum of two uniform numbers (Bai et al. print 0.1767).

    Sequence shape: many to one.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997), experiment 4
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018)

    Args:
        length: Time steps T.
        train_size: Training sequences.
        val_size: Validation sequences.
        test_size: Test sequences.
        batch_size: Sequences in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If the sequence has no room for two marks, or a size is below 1.
    """

    shape = "many to one"

    def __init__(
        self,
        length: int = 200,
        train_size: int = 50_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        if length < 2:
            raise UserError(f"length is {length}", "give at least 2, room for two marks", "data.length")
        self.length = length
        self._sizes = split_sizes(train_size, val_size, test_size)

    @property
    def input_size(self) -> int:
        """The number and its mark."""
        return 2

    @property
    def output_size(self) -> int:
        """The sum."""
        return 1

    @property
    def answer(self) -> Answer:
        """The sum is asked for at the end."""
        return "last"

    @property
    def target(self) -> Target:
        """The sum is a value."""
        return "value"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """The numbers (N, T), float32, and the two marked steps (N, 2), int64."""
        return _adding(self.seed, split, self._sizes[split], self.length)

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers with their marks (B, T, 2) and their sums (B,), for numbers (B, T) and marked steps (B, 2)."""
        marks = torch.zeros_like(inputs).scatter_(1, targets, 1.0)
        return torch.stack((inputs, marks), dim=2), inputs.gather(1, targets).sum(dim=1)

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """The first numbers, the marked ones with a +, the last ones, and the sum at the end."""
        numbers = [f"+{value:.2f}" if mark else f"{value:.2f}" for value, mark in input.tolist()]
        outputs = ["" for _ in numbers[1:]] + [f"{target.item():.2f}"]
        last = len(numbers) - 1
        return shortened(numbers, outputs, [0, 1, *input[:, 1].nonzero().flatten().tolist(), last - 1, last])

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The two marked numbers with their steps, their sum, and the answer."""
        marked = [f"{value:.3f} (step {t})" for t, (value, mark) in enumerate(input.tolist(), start=1) if mark]
        return [" + ".join(marked), f"{target.item():.3f}", f"{answer.item():.3f}"]

    def describe(self) -> str:
        """Length and sizes."""
        return f"adding problem: two marked numbers among {self.length}; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """The squared error of always answering 1, on the test split."""
        _, sums = self.examples(*self.table("test"))
        return {"test/loss": {"always 1": float(((sums - 1) ** 2).mean())}}


@lru_cache(maxsize=3)
def _adding(seed: int, split: Split, count: int, length: int) -> tuple[Tensor, Tensor]:
    """The numbers (N, T), float32, and the two marked steps (N, 2), int64."""
    random = generator(seed, split)
    numbers = torch.rand(count, length, generator=random)
    first = torch.randint(length, (count,), generator=random)
    second = torch.randint(length - 1, (count,), generator=random)
    second += second >= first  # any step but the first one, all equally likely
    return numbers, torch.stack((first, second), dim=1)


class CopyMemory(Problem):
    r"""The copy memory problem: ten symbols, a long pause, and then the ten symbols are to be repeated.

    .. math::
        x = (s_1, \dots, s_{10}, \underbrace{0, \dots, 0}_{T-1}, \underbrace{9, \dots, 9}_{11}), \qquad
        y = (\underbrace{0, \dots, 0}_{T+10}, s_1, \dots, s_{10}), \qquad s_i \sim U\{1, \dots, 8\}

    The first 9 says that the pause is over. A symbol goes in as one number, as in the code of Bai et al. The loss is
    the mean over all T + 20 steps; a net that remembers nothing but knows when to speak reaches
    :math:`10 \ln 8 / (T + 20)`.

    Sequence shape: many to many, aligned.

    References:
        | Long Short-Term Memory (Hochreiter & Schmidhuber, 1997), from which the problem comes
        | Unitary Evolution Recurrent Neural Networks (Arjovsky, Shah & Bengio, 2016), for this form of it
        | An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling (Bai, Kolter &
          Koltun, 2018)

    Args:
        length: Steps T of the pause.
        symbols: How many symbols are to be remembered.
        one_hot: Whether a symbol goes in as ten numbers, nine of them 0, rather than as one.
        train_size: Training sequences.
        val_size: Validation sequences.
        test_size: Test sequences.
        batch_size: Sequences in one batch over all processes together.
        num_workers: Processes that load ahead; 0 loads in the training process, right for data in memory.

    Raises:
        UserError: If there is no pause or nothing to remember, or a size is below 1.
    """

    shape = "many to many, aligned"

    def __init__(
        self,
        length: int = 500,
        symbols: int = 10,
        one_hot: bool = False,
        train_size: int = 10_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers)
        at_least(1, "data.", length=length, symbols=symbols)
        self.length, self.symbols, self.one_hot = length, symbols, one_hot
        self._sizes = split_sizes(train_size, val_size, test_size)

    @property
    def input_size(self) -> int:
        """A symbol as one number, or one of ten."""
        return SYMBOLS if self.one_hot else 1

    @property
    def output_size(self) -> int:
        """Every symbol, the 0 of the pause and the 9 that ends it among them."""
        return SYMBOLS

    @property
    def answer(self) -> Answer:
        """An answer at every step: 0 as long as there is nothing to say."""
        return "each"

    def table(self, split: Split) -> tuple[Tensor, Tensor]:
        """The symbols to remember (N, 10), uint8, which are also those to say."""
        symbols = _symbols(self.seed, split, self._sizes[split], self.symbols)
        return symbols, symbols

    def examples(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What goes in (B, T + 20, 1 or 10), and what is to be said (B, T + 20), for symbols (B, 10)."""
        seen = inputs.long()
        before = seen.new_zeros(len(seen), self.length + self.symbols)
        ends = seen.new_full((len(seen), self.symbols + 1), SYMBOLS - 1)
        steps = torch.cat((seen, before[:, : self.length - 1], ends), dim=1)
        coded = one_hot(steps, SYMBOLS) if self.one_hot else steps[:, :, None]
        return coded.float(), torch.cat((before, targets.long()), dim=1)

    def steps(self, input: Tensor, target: Tensor) -> Steps:
        """The first symbols when they go in, and when they are to come out."""
        inputs, outputs = ([str(symbol) for symbol in symbols] for symbols in (self._read(input), target.tolist()))
        end = self.length + self.symbols - 1
        return shortened(inputs, outputs, [0, 1, 2, self.symbols, end, *range(end + 1, end + 4)])

    def tell(self, input: Tensor, target: Tensor, answer: Tensor) -> list[str]:
        """The symbols to remember with the pause, and what is said when it is over."""
        said = ["".join(map(str, steps[-self.symbols :].tolist())) for steps in (target, answer)]
        early = int((answer[: -self.symbols] != 0).sum())
        seen = "".join(map(str, self._read(input)[: self.symbols]))
        return [f"{seen}, then {self.length} steps", said[0], said[1] + (f" and {early} too early" if early else "")]

    def describe(self) -> str:
        """Length and sizes."""
        return f"copy memory: {self.symbols} symbols over a pause of {self.length} steps; {self.sizes()}"

    def baselines(self) -> dict[str, dict[str, float]]:
        """What a net without memory reaches that knows when to speak."""
        steps = self.length + 2 * self.symbols
        loss = self.symbols * math.log(SYMBOLS - 2) / steps
        right = (self.length + self.symbols + self.symbols / (SYMBOLS - 2)) / steps
        return {"test/loss": {"no memory": loss}, "test/accuracy": {"no memory": right}}

    def _read(self, input: Tensor) -> list[int]:
        """The symbols of an input (T, F)."""
        symbols = input.argmax(dim=1) if self.one_hot else input[:, 0].long()
        return symbols.tolist()


@lru_cache(maxsize=3)
def _symbols(seed: int, split: Split, count: int, symbols: int) -> Tensor:
    """The symbols to remember (N, symbols), from 1 to 8, uint8."""
    return torch.randint(1, SYMBOLS - 1, (count, symbols), generator=generator(seed, split), dtype=torch.uint8)
