"""What stands around a recurrent layer when it reads tokens: the same for every plugin that has one.

B batch, T time steps, D input width, H hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["TokenModel"]

State = tuple[Tensor, ...]


class TokenModel(nn.Module):
    """Predicts the next token of a sequence: embedding, recurrent layers, linear read-out.

    The recurrent layers are a module with ``forward(x, state)``, which takes inputs (B, T, D) and a tuple of states or
    None and gives hidden states (B, T, H) and the states after the last step, and with ``record(x, state)``, which
    takes the same and gives a named tuple of what happens inside for each layer, each field (B, T, H).

    References:
        | Recurrent Neural Network Regularization (Zaremba, Sutskever & Vinyals, 2014), for where dropout goes

    Args:
        vocab_size: Number of tokens V.
        recurrence: The recurrent layers.
        embedding_size: Width D of a token's embedding.
        hidden_size: Width H of what the recurrent layers give.
        embedding_dropout: Probability in [0, 1] that an activation of the embedding is dropped.
        dropout: Probability in [0, 1] that an activation is dropped before the read-out, never along time.

    Raises:
        ValueError: If a size is not positive, or a dropout is no probability.
    """

    def __init__(
        self,
        vocab_size: int,
        recurrence: nn.Module,
        embedding_size: int,
        hidden_size: int,
        embedding_dropout: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if min(vocab_size, embedding_size, hidden_size) < 1:
            raise ValueError(f"a size is not positive: {vocab_size=}, {embedding_size=}, {hidden_size=}")
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.recurrence = recurrence
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Predict what follows each token.

        Args:
            tokens: (B, T) int64, from 0 to V - 1.
            state: Where the recurrent layers go on from; zeros when left out.

        Returns:
            Logits (B, T, V), and the states after the last step.

        Raises:
            IndexError: If a token is not in the vocabulary.
        """
        hidden, state = self.recurrence(self.embedding_dropout(self.embedding(tokens)), state)
        return self.readout(self.dropout(hidden)), state

    def record(self, tokens: Tensor, state: State | None = None) -> list[Any]:
        """What happens inside every recurrent layer at every token; differentiable.

        Args:
            tokens: (B, T) int64, from 0 to V - 1.
            state: Where the recurrent layers go on from; zeros when left out.

        Returns:
            The recurrence's own record for each layer, each field (B, T, H).
        """
        records: list[Any] = self.recurrence.record(self.embedding_dropout(self.embedding(tokens)), state)  # type: ignore[operator]
        return records
