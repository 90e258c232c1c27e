"""Seconds of the processor for a training step, with the memory that tensors free kept and without.

An ``nn.LSTM`` of 256 units goes forward and back over 128 sequences of 120 steps with 512 numbers each; in processes of
their own, in turn. Peak memory is printed too. Where the C library is not glibc, both sides are the same.

Usage: python benchmarks/kept_memory.py [--pairs 5]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from common import report

STEPS = """
import resource, sys, time, torch
from dlmkit.engine import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
net, x = torch.nn.LSTM(512, 256, batch_first=True), torch.randn(128, 120, 512)
for step in range(12):
    if step == 4:
        start = time.process_time()
    net(x)[0].sum().backward()
    net.zero_grad()
print((time.process_time() - start) / 8, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def measure(side: str) -> tuple[float, float]:
    """Seconds of a step, and the peak of memory in MiB."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    told = subprocess.run([sys.executable, "-c", STEPS, side], env=plain, capture_output=True, text=True, check=True)
    seconds, peak = map(float, told.stdout.split())
    return seconds, peak


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs (default: 5)")
    pairs = parser.parse_args().pairs
    taken = [(measure("kept"), measure("given back")) for _ in range(pairs)]
    kept, plain = zip(*taken, strict=True)
    report("a step with memory kept", [s for s, _ in kept], [s for s, _ in plain], "s", "given back")
    print(f"peak memory {max(p for _, p in kept):.0f} MiB; given back {max(p for _, p in plain):.0f} MiB")


if __name__ == "__main__":
    main()
