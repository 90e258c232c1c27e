"""Translation as Lightning tasks: with attention, and without."""

from __future__ import annotations

from typing import Any

from dlmkit import Figure, Media
from dlmkit_seq2seq.figures import attention_figure
from dlmkit_seq2seq.model import AttentionTranslator
from dlmkit_seq2seq.plain import PlainTranslator
from dlmkit_seq2seq.translation import Translation
from dlmkit_seq2seq.vocabulary import words

__all__ = ["EncoderDecoder", "Seq2Seq"]


class Seq2Seq(Translation):
    r"""An encoder, attention and a decoder, which translate a sentence word by word.

    .. math::
        h_j &= [\overrightarrow{h}_j ; \overleftarrow{h}_j] \\
        \alpha_{ij} &= \operatorname{softmax}_j(v^\top \tanh(W s_{i-1} + U h_j)), \qquad c_i = \sum_j \alpha_{ij} h_j \\
        s_i &= \operatorname{GRU}([y_{i-1}, c_i], s_{i-1})

    Sequence shape: many to many, unaligned (the whole source is read before the first word is written).

    References:
        | Neural Machine Translation by Jointly Learning to Align and Translate (Bahdanau, Cho & Bengio, 2015)
        | Sequence to Sequence Learning with Neural Networks (Sutskever, Vinyals & Le, 2014)

    Args:
        source_vocab_size: Tokens of the source; follows from the data.
        target_vocab_size: Tokens of the target; follows from the data.
        hidden_size: Units in each direction of the encoder, and in the decoder.
        embedding_size: Width of the vector that a token is turned into.
        attention_size: Units that compare a word of the source with the decoder's state.
        encoder_layers: Bidirectional layers of the encoder, one upon the other.
        dropout: Fraction of activations dropped from embeddings, from annotations and before the vocabulary's product.
        label_smoothing: Share of the probability that training spreads over all tokens.
        encoder_from: A finished run whose encoder is taken and kept as it is, so that only a decoder is trained.
        beam_size: Beginnings that the search keeps, at the test and for what is shown.
        length_penalty: Exponent of the length that scores of the search are divided by.
        headline_score: Which score the run's last lines report.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        hidden_size: int = 256,
        embedding_size: int = 256,
        attention_size: int = 256,
        encoder_layers: int = 1,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = source_vocab_size, target_vocab_size, embedding_size, hidden_size, attention_size, encoder_layers
        self.use(AttentionTranslator(*sizes, dropout))

    def draw(self, source: list[int], target: list[int]) -> dict[str, Media]:
        """The attention of one sentence, a row for each word that was written."""
        attention = self.attention(source, target)
        grid, read, written = words(attention, (self.source_tokenizer, source), (self.target_tokenizer, target))
        return {"attention": Figure(attention_figure(grid, read, written, "Where the decoder looked"))}


class EncoderDecoder(Translation):
    r"""An encoder and a decoder without attention: one vector holds all that is known of the source.

    .. math::
        s_0 = \tanh(W [\overrightarrow{h}_S ; \overleftarrow{h}_1]), \qquad s_i = \operatorname{GRU}(y_{i-1}, s_{i-1})

    Sequence shape: many to many, unaligned (the whole source is read before the first word is written).

    References:
        | Sequence to Sequence Learning with Neural Networks (Sutskever, Vinyals & Le, 2014)
        | Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation (Cho et al.,
          2014)

    Args:
        source_vocab_size: Tokens of the source; follows from the data.
        target_vocab_size: Tokens of the target; follows from the data.
        hidden_size: Units in each direction of the encoder, and in the decoder.
        embedding_size: Width of the vector that a token is turned into.
        encoder_layers: Bidirectional layers of the encoder, one upon the other.
        dropout: Fraction of activations dropped from embeddings and before the vocabulary's product.
        label_smoothing: Share of the probability that training spreads over all tokens.
        encoder_from: A finished run whose encoder is taken and kept as it is, so that only a decoder is trained.
        beam_size: Beginnings that the search keeps, at the test and for what is shown.
        length_penalty: Exponent of the length that scores of the search are divided by.
        headline_score: Which score the run's last lines report.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        hidden_size: int = 256,
        embedding_size: int = 256,
        encoder_layers: int = 1,
        dropout: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        sizes = source_vocab_size, target_vocab_size, embedding_size, hidden_size, encoder_layers
        self.use(PlainTranslator(*sizes, dropout))
