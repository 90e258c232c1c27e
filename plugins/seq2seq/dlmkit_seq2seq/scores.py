"""BLEU as sacreBLEU computes it, added up over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor
from torchmetrics import Metric

__all__ = ["Bleu", "corpus_bleu"]


def corpus_bleu(translations: Sequence[str], references: Sequence[str], lowercase: bool) -> float:
    """The corpus BLEU of one process's translations, in per cent.

    Args:
        translations: What was written.
        references: One for each.
        lowercase: Whether capitals count as small letters.
    """
    return float(BLEU(lowercase=lowercase).corpus_score(list(translations), [list(references)]).score)


class Bleu(Metric):
    """The corpus BLEU of translations, in per cent.

    BLEU is a function of ten sums over sentences (matching and total n-grams, lengths), so adding them up over batches
    and processes gives the corpus' very score.

    References:
        | BLEU: a Method for Automatic Evaluation of Machine Translation (Papineni et al., 2002)
        | A Call for Clarity in Reporting BLEU Scores (Post, 2018)

    Args:
        lowercase: Whether capitals count as small letters.
    """

    sums: Tensor

    def __init__(self, lowercase: bool = False) -> None:
        super().__init__()
        self.scorer = BLEU(lowercase=lowercase)
        self.add_state("sums", torch.zeros(10, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, translations: Sequence[str], references: Sequence[str]) -> None:
        """Add some sentences, one reference for each."""
        score = self.scorer.corpus_score(list(translations), [list(references)])
        found = [*score.counts, *score.totals, score.sys_len, score.ref_len]
        self.sums = self.sums + torch.tensor(found, device=self.sums.device)

    def compute(self) -> Tensor:
        """The score of all sentences so far."""
        sums = self.sums.tolist()
        score = BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9], smooth_method="exp")
        return torch.tensor(score.score)

    @property
    def signature(self) -> str:
        """How the score was computed, for a comparison with others."""
        return str(self.scorer.get_signature())
