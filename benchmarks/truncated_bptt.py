"""Full back-propagation through time against truncated: time and peak memory over the length of the sequence.

Usage: python benchmarks/truncated_bptt.py [--figure truncated-bptt.png] [--window 128] [--limit 4]

The task of dlmkit-rnn reads the same symbols both ways: in one piece, with one update of the weights, and in windows of
k steps with the state carried on as a number and an update after each. Every figure comes from a process of its own.
Its memory is the most that it ever held (ru_maxrss), less what it held before: with everything imported, the net built,
and a window trained on. Its time is that of the processor, on one thread, which other work on the machine disturbs
least.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from dlmkit_rnn.task import RNN
from torch import Tensor

SYMBOLS = 64


class Cost(NamedTuple):
    """What one pass over a sequence took.

    Args:
        seconds: Processor time of forward, backward and update.
        megabytes: Peak memory over what the process held before.
    """

    seconds: float
    megabytes: float


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2**i * 1024 for i in range(7)], help="sequences T")
    parser.add_argument("--window", type=int, default=128, help="steps k of truncated BPTT")
    parser.add_argument("--hidden", type=int, default=128, help="units H")
    parser.add_argument("--batch", type=int, default=4, help="sequences B")
    parser.add_argument("--limit", type=float, default=4.0, help="GB that full BPTT may take")
    parser.add_argument("--figure", type=Path, help="where the picture goes")
    parser.add_argument("--one", type=int, nargs=2, metavar=("T", "K"), help=argparse.SUPPRESS)
    return parser.parse_args()


def peak() -> float:
    """The most memory that this process ever held, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def train(task: RNN, text: Tensor, window: int) -> None:
    """One pass over a text (B, T + 1) in windows, by the task's own loss, which carries the state; T is full BPTT."""
    sgd = torch.optim.SGD(task.parameters(), lr=0.01)
    reset = torch.ones(len(text), dtype=torch.bool)
    for start in range(0, text.shape[1] - 1, window):
        piece = text[:, start : start + window + 1].long()
        loss = task.loss({"input": piece[:, :-1], "target": piece[:, 1:], "reset": reset})
        assert isinstance(loss, Tensor)  # in training there are no further metrics
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        reset = torch.zeros_like(reset)


def measure_here(length: int, window: int, hidden: int, batch: int) -> Cost:
    """Measure in this process, which must be fresh."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    task = RNN(vocab_size=SYMBOLS, hidden_size=hidden).train()
    text = torch.randint(SYMBOLS, (batch, length + 1), dtype=torch.uint8)
    train(task, text[:, :65], 64)
    before, started = peak(), time.process_time()
    train(task, text, window)
    return Cost(time.process_time() - started, peak() - before)


def measure(length: int, window: int, options: argparse.Namespace) -> Cost:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, "--one", str(length), str(window)]
    command += ["--hidden", str(options.hidden), "--batch", str(options.batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Cost(*json.loads(done.stdout))


def compare(options: argparse.Namespace) -> dict[str, dict[int, Cost]]:
    """Measure both at every length, and print a row for each."""
    costs: dict[str, dict[int, Cost]] = {"full": {}, "truncated": {}}
    print(f"the task rnn, H={options.hidden}, B={options.batch}, float32, one thread, ", end="")
    print(f"torch {torch.__version__}; truncated: windows of {options.window} steps")
    print(
        f"{'T':>6}  {'full MB':>9} {'truncated MB':>13} {'ratio':>6}   {'full s':>7} {'truncated s':>12} {'ratio':>6}"
    )
    last: tuple[int, Cost] | None = None
    for length in options.lengths:
        truncated = costs["truncated"][length] = measure(length, options.window, options)
        expected = last[1].megabytes * length / last[0] if last else 0.0
        row = f"{truncated.megabytes:13.1f} {{:6}}   {{:>7}} {truncated.seconds:12.2f} {{:6}}"
        if expected > 1000 * options.limit:
            told = f"~{expected:.0f} MB, over the limit of {options.limit:g} GB: not run"
            print(f"{length:6}  {'–':>9} " + row.format("", "–", "") + f"  full: {told}", flush=True)
            continue
        full = costs["full"][length] = measure(length, length, options)
        last = length, full
        memory, seconds = full.megabytes / max(truncated.megabytes, 0.1), full.seconds / truncated.seconds
        row = row.format(f"{memory:6.1f}", f"{full.seconds:7.2f}", f"{seconds:6.2f}")
        print(f"{length:6}  {full.megabytes:9.1f} {row}", flush=True)
    return costs


def draw(costs: dict[str, dict[int, Cost]], window: int, path: Path) -> None:
    """Memory and time over the length, on logarithmic axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    names = {"full": "full BPTT", "truncated": f"truncated BPTT, k = {window}"}
    for ax, field, label in zip(
        figure.subplots(1, 2), Cost._fields, ("processor time, s", "peak memory, MB"), strict=True
    ):
        for kind, marker in (("full", "o"), ("truncated", "s")):
            lengths = list(costs[kind])
            values = [getattr(cost, field) for cost in costs[kind].values()]
            ax.plot(lengths, values, marker=marker, markersize=8, linewidth=2.5, label=names[kind])
        lengths = sorted(costs["truncated"])
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(lengths, [f"{length // 1024}k" if length >= 1024 else str(length) for length in lengths])
        ax.set_xlabel("length of the sequence T", fontsize=15)
        ax.set_ylabel(label, fontsize=15)
        ax.tick_params(labelsize=13)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=13)
    figure.suptitle("What back-propagation through time costs", fontsize=18)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure one, or all."""
    options = arguments()
    if options.one:
        print(json.dumps(measure_here(*options.one, options.hidden, options.batch)))
        return
    costs = compare(options)
    if options.figure:
        draw(costs, options.window, options.figure)


if __name__ == "__main__":
    main()
