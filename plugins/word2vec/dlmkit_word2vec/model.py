r"""The two matrices of word2vec, and its two objectives as the papers write them, one centre at a time.

What trains does the same for many centres at once: :mod:`~dlmkit_word2vec.blocks` in torch,
:mod:`~dlmkit_word2vec.kernel` compiled. The tests compare both with what is here.

V words, D dimensions, C words around a centre, K negatives.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Embeddings"]


class Embeddings(nn.Module):
    r"""An input vector v and an output vector u for each word.

    Both objectives tell a word that was seen from K words that are drawn from noise (negative sampling):

    .. math::
        -\log \sigma(u_w \cdot h) - \sum_{k=1}^{K} \log \sigma(-u_{n_k} \cdot h), \qquad
        n_k \sim P_n(n) \propto \operatorname{count}(n)^{3/4}

    In skip-gram h is the vector of one word around the centre w, and the sum goes over all of them. In CBOW h is the
    mean of them all. (The paper lets the centre predict each word around it; its program, and all since, let each word
    around it predict the centre, which over a whole text are the same pairs.)

    References:
        | Efficient Estimation of Word Representations in Vector Space (Mikolov, Chen, Corrado, Dean, 2013)
        | Distributed Representations of Words and Phrases and their Compositionality (Mikolov et al., 2013), equation 4

    Args:
        words: Words V.
        dim: Numbers D in a vector.
    """

    def __init__(self, words: int, dim: int) -> None:
        super().__init__()
        self.input = nn.Parameter((torch.rand(words, dim) - 0.5) / dim)  # (V, D), small, so that no sigmoid saturates
        self.output = nn.Parameter(torch.zeros(words, dim))  # (V, D)

    def extra_repr(self) -> str:
        """Words and dimensions."""
        return "{}, {}".format(*self.input.shape)

    def skip_gram(self, centre: Tensor, around: Tensor, negatives: Tensor) -> Tensor:
        """The loss of one centre, summed over the words around it, which share their negatives.

        Args:
            centre: (), int64.
            around: (C,), int64.
            negatives: (K,), int64.
        """
        return self._told_from_noise(self.input[around], centre, negatives)

    def cbow(self, centre: Tensor, around: Tensor, negatives: Tensor) -> Tensor:
        """The loss of one centre, predicted from the mean of the words around it; the arguments as above."""
        return self._told_from_noise(self.input[around].mean(0, keepdim=True), centre, negatives)

    def _told_from_noise(self, hidden: Tensor, centre: Tensor, negatives: Tensor) -> Tensor:
        positive = hidden @ self.output[centre]  # (C, D) x (D,) -> (C,)
        negative = hidden @ self.output[negatives].T  # (C, D) x (D, K) -> (C, K)
        return -F.logsigmoid(positive).sum() - F.logsigmoid(-negative).sum()
