"""Beam search over any translator that encodes a source and then takes step after step.

B sentences, K beams, S source steps, L steps of writing, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from dlmkit_seq2seq.model import Memory

__all__ = ["Found", "Translator", "beam_search"]


class Translator(Protocol):
    """What is searched."""

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read the source (B, S) of the given lengths (B,)."""

    def step(self, tokens: Tensor, memory: Memory, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of writing: the word before (B,) and the state (B, H) to logits (B, V) and the next state."""


class Found(NamedTuple):
    """The best translations of each sentence, the best first.

    Args:
        tokens: (B, K, L), int64, each with its end, and padding behind it.
        scores: (B, K), log probability over length to the power of the penalty; -inf where none was found.
    """

    tokens: Tensor
    scores: Tensor

    def best(self) -> list[list[int]]:
        """The tokens of each sentence's best translation, without its end and padding."""
        return [row[: int((row > 0).sum()) - 1].tolist() for row in self.tokens[:, 0]]


@torch.no_grad()
def beam_search(
    net: Translator,
    source: Tensor,
    lengths: Tensor,
    beam: int = 5,
    penalty: float = 1.0,
    limit: Tensor | int = 100,
    begin: int = 1,
    end: int = 2,
) -> Found:
    r"""Write likely translations, the K best beginnings at a time.

    .. math::
        \operatorname{score}(y) = \frac{1}{L^\alpha} \sum_{i=1}^{L} \log p(y_i \mid y_{<i}, x)

    The length L counts the end. A beginning that ends with ``end`` while it is among the K best is finished; a
    sentence is done with K of them. Where the limit is reached, what is left is ended there. A beam of 1 takes the
    likeliest word in each step; a beam that holds every beginning finds the best sequence of all. Token 0 is padding,
    and never written.

    References:
        | Sequence to Sequence Learning with Neural Networks (Sutskever, Vinyals & Le, 2014), section 3.2
        | Google's Neural Machine Translation System (Wu et al., 2016), section 7, for the length normalisation

    Args:
        net: Has ``encode`` and ``step``.
        source: Tokens (B, S), int64.
        lengths: Tokens in each source sentence (B,).
        beam: Beginnings K that are kept of each sentence.
        penalty: Exponent :math:`\alpha`; 0 prefers short translations, 1 compares means.
        limit: Most steps, for all sentences or for each (B,), at least 1.
        begin: The token before the first.
        end: The token that ends a translation.
    """
    search = _Search(net, source, lengths, beam, penalty, limit)
    tokens = torch.full((len(source) * beam,), begin, device=source.device)
    for place in range(int(search.limit.max())):
        chosen = search.advance(tokens, place, end)
        if search.done.all():
            break
        tokens = chosen
    return search.found()


class _Search:
    """The state of a search; see :func:`beam_search` for the arguments."""

    def __init__(
        self, net: Translator, source: Tensor, lengths: Tensor, beam: int, penalty: float, limit: Tensor | int
    ) -> None:
        count, device = len(source), source.device
        self.net, self.beam, self.penalty = net, beam, penalty
        self.limit = torch.as_tensor(limit, device=device).expand(count)
        memory = net.encode(source, lengths)
        self.memory = Memory(*(field.repeat_interleave(beam, dim=0) for field in memory))  # B*K rows
        self.state = self.memory.start
        kind = torch.promote_types(self.state.dtype, torch.float32)
        self.live = torch.full((count, beam), -torch.inf, dtype=kind, device=device)  # log probabilities of beginnings
        self.live[:, 0] = 0  # the beams are one as yet
        steps = int(self.limit.max())
        self.written = torch.zeros(count, beam, steps, dtype=torch.int64, device=device)
        self.finished = torch.zeros_like(self.written)
        self.scores = torch.full_like(self.live, -torch.inf)
        self.ended = torch.zeros(count, dtype=torch.int64, device=device)
        self.first_row = torch.arange(count, device=device)[:, None] * beam

    @property
    def done(self) -> Tensor:
        """Which sentences (B,) need no further steps."""
        return (self.ended >= self.beam) | (self.live[:, 0] == -torch.inf)

    def advance(self, tokens: Tensor, place: int, end: int) -> Tensor:
        """Take one step for all beginnings, and choose the next ones; their last tokens (B*K,)."""
        logits, state = self.net.step(tokens, self.memory, self.state)
        steps = logits.to(self.live.dtype).log_softmax(dim=1)
        steps[:, 0] = -torch.inf
        count, vocabulary = len(self.live), steps.shape[1]
        over = self.limit == place + 1  # here every beginning has to end
        keep = steps[:, end].clone()
        steps = steps.masked_fill(over.repeat_interleave(self.beam)[:, None], -torch.inf)
        steps[:, end] = keep
        steps = steps.view(count, self.beam, vocabulary)
        candidates = (self.live[..., None] + steps).flatten(1)  # (B, K*V)
        best, where = candidates.topk(min(2 * self.beam, candidates.shape[1]), dim=1)  # enough for K that go on
        parents, words = where // vocabulary, where % vocabulary
        self._finish(best, parents, words, place, end)
        return self._go_on(best.masked_fill(words == end, -torch.inf), parents, words, state, place)

    def _finish(self, best: Tensor, parents: Tensor, words: Tensor, place: int, end: int) -> None:
        """Keep what ends here among the K best, if it is better than what was kept before."""
        best, parents, words = best[:, : self.beam], parents[:, : self.beam], words[:, : self.beam]
        ending = (words == end) & (best > -torch.inf) & (self.ended < self.beam)[:, None]
        if not ending.any():
            return
        scores = torch.where(ending, best / (place + 1) ** self.penalty, -torch.inf)
        sequences = self.written.gather(1, parents[..., None].expand(-1, -1, self.written.shape[2]))
        sequences[..., place] = end
        scores, order = torch.cat((self.scores, scores), dim=1).sort(dim=1, descending=True, stable=True)
        sequences = torch.cat((self.finished, sequences), dim=1)
        order = order[:, : self.beam]
        self.scores = scores[:, : self.beam]
        self.finished = sequences.gather(1, order[..., None].expand(-1, -1, sequences.shape[2]))
        self.ended = self.ended + ending.sum(dim=1)

    def _go_on(self, best: Tensor, parents: Tensor, words: Tensor, state: Tensor, place: int) -> Tensor:
        """Take the K best that have not ended."""
        self.live, chosen = best.topk(min(self.beam, best.shape[1]), dim=1)
        if self.live.shape[1] < self.beam:  # a vocabulary smaller than the beam
            missing = self.beam - self.live.shape[1]
            self.live = torch.nn.functional.pad(self.live, (0, missing), value=-torch.inf)
            chosen = torch.nn.functional.pad(chosen, (0, missing))
        parents, words = parents.gather(1, chosen), words.gather(1, chosen)
        self.written = self.written.gather(1, parents[..., None].expand(-1, -1, self.written.shape[2]))
        self.written[..., place] = words
        self.state = state[(self.first_row + parents).flatten()]
        return words.flatten()

    def found(self) -> Found:
        """What was finished, the best first."""
        return Found(self.finished, self.scores)
