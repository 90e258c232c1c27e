"""What does a recurrent layer of a plugin cost beside torch's own?

    python benchmarks/recurrent.py [--only LSTM] [--repeats 25]

One forward and one backward pass (gradients of the input and all weights, the loss on the hidden states) of each stack:
on its fast path, in which it trains, against ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU``, goal 1.05; and on the path that
records what happens inside, goal 1.3. Both sides of a pair run in turn, so that other work on the machine slows both.
The first line measures ``nn.LSTM`` against itself: what its ratios scatter by is noise in the others too. Where cores
are shared, set ``OMP_WAIT_POLICY=passive``: otherwise threads spin while they wait for one that another program has
displaced, and that is most of what is measured.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

FAST, RECORDED = 1.05, 1.3


class Case(NamedTuple):
    """One comparison.

    Args:
        stack: The class whose path is measured.
        home: The module that has it.
        records: Whether it is the recorded path, or else the one that trains.
        peer: What torch has.
    """

    stack: str
    home: str
    records: bool
    peer: type[nn.RNNBase]

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.stack}.record" if self.records else self.stack


CASES = (
    Case("LSTM", "torch.nn", False, nn.LSTM),
    Case("RNNStack", "dlmkit_rnn.model", False, nn.RNN),
    Case("LSTMStack", "dlmkit_lstm.model", False, nn.LSTM),
    Case("GRUStack", "dlmkit_gru.model", False, nn.GRU),
    Case("RNNStack", "dlmkit_rnn.model", True, nn.RNN),
    Case("LSTMStack", "dlmkit_lstm.model", True, nn.LSTM),
    Case("GRUStack", "dlmkit_gru.model", True, nn.GRU),
    Case("PeepholeLSTMStack", "dlmkit_lstm.peephole", True, nn.LSTM),
    Case("CoupledLSTMStack", "dlmkit_lstm.coupled", True, nn.LSTM),
)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="sequences B")
    parser.add_argument("--steps", type=int, default=128, help="time steps T")
    parser.add_argument("--hidden", type=int, default=256, help="width of input and states D = H")
    parser.add_argument("--layers", type=int, default=1, help="layers, one upon the other")
    parser.add_argument("--repeats", type=int, default=25, help="pairs that are measured")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--only", default="", help="measure only the stacks whose name holds this")
    return parser.parse_args()


class Side:
    """One side of a pair: a net, its input, and the loss's gradient.

    Args:
        net: Takes inputs (B, T, D).
        hidden: Gives its hidden states (B, T, H).
        x: Inputs (B, T, D).
        gradient: The loss's gradient by the hidden states (B, T, H).
    """

    def __init__(self, net: nn.Module, hidden: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> None:
        self.leaves = [x.clone().requires_grad_(), *net.parameters()]
        self.hidden, self.gradient = hidden, gradient

    def seconds(self) -> float:
        """Time one forward and one backward pass from fresh gradients."""
        for leaf in self.leaves:
            leaf.grad = None
        start = time.perf_counter()
        self.hidden(self.leaves[0]).backward(self.gradient)
        return time.perf_counter() - start


def sides(case: Case, given: argparse.Namespace) -> tuple[Side, Side]:
    """Ours and torch's.

    Raises:
        ImportError: If the plugin is not installed.
        AttributeError: If it has no such class.
    """
    kind = getattr(importlib.import_module(case.home), case.stack)
    sizes = given.hidden, given.hidden, given.layers
    peer = case.peer(*sizes, batch_first=True)
    ours = kind(*sizes, batch_first=True) if kind is case.peer else kind(*sizes)
    run = (lambda x: ours.record(x)[-1].hidden) if case.records else (lambda x: ours(x)[0])
    x, gradient = torch.randn(2, given.batch, given.steps, given.hidden).unbind(0)
    return Side(ours, run, x, gradient), Side(peer, lambda x: peer(x)[0], x, gradient)


def measure(pair: tuple[Side, Side], repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of both sides, pair by pair; the first of a pair alternates."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(-2, repeats):  # two pairs to warm up
        for which in (0, 1) if repeat % 2 else (1, 0):
            taken = pair[which].seconds()
            if repeat >= 0:
                times[which].append(taken)
    return times


def line(case: Case, times: tuple[list[float], list[float]]) -> str:
    """One row of the table."""
    ours, theirs = times
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    goal = RECORDED if case.records else FAST
    return (
        f"{case.name:<25}nn.{case.peer.__name__:<6}{ratio:7.3f}  {low:6.3f} to {high:<7.3f}{min(ratios):6.3f} to "
        f"{max(ratios):<8.3f}{min(ours) / min(theirs):7.3f}   {goal:4.2f} {'yes' if ratio <= goal else 'NO'}"
    )


def main() -> None:
    """Measure and print."""
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(
        f"one forward and one backward pass; B={given.batch} T={given.steps} D=H={given.hidden} "
        f"layers={given.layers} float32 on the CPU, {given.threads} thread(s)\n(OMP_WAIT_POLICY "
        f"{os.environ.get('OMP_WAIT_POLICY', 'default')}), torch {torch.__version__}, {given.repeats} pairs each, in "
        f"alternating order; ratios of times, ours to torch's\n\n"
        f"{'':<25}{'against':<9}{'median':>7}  {'quartiles':<16}{'min to max':<18}{'fastest':>7}   goal"
    )
    for case in CASES:
        if given.only not in case.name:
            continue
        try:
            pair = sides(case, given)
        except (ImportError, AttributeError) as error:
            print(f"{case.name:<25}left out: {error}")
            continue
        print(line(case, measure(pair, given.repeats)), flush=True)


if __name__ == "__main__":
    main()
