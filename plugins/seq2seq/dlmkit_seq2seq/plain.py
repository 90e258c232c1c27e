r"""The plain encoder-decoder: one vector stands between the source and the target.

It has the two ways in of :class:`~dlmkit_seq2seq.model.AttentionTranslator`.

B sentences, S source steps, T target steps, D embedding width, H hidden width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dlmkit_seq2seq.model import Memory, Reader, orthogonal_blocks, scaled_embedding

__all__ = ["PlainTranslator"]


class PlainTranslator(Reader):
    r"""An encoder and a decoder with nothing between them but one vector.

    .. math::
        s_0 = \tanh(W [\overrightarrow{h}_S ; \overleftarrow{h}_1]), \qquad s_i = \operatorname{GRU}(y_{i-1}, s_{i-1}),
        \qquad p(y_i) = \operatorname{softmax}(W_o \tanh(V_s s_i + V_y y_{i-1}))

    Sutskever et al. read the source backwards, with four layers of LSTM; this encoder is that of the other class, so
    that the two differ by the attention alone.

    References:
        | Sequence to Sequence Learning with Neural Networks (Sutskever, Vinyals & Le, 2014)
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014)

    Args:
        source_vocab_size: Source vocabulary; token 0 is padding.
        target_vocab_size: Target vocabulary V; token 0 is padding.
        embedding_size: Width D of a token's embedding.
        hidden_size: Width H of each direction of the encoder, and of the decoder.
        encoder_layers: Bidirectional layers of the encoder.
        dropout: Fraction of activations dropped.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        encoder_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(source_vocab_size, embedding_size, hidden_size, encoder_layers, dropout)
        self.embedding = nn.Embedding(target_vocab_size, embedding_size, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.recurrence = nn.GRU(embedding_size, hidden_size, batch_first=True)
        self.readout = nn.Linear(hidden_size + embedding_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(target_vocab_size))
        orthogonal_blocks(self.recurrence.all_weights[0][1])
        scaled_embedding(self.embedding)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read the source (B, S) of the given lengths (B,)."""
        annotations, mask, start = self.read(source, lengths)
        nothing = annotations[..., :0]
        return Memory(start, mask, nothing, nothing, nothing)

    def step(self, tokens: Tensor, memory: Memory, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of writing: the word before (B,) and the state (B, H) to logits (B, V) and the next state."""
        readout, state = self._run(tokens[:, None], state)
        return self.scores(readout[:, 0]), state

    def forward(self, source: Tensor, lengths: Tensor, tokens: Tensor) -> tuple[Tensor, None]:
        """Teacher forcing, as in :class:`AttentionTranslator`; there is no attention to return."""
        return self._run(tokens, self.encode(source, lengths).start)[0], None

    def scores(self, readout: Tensor) -> Tensor:
        """Logits (..., V) from what ``forward`` gives (..., D)."""
        return nn.functional.linear(readout, self.embedding.weight, self.bias)

    def _run(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        words = self.dropout(self.embedding(tokens))
        hidden, last = self.recurrence(words, state[None])
        return self.dropout(torch.tanh(self.readout(torch.cat((hidden, words), dim=2)))), last[0]
