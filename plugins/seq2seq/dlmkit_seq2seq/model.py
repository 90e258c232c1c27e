r"""An encoder, additive attention, a decoder, and the translator that they make.

There are two ways in. ``forward`` is teacher forcing: the right words go in, and all steps are scored at once.
``encode`` and ``step`` write a translation word by word.

B sentences, S source steps, T target steps, D embedding width, H hidden width, A attention width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "AdditiveAttention",
    "AttentionDecoder",
    "AttentionTranslator",
    "Encoder",
    "Memory",
    "Reader",
    "gru_step",
    "orthogonal_blocks",
    "scaled_embedding",
]


class Memory(NamedTuple):
    """What a decoder knows of the source sentences; every field begins with B."""

    start: Tensor
    """The state (B, H) that the decoder begins with."""
    mask: Tensor
    """Where the source has a word (B, S), bool."""
    annotations: Tensor
    """The encoder's hidden states (B, S, 2H)."""
    keys: Tensor
    """The encoder's half of the attention (B, S, A); width 0 without attention."""
    gates: Tensor
    """What each annotation adds to the decoder's gates (B, S, 3H); width 0 without attention."""


class Encoder(nn.Module):
    r"""Reads a sentence from both ends: an annotation for each word knows what is before it and what comes after.

    .. math::
        h_j = [\overrightarrow{h}_j ; \overleftarrow{h}_j]

    Padding changes nothing: the layer that reads from the end gets each sentence reversed within its own length, so
    that padding comes last for both, and what comes last is left out.

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau, Cho & Bengio, 2015), section
          3.2

    Args:
        vocab_size: Source vocabulary V; token 0 is padding, and reads as a vector of zeros.
        embedding_size: Width D of a token's embedding.
        hidden_size: Width H of each direction's state.
        num_layers: Bidirectional layers, one upon the other.
        dropout: Fraction of activations dropped from embeddings and annotations.
    """

    def __init__(
        self, vocab_size: int, embedding_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if min(vocab_size, embedding_size, hidden_size, num_layers) < 1:
            raise ValueError(f"a size is not positive: {vocab_size=}, {embedding_size=}, {hidden_size=}, {num_layers=}")
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        widths = [embedding_size, *[2 * hidden_size] * (num_layers - 1)]
        self.forwards = nn.ModuleList(nn.GRU(width, hidden_size, batch_first=True) for width in widths)
        self.backwards = nn.ModuleList(nn.GRU(width, hidden_size, batch_first=True) for width in widths)
        for name, weight in self.named_parameters():
            if "weight_hh" in name:
                orthogonal_blocks(weight)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read sentences.

        Args:
            source: Tokens (B, S), int64, with anything behind each sentence's end.
            lengths: Tokens in each sentence (B,), at least 1.

        Returns:
            Annotations (B, S, 2H), arbitrary behind each sentence's end, and both directions' last states (B, 2H).
        """
        steps = torch.arange(source.shape[1], device=source.device)
        inside = steps < lengths[:, None]  # (B, S)
        reverse = torch.where(inside, lengths[:, None] - 1 - steps, steps)[..., None]  # (B, S, 1)
        x = self.dropout(self.embedding(source))  # (B, S, D)
        for ahead, back in zip(self.forwards, self.backwards, strict=True):
            right = ahead(x)[0]  # (B, S, H)
            left = back(x.gather(1, reverse.expand_as(x)))[0].gather(1, reverse.expand_as(right))
            x = self.dropout(torch.cat((right, left), dim=2))
        last = (lengths - 1)[:, None, None].expand(-1, 1, right.shape[2])
        return x, torch.cat((right.gather(1, last)[:, 0], left[:, 0]), dim=1)


class AdditiveAttention(nn.Module):
    r"""Says which annotations matter, by a small network that compares each with the decoder's state.

    .. math::
        e_{ij} = v^\top \tanh(W s_{i-1} + U h_j), \qquad \alpha_{ij} = \frac{\exp e_{ij}}{\sum_k \exp e_{ik}}, \qquad
        c_i = \sum_j \alpha_{ij} h_j

    :math:`U h_j` does not depend on the step i: it is computed once for each sentence.

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau, Cho & Bengio, 2015), section
          3.1 and appendix A.1.2

    Args:
        query_size: Width H of the decoder's state.
        key_size: Width of an annotation, 2H.
        attention_size: Width A of the comparison.
    """

    def __init__(self, query_size: int, key_size: int, attention_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, attention_size, bias=False)  # W
        self.key = nn.Linear(key_size, attention_size)  # U, and one bias for the sum
        self.energy = nn.Linear(attention_size, 1, bias=False)  # v

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """The weights (B, S) of the annotations, 0 where there is no word.

        Args:
            query: :math:`W s` (B, A), as ``query`` makes it.
            keys: :math:`U h_j` (B, S, A), as ``key`` makes it.
            mask: Where there is a word (B, S), bool.
        """
        energy: Tensor = self.energy(torch.tanh(query[:, None] + keys))[..., 0]  # (B, S)
        return energy.masked_fill(~mask, -torch.inf).softmax(dim=1)


class AttentionDecoder(nn.Module):
    r"""Writes a sentence word by word; before each it looks at the source through the attention.

    .. math::
        s_i = \operatorname{GRU}([y_{i-1}, c_i], s_{i-1}), \qquad
        p(y_i) = \operatorname{softmax}(W_o \tanh(V_s s_i + V_y y_{i-1} + V_c c_i))

    Only what needs the state before it is inside the loop over steps. Outside are the word's share of the gates, the
    read-out and the vocabulary's product, each one matrix product for all steps. So is the context's share of the
    gates, for a weighted sum of annotations times a matrix is the weighted sum of their products with it. The
    vocabulary's matrix is that of the embedding (Press & Wolf 2017).

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau, Cho & Bengio, 2015), appendix
          A; the paper's maxout is a tanh here
        | Using the Output Embedding to Improve Language Models (Press & Wolf, 2017)

    Args:
        vocab_size: Target vocabulary V; token 0 is padding.
        embedding_size: Width D of a token's embedding, and of the read-out.
        hidden_size: Width H of the state; annotations are twice as wide.
        attention_size: Width A of the comparison.
        dropout: Fraction of activations dropped from embeddings and before the vocabulary's product.
    """

    def __init__(
        self, vocab_size: int, embedding_size: int, hidden_size: int, attention_size: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.attention = AdditiveAttention(hidden_size, 2 * hidden_size, attention_size)
        self.word_gates = nn.Linear(embedding_size, 3 * hidden_size)
        self.context_gates = nn.Linear(2 * hidden_size, 3 * hidden_size, bias=False)
        self.state_gates = nn.Linear(hidden_size, 3 * hidden_size)
        self.readout = nn.Linear(hidden_size + embedding_size + 2 * hidden_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        orthogonal_blocks(self.state_gates.weight)
        scaled_embedding(self.embedding)

    def remember(self, annotations: Tensor, mask: Tensor, start: Tensor) -> Memory:
        """What the loop over steps needs of the annotations, computed once for each sentence."""
        return Memory(start, mask, annotations, self.attention.key(annotations), self.context_gates(annotations))

    def run(self, tokens: Tensor, memory: Memory, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take T steps, the right words given.

        Args:
            tokens: The word before each step (B, T), int64.
            memory: Of the source.
            state: Before the first step (B, H).

        Returns:
            What the vocabulary's product takes (B, T, D), the state after the last step (B, H), and the attention
            (B, T, S).
        """
        words = self.dropout(self.embedding(tokens))  # (B, T, D)
        word_gates = self.word_gates(words).unbind(1)  # T times (B, 3H)
        weight = torch.cat((self.attention.query.weight, self.state_gates.weight))  # (A+3H, H)
        bias = nn.functional.pad(self.state_gates.bias, (self.attention.query.out_features, 0))
        split = [self.attention.query.out_features, self.state_gates.out_features]
        states, weights = [], []
        for gates in word_gates:
            query, recurrent = torch.split(nn.functional.linear(state, weight, bias), split, dim=1)
            alpha = self.attention(query, memory.keys, memory.mask)  # (B, S)
            seen = torch.bmm(alpha[:, None], memory.gates)[:, 0]  # (B, 3H)
            state = gru_step(gates + seen, recurrent, state)
            states.append(state)
            weights.append(alpha)
        attention = torch.stack(weights, dim=1)  # (B, T, S)
        contexts = torch.bmm(attention, memory.annotations)  # (B, T, 2H)
        seen = torch.cat((torch.stack(states, dim=1), words, contexts), dim=2)
        return self.dropout(torch.tanh(self.readout(seen))), state, attention

    def scores(self, readout: Tensor) -> Tensor:
        """Logits (..., V) from what ``run`` gives (..., D)."""
        return nn.functional.linear(readout, self.embedding.weight, self.bias)


