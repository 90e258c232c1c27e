"""How much slower is an LSTM that records its gates than ``nn.LSTM``, and are its variants, which torch lacks?

    python benchmarks/lstm_gates.py

All run in turns, so that other work on the machine slows all. Where cores are shared, set
``OMP_WAIT_POLICY=passive``: otherwise threads spin while they wait for one that another program has displaced, and that
is most of what is measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from dlmkit_lstm.coupled import CoupledLSTMStack
from dlmkit_lstm.model import LSTMStack
from dlmkit_lstm.peephole import PeepholeLSTMStack
from torch import Tensor

PEER = "nn.LSTM"


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="sequences B")
    parser.add_argument("--steps", type=int, default=128, help="time steps T")
    parser.add_argument("--hidden", type=int, default=256, help="width of input and states D = H")
    parser.add_argument("--repeats", type=int, default=25, help="rounds that are measured")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    return parser.parse_args()


def seconds(run: Callable[[], Tensor], gradient: Tensor, leaves: list[Tensor]) -> float:
    """Time one forward and one backward pass from fresh gradients.

    Args:
        run: Gives the hidden states (B, T, H).
        gradient: The loss's gradient by the hidden states (B, T, H).
        leaves: Tensors whose gradients are computed.
    """
    for leaf in leaves:
        leaf.grad = None
    start = time.perf_counter()
    run().backward(gradient)
    return time.perf_counter() - start


def measure(batch: int, steps: int, hidden: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of each, round by round; who is first goes round."""
    x = torch.randn(batch, steps, hidden, requires_grad=True)
    gradient = torch.randn(batch, steps, hidden)
    lstm = LSTMStack(hidden, hidden)
    peephole, coupled = PeepholeLSTMStack(hidden, hidden), CoupledLSTMStack(hidden, hidden)
    runs = {
        PEER: (lambda: lstm(x)[0], lstm),
        "with its gates recorded": (lambda: lstm.record(x)[0].hidden, lstm),
        "peephole LSTM": (lambda: peephole(x)[0], peephole),
        "coupled gates": (lambda: coupled(x)[0], coupled),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-2, repeats):  # two rounds to warm up
        first = repeat % len(runs)
        for name in (*runs, *runs)[first : first + len(runs)]:
            run, net = runs[name]
            taken = seconds(run, gradient, [x, *net.parameters()])
            if repeat >= 0:
                times[name].append(taken)
    return times


def main() -> None:
    """Measure and print."""
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    times = measure(given.batch, given.steps, given.hidden, given.repeats)
    policy = os.environ.get("OMP_WAIT_POLICY", "default")
    print(
        f"one forward and one backward pass (gradients of the input and all weights), loss on the hidden states\n"
        f"B={given.batch} T={given.steps} D=H={given.hidden} float32 on the CPU, {given.threads} threads "
        f"(OMP_WAIT_POLICY {policy}), torch {torch.__version__}, {given.repeats} rounds in turn"
    )
    for name, taken in times.items():
        ratios = [ours / theirs for ours, theirs in zip(taken, times[PEER], strict=True)]
        spread = (
            "" if name == PEER else f"  ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
        print(f"{name:24s} {statistics.median(taken) * 1e3:7.1f} ms, fastest {min(taken) * 1e3:6.1f}{spread}")


if __name__ == "__main__":
    main()
