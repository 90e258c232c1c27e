"""What the benchmarks share: ratios from pairs, with their spread."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["dlmkit", "report"]


def report(what: str, ours: Sequence[float], peer: Sequence[float], unit: str, peer_name: str) -> float:
    """Print the medians of both sides and the ratio pair by pair.

    Args:
        what: What was measured.
        ours: One figure for each pair.
        peer: The peer's figure in the same pair.
        unit: Of the figures.
        peer_name: Who the peer is.

    Returns:
        The median ratio.
    """
    ratios = [a / b for a, b in zip(ours, peer, strict=True)]
    ratio = statistics.median(ratios)
    print(f"{what}: {statistics.median(ours):.4g} {unit}; {peer_name}: {statistics.median(peer):.4g} {unit}")
    print(f"  ratio {ratio:.3f}  (min {min(ratios):.3f}, max {max(ratios):.3f}, {len(ratios)} interleaved pairs)")
    return ratio


def dlmkit() -> str:
    """The command that belongs to this Python."""
    return str(Path(sys.executable).with_name("dlmkit"))
