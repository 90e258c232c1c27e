"""Batches in which the sentences are of similar length, so that little is padding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["buckets"]

_POOL = 50  # batches that are sorted by length together


def buckets(
    source: npt.NDArray[np.int64], target: npt.NDArray[np.int64], batch_size: int, key: tuple[int, int] | None
) -> list[npt.NDArray[np.int64]]:
    """Batches of similar length in which every pair is once.

    Their sizes differ by one at most.

    Args:
        source: Tokens of each source sentence (N,).
        target: Tokens of each target sentence (N,).
        batch_size: Pairs in a batch, at most.
        key: Seed and epoch that the order follows from; None sorts all by length, behind a first batch of every length.
    """
    total = len(source)
    count = -(-total // batch_size)
    if key is None:
        order = np.lexsort((source, target))
        rest = np.delete(order, np.arange(0, total, count))
        return [order[::count], *(np.array_split(rest, count - 1) if count > 1 else ())]
    shuffled = np.random.default_rng(np.random.SeedSequence(key)).permutation(total)
    pools = np.array_split(shuffled, -(-total // (_POOL * batch_size)))
    ordered = [pool[np.lexsort((source[pool], target[pool]))] for pool in pools]
    # Every other pool runs from long to short, so that a batch across two pools is of one length too.
    snake = np.concatenate([pool[:: -1 if number % 2 else 1] for number, pool in enumerate(ordered)])
    parts = np.array_split(snake, count)
    places = np.random.default_rng(np.random.SeedSequence((*key, 1))).permutation(count)
    return [parts[place] for place in places]
