"""Drawing pictures: the whole net anew for each part of each pixel, against features that are kept.

Both draw the same pictures of the same random numbers, on one thread, in turn; the time is that thread's on the
processor. Naively a part of the pixels is drawn and the rest is reckoned, for every pixel costs the same there.

Usage: python benchmarks/pixelcnn.py [--rounds 5] [--pixels 8]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from common import report
from dlmkit_pixelcnn.generate import Cached, naive, uniform_numbers
from dlmkit_pixelcnn.likelihoods import LIKELIHOODS, Likelihood
from dlmkit_pixelcnn.model import GatedPixelCNN
from torch import Tensor

LEAST = {28: 30, 32: 100}
"""How many times as fast it has to be, by the side of a picture."""


@dataclass
class Case:
    """Pictures of one kind.

    Args:
        side: Pixels along one side.
        channels: Colour channels.
        likelihood: Of a pixel.
        levels: Of a channel.
        n: Pictures that are drawn together.
        sizes: Further ones of the net.
    """

    side: int
    channels: int
    likelihood: str
    levels: int
    n: int
    sizes: dict[str, Any] = field(default_factory=lambda: {"width": 48, "layers": 10, "head_width": 96})

    def __str__(self) -> str:
        colour = "colour" if self.channels == 3 else "grey"
        return f"{self.side} × {self.side} {colour}, {self.likelihood}, {self.n} together"


CASES = [
    Case(28, 1, "binary", 2, 1),
    Case(28, 1, "binary", 2, 16),
    Case(32, 3, "logistic", 256, 16),
    Case(32, 3, "softmax", 256, 16),
]


def seconds(run: Callable[[], Any]) -> float:
    """Of this thread on the processor."""
    started = time.thread_time()
    run()
    return time.thread_time() - started


@torch.no_grad()
def equal(net: GatedPixelCNN, likelihood: Likelihood, codes: Tensor, uniforms: Tensor) -> float:
    """The share of pixels that the whole net draws as well, from the same numbers, when it sees the finished pictures.

    A pixel follows from those before it alone, so this is naive drawing without drawing pixel by pixel.
    """
    outputs = net(likelihood.picture(codes, net.readout.weight.dtype), None)
    height, width, groups = uniforms.shape[:3]
    size, colours, right = likelihood.outputs // groups, likelihood.channels // groups, 0.0
    for place in range(height * width * groups):
        i, j, group = place // (width * groups), place // groups % width, place % groups
        drawn = likelihood.draw(outputs[:, group * size : (group + 1) * size, i, j], uniforms[i, j, group])
        right += float((drawn == codes[:, group * colours : (group + 1) * colours, i, j]).double().mean())
    return right / (height * width * groups)


def measure(case: Case, rounds: int, pixels: int) -> float:
    """Print what both take, and return how many times as long the naive way takes."""
    torch.manual_seed(0)
    likelihood = LIKELIHOODS[case.likelihood](case.channels, case.levels)
    net = GatedPixelCNN(case.channels, likelihood.outputs, likelihood.groups, first_kernel_size=7, **case.sizes).eval()
    uniforms = uniform_numbers(likelihood, case.n, case.side, case.side)
    count = sum(p.numel() for p in net.parameters())
    total = case.side**2
    slow, fast = [], []
    for turn in range(rounds + 1):
        naively = seconds(lambda: naive(net, likelihood, uniforms, most=pixels)) * total / pixels
        kept = seconds(lambda: Cached(net, likelihood, case.n, case.side, case.side).run(uniforms))
        if turn:  # the first is for warming up
            slow.append(naively)
            fast.append(kept)
    whole = Cached(net, likelihood, case.n, case.side, case.side).run(uniforms)
    print(f"{100 * equal(net, likelihood, whole, uniforms):.3f} % of all cached pixels are what one whole pass draws")
    part = naive(net, likelihood, uniforms, most=pixels).flatten(2)[:, :, :pixels]
    drawn = whole.flatten(2)[:, :, :pixels]
    same = float((part == drawn).double().mean())
    print(f"{case}: {count:,} parameters, naively {pixels} of {total} pixels; {100 * same:.1f} % of these are equal")
    return report("naive", slow, fast, "s", "cached")


def main() -> None:
    """Measure each kind in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--pixels", type=int, default=8, help="pixels that are drawn naively (default: 8)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        ratio = measure(case, asked.rounds, asked.pixels)
        print(f"  {'reached' if ratio >= LEAST[case.side] else 'NOT REACHED'}: at least {LEAST[case.side]} ×\n")


if __name__ == "__main__":
    main()
