"""What the benchmarks share: ratios from pairs, with their spread, and runs: trained ones, and ones to be trained."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlmkit.runs import Run

__all__ = ["dlmkit", "report", "trained", "training"]


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


def trained(folder: Path, checkpoint: Path | None = None) -> Any:
    """The task of a run in evaluation mode.

    Args:
        folder: Of the run.
        checkpoint: Whose weights it gets; the best when left out.
    """
    from dlmkit import recipe as recipes
    from dlmkit.engine import load_checkpoint, load_task
    from dlmkit.runs import Run

    run = Run(folder)
    task = load_task(recipes.from_config(run.config, run.folder.name))
    load_checkpoint(task, checkpoint or run.best())
    return task.eval()


def training(recipe: str, runs: str, words: Sequence[str]) -> Run:
    """Run a recipe through the command, without pictures on the way; the benchmark ends where that fails.

    Args:
        recipe: Its name.
        runs: The folder in which the run's own folder is made.
        words: What is typed behind it.
    """
    from dlmkit.cli import main
    from dlmkit.runs import Run

    if main(["run", recipe, "--runs", runs, "--name", recipe, "--show-every", "0", *words]):
        raise SystemExit(2)
    return Run(Path(runs) / recipe)
