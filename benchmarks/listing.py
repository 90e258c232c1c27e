"""``dlmkit list`` against a bare Python that asks importlib.metadata for one group.

Usage: python benchmarks/listing.py [--pairs 15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from common import dlmkit, report

BARE = "from importlib.metadata import entry_points; [e.name for e in entry_points(group='dlmkit.tasks')]"


def seconds(command: list[str]) -> float:
    """The wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="interleaved pairs (default: 15)")
    pairs = parser.parse_args().pairs
    ours, bare = [dlmkit(), "list"], [sys.executable, "-c", BARE]
    seconds(ours), seconds(bare)  # the disk's cache is warm from here on
    times = [(seconds(ours), seconds(bare)) for _ in range(pairs)]
    a, b = zip(*times, strict=True)
    report("dlmkit list", a, b, "s", "bare Python, one group")


if __name__ == "__main__":
    main()