class Reader(nn.Module):
    """The half that all translators share: an encoder, and the state in which the decoder starts.

    Args:
        source_vocab_size: Source vocabulary; token 0 is padding.
        embedding_size: Width D of a token's embedding.
        hidden_size: Width H of each direction of the encoder, and of the decoder.
        encoder_layers: Bidirectional layers of the encoder.
        dropout: Fraction of activations dropped.
    """

    def __init__(
        self, source_vocab_size: int, embedding_size: int, hidden_size: int, encoder_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = Encoder(source_vocab_size, embedding_size, hidden_size, encoder_layers, dropout)
        self.bridge = nn.Linear(2 * hidden_size, hidden_size)

    def read(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Annotations (B, S, 2H), which of them are words (B, S), and the first state (B, H) for a source (B, S)."""
        annotations, last = self.encoder(source, lengths)
        mask = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        return annotations, mask, torch.tanh(self.bridge(last))


class AttentionTranslator(Reader):
    """An encoder, and a decoder that looks back at every word of the source.

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau, Cho & Bengio, 2015)

    Args:
        source_vocab_size: Source vocabulary; token 0 is padding.
        target_vocab_size: Target vocabulary V; token 0 is padding.
        embedding_size: Width D of a token's embedding.
        hidden_size: Width H of each direction of the encoder, and of the decoder.
        attention_size: Width A of the attention's comparison.
        encoder_layers: Bidirectional layers of the encoder.
        dropout: Fraction of activations dropped.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        attention_size: int,
        encoder_layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(source_vocab_size, embedding_size, hidden_size, encoder_layers, dropout)
        self.decoder = AttentionDecoder(target_vocab_size, embedding_size, hidden_size, attention_size, dropout)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Read the source (B, S) of the given lengths (B,)."""
        return self.decoder.remember(*self.read(source, lengths))

    def step(self, tokens: Tensor, memory: Memory, state: Tensor) -> tuple[Tensor, Tensor]:
        """One step of writing: the word before (B,) and the state (B, H) to logits (B, V) and the next state."""
        readout, state, _ = self.decoder.run(tokens[:, None], memory, state)
        return self.decoder.scores(readout[:, 0]), state

    def forward(self, source: Tensor, lengths: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Teacher forcing.

        Args:
            source: Tokens (B, S), int64, with anything behind each sentence's end.
            lengths: Tokens in each source sentence (B,).
            tokens: The word before each target step (B, T), int64.

        Returns:
            What ``scores`` makes logits of (B, T, D), and the attention (B, T, S).
        """
        memory = self.encode(source, lengths)
        readout, _, attention = self.decoder.run(tokens, memory, memory.start)
        return readout, attention

    def scores(self, readout: Tensor) -> Tensor:
        """Logits (..., V) from what ``forward`` gives (..., D)."""
        return self.decoder.scores(readout)


def gru_step(inputs: Tensor, recurrent: Tensor, state: Tensor) -> Tensor:
    r"""One step of a GRU whose products are computed already, with the gates in torch's order r, z, n.

    .. math::
        s' = (1 - z) \odot \tanh(i_n + r \odot g_n) + z \odot s, \qquad
        r = \sigma(i_r + g_r), \quad z = \sigma(i_z + g_z)

    Args:
        inputs: :math:`i` (B, 3H).
        recurrent: :math:`g` (B, 3H), the state's share.
        state: :math:`s` (B, H).
    """
    width = state.shape[1]
    r, z = torch.sigmoid(inputs[:, : 2 * width] + recurrent[:, : 2 * width]).chunk(2, dim=1)
    n = torch.tanh(torch.addcmul(inputs[:, 2 * width :], r, recurrent[:, 2 * width :]))
    return torch.lerp(n, state, z)


@torch.no_grad()
def orthogonal_blocks(weight: Tensor) -> None:
    """Let each gate's recurrent matrix in (3H, H) begin orthogonal, which neither shrinks nor grows a state."""
    for block in weight.chunk(3):
        nn.init.orthogonal_(block)


@torch.no_grad()
def scaled_embedding(embedding: nn.Embedding) -> None:
    """Let an embedding that is the vocabulary's matrix too begin small, so that the first logits are near 0."""
    nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
    embedding.weight[0] = 0
