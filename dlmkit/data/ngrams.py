"""n-gram models of a text: what a language model has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NGrams"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Counts:
    """What was seen of one order.

    Args:
        keys: The n-grams (K,), packed and sorted.
        counts: How often each was seen (K,).
        contexts: Their first n - 1 symbols (C,), packed and sorted.
        totals: How often each context was followed by anything (C,).
        kinds: By how many different symbols (C,).
    """

    keys: Ids
    counts: Ids
    contexts: Ids
    totals: Ids
    kinds: Ids


class NGrams:
    r"""An interpolated n-gram model with Witten-Bell smoothing.

    .. math:: p(c \mid h) = \frac{n(h c) + t(h)\, p(c \mid h')}{n(h) + t(h)}

    for a symbol :math:`c` after the context :math:`h`, where :math:`n` counts, :math:`t(h)` is the number of
    different symbols seen after :math:`h`, and :math:`h'` is :math:`h` without its first symbol. Below the empty
    context every symbol of the vocabulary is equally likely.

    References:
        | The Zero-Frequency Problem: Estimating the Probabilities of Novel Events (Witten, Bell, 1991), method C
        | An Empirical Study of Smoothing Techniques for Language Modeling (Chen, Goodman, 1999): the interpolated form

    Args:
        ids: The training text (N,), integers from 0 to ``vocab_size - 1``.
        vocab_size: Number of symbols V.
        order: Length n of the longest n-gram; V to the power of n must stay below 2**63.

    Raises:
        ValueError: If the n-grams do not fit.
    """

    def __init__(self, ids: npt.NDArray[np.integer], vocab_size: int, order: int = 3) -> None:
        if vocab_size**order >= 2**63:
            raise ValueError(f"n-grams of order {order} over {vocab_size} symbols do not fit 64 bits")
        self.vocab_size = vocab_size
        self.levels = [self._count(self._pack(ids, n)) for n in range(1, order + 1)]

    def probabilities(self, ids: npt.NDArray[np.integer], order: int | None = None) -> npt.NDArray[np.float64]:
        """The probability of each symbol of a text after the symbols before it.

        Args:
            ids: The text (N,).
            order: The longest n-gram to use, all that were counted unless told.

        Returns:
            Probabilities (N,). The first symbols have as much context as there is.
        """
        found = np.full(len(ids), 1 / self.vocab_size)
        for n, level in enumerate(self.levels[:order], start=1):
            keys = self._pack(ids, n)
            count = _look_up(level.keys, level.counts, keys)
            contexts = keys // self.vocab_size
            total, kinds = (_look_up(level.contexts, values, contexts) for values in (level.totals, level.kinds))
            lower = found[n - 1 :]
            # After a context that was never seen the shorter one decides.
            np.divide(count + kinds * lower, total + kinds, out=lower, where=total > 0)
        return found

    def bits(self, ids: npt.NDArray[np.integer], first: int = 0, order: int | None = None) -> float:
        """The cross-entropy of a text.

        Args:
            ids: The text (N,).
            first: The first symbol that counts; those before it are context only.
            order: As in `probabilities`.

        Returns:
            Bits per symbol.
        """
        return float(-np.log2(self.probabilities(ids, order)[first:]).mean())

    def _pack(self, ids: npt.NDArray[np.integer], n: int) -> Ids:
        """Every n-gram of a text as one number, (max(0, N - n + 1),)."""
        size = max(0, len(ids) - n + 1)
        keys = np.zeros(size, dtype=np.int64)
        for place in range(n):
            keys = keys * self.vocab_size + ids[place : place + size]
        return keys

    def _count(self, seen: Ids) -> _Counts:
        keys, counts = np.unique(seen, return_counts=True)
        # Sorted n-grams lie together by context.
        contexts, starts, kinds = np.unique(keys // self.vocab_size, return_index=True, return_counts=True)
        totals = np.add.reduceat(counts, starts) if len(starts) else counts
        return _Counts(keys, counts, contexts, totals, kinds)


def _look_up(keys: Ids, values: Ids, wanted: Ids) -> Ids:
    """The value of each wanted key, 0 where it is not among the sorted keys."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64)
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)
