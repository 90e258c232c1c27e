"""How much slower is an LSTM that records its gates than ``nn.LSTM``?

    python benchmarks/lstm_gates.py

Both run in turns, so that other work on the machine slows both. Where cores are shared, set
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
from dlmkit_lstm.gates import recorded_lstm
from torch import Tensor, nn


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32, help="sequences B")
    parser.add_argument("--steps", type=int, default=128, help="time steps T")
    parser.add_argument("--hidden", type=int, default=256, help="width of input and states D = H")
    parser.add_argument("--repeats", type=int, default=25, help="pairs that are measured")
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


def measure(batch: int, steps: int, hidden: int, repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of ``nn.LSTM`` and of the recorded path, pair by pair; the first of a pair alternates."""
    lstm = nn.LSTM(hidden, hidden, batch_first=True)
    x = torch.randn(batch, steps, hidden, requires_grad=True)
    gradient, zeros = torch.randn(batch, steps, hidden), torch.zeros(batch, hidden)
    runs = (lambda: lstm(x)[0], lambda: recorded_lstm(x, zeros, zeros, *lstm.all_weights[0]).hidden)
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(-2, repeats):  # two pairs to warm up
        for which in (0, 1) if repeat % 2 else (1, 0):
            taken = seconds(runs[which], gradient, [x, *lstm.parameters()])
            if repeat >= 0:
                times[which].append(taken)
    return times


def main() -> None:
    """Measure and print."""
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    plain, recorded = measure(given.batch, given.steps, given.hidden, given.repeats)
    ratios = [ours / theirs for theirs, ours in zip(plain, recorded, strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    policy = os.environ.get("OMP_WAIT_POLICY", "default")
    print(
        f"one forward and one backward pass (gradients of x, both weights and both biases), loss on the hidden states\n"
        f"B={given.batch} T={given.steps} D=H={given.hidden} float32 on the CPU, {given.threads} threads "
        f"(OMP_WAIT_POLICY {policy}), torch {torch.__version__}, {given.repeats} pairs in alternating order\n"
        f"nn.LSTM        {statistics.median(plain) * 1e3:8.1f} ms (median; fastest {min(plain) * 1e3:.1f})\n"
        f"recorded_lstm  {statistics.median(recorded) * 1e3:8.1f} ms (median; fastest {min(recorded) * 1e3:.1f})\n"
        f"ratio          {statistics.median(ratios):8.2f}    (median over pairs; {spread})"
    )


if __name__ == "__main__":
    main()
