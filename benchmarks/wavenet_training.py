"""A training step of WaveNet against pytorch-wavenet's at equal size: forward, cross-entropy, backward, Adam.

Both take turns on one thread, and the time is that thread's on the processor, so that what other programs take is left
out, but for their share of cache and memory.

Usage: python benchmarks/wavenet_training.py --peer DIR [--pairs 7] [--batch 1] [--scored 1024]

The peer is a checkout of https://github.com/vincentherrmann/pytorch-wavenet; without it only our own step is timed.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import report
from dlmkit_wavenet.model import WaveNetModel
from torch import Tensor
from wavenet_generation import peer_net


def stepper(net: torch.nn.Module, loss: Callable[[], Tensor]) -> Callable[[], float]:
    """A function that takes a step and gives the seconds that it took."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> float:
        started = time.thread_time()
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        return time.thread_time() - started

    return step


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="DIR", help="a checkout of pytorch-wavenet")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs (default: 7)")
    parser.add_argument("--batch", type=int, default=1, help="examples (default: 1)")
    parser.add_argument("--scored", type=int, default=1024, help="samples of each that are scored (default: 1024)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = WaveNetModel()
    codes = torch.randint(256, (asked.batch, net.receptive_field + asked.scored))
    inputs, target = codes[:, :-1], codes[:, -asked.scored :]
    ours = stepper(net, lambda: F.cross_entropy(net(inputs, scored=asked.scored), target))
    steps = [ours]
    if asked.peer:
        peer = peer_net(asked.peer, output_length=asked.scored)
        one_hot = F.one_hot(inputs, 256).float().transpose(1, 2)  # made beforehand, as the peer's loader does
        steps.append(stepper(peer, lambda: F.cross_entropy(peer(one_hot), target.flatten())))
    times: list[list[float]] = [[] for _ in steps]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer uses names that torch is leaving behind
        for turn in range(asked.pairs + 1):
            for step, taken in zip(steps, times, strict=True):
                seconds = step()
                if turn:  # the first is for warming up
                    taken.append(1e3 * seconds)
    print(f"{asked.batch} × {asked.scored} scored samples, receptive field {net.receptive_field:,}, one thread")
    if asked.peer:
        report("training step of pytorch-wavenet", times[1], times[0], "ms", "ours")
    else:
        print(f"training step: {min(times[0]):.1f} ms at best; with --peer it is compared")


if __name__ == "__main__":
    main()
