"""Sequence tasks: recurrent state carried over consecutive batches (truncated back-propagation through time)."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from dlmkit.data.module import Batch
from dlmkit.data.tokens import UNKNOWN
from dlmkit.errors import UserError, at_least
from dlmkit.media import Media, Text
from dlmkit.tasks.task import Metrics, Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["SequenceTask", "State"]

State = tuple[Tensor, ...]


class SequenceTask(Task):
    r"""Predicts the next token of streams that go on from batch to batch.

    .. math::
        \mathcal{L} = -\frac{1}{BT} \sum_{b,t} \log p(y_{b,t} \mid x_{b,1..t}, s_b)

    The state :math:`s_b` in which a batch ends is where the next one starts, detached, so gradients reach back through
    one batch and what is remembered reaches further. Each process carries the state of its own streams; a checkpoint
    holds that of all of them.

    A child gives ``forward``. Shapes: B streams, T time steps, V symbols.

    References:
        | An Efficient Gradient-Based Algorithm for On-Line Training of Recurrent Network Trajectories
          (Williams & Peng, 1990)

    Args:
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.
    """

    headline: ClassVar[str] = "test/bits_per_character"
    state_batch_dim: ClassVar[int] = 1
    """The dimension of every state tensor that counts streams; 1 as in ``torch.nn.RNN``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._states: dict[bool, State | None] = {True: None, False: None}  # by self.training
        self._tokenizer: Tokenizer | None = None

    @abstractmethod
    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One pass over T time steps.

        Args:
            tokens: (B, T) int64.
            state: Where the streams stand, or None at their start.

        Returns:
            Logits (B, T, V), and where the streams stand now.
        """

    def loss(self, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """Cross-entropy of the next token in nats, and bits per character of the text that the tokens stand for.

        Args:
            batch: ``input`` and ``target`` (B, T) int64, ``reset`` (B,) bool where a stream starts anew,
                ``characters`` (B,) int64 that each row's targets stand for.
        """
        logits, state = self(batch["input"], self._carried(batch["reset"]))
        self._states[self.training] = tuple(s.detach() for s in state)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), batch["target"].flatten())
        if self.training:
            return loss
        characters = int(batch["characters"].sum())
        bits = loss.detach() * batch["target"].numel() / characters / math.log(2)
        return loss, {"bits_per_character": (bits, characters)}

    def _carried(self, reset: Tensor) -> State | None:
        """The state of each stream, zero where it starts anew."""
        state = self._states[self.training]
        if not state or state[0].shape[self.state_batch_dim] != len(reset):
            return None
        kept = []
        for s in state:
            shape = [1] * s.dim()
            shape[self.state_batch_dim] = len(reset)
            kept.append(torch.where(reset.view(shape), 0, s))
        return tuple(kept)

    # The tokenizer comes with the data in training and from the checkpoint afterwards.

    @property
    def tokenizer(self) -> Tokenizer:
        """Turns text into tokens and back.

        Raises:
            UserError: If neither the data nor the checkpoint brought one.
        """
        if self._tokenizer is None:
            raise UserError("the task has no tokenizer", "train it on text, or load a checkpoint that was")
        return self._tokenizer

    def setup(self, stage: str) -> None:
        """Take the tokenizer from the data module, if that has one."""
        self._tokenizer = getattr(self.trainer.datamodule, "tokenizer", self._tokenizer)  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the tokenizer, and the state of the streams of all processes."""
        if self._tokenizer is not None:
            checkpoint["tokenizer"] = self._tokenizer.to_str()
        state = self._states[True]
        if state is not None and self._trainer is not None:
            dim = self.state_batch_dim
            whole: list[Any] = [
                self.all_gather(s) for s in state
            ]  # (world, ...) each, or the same where there is one process
            world = self.trainer.world_size
            checkpoint["streams"] = tuple(torch.cat(list(w), dim) if world > 1 else w.clone() for w in whole)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the tokenizer, and the state of this process's streams."""
        from tokenizers import Tokenizer

        if "tokenizer" in checkpoint:
            if self._tokenizer is not None and self._tokenizer.to_str() != checkpoint["tokenizer"]:
                what = "the data has other tokens than those that the network was trained on"
                raise UserError(what, "use the data, and the Python, that the run was started with", "data.source")
            self._tokenizer = Tokenizer.from_str(checkpoint["tokenizer"])
        if "streams" in checkpoint and self._trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            parts = (s.chunk(world, self.state_batch_dim)[rank] for s in checkpoint["streams"])
            self._states[True] = tuple(part.to(self.device) for part in parts)

    @torch.no_grad()
    def generate(self, prompt: Tensor, length: int, temperature: float = 0.8, seed: int = 1) -> Tensor:
        """Continue token sequences, one token at a time.

        Args:
            prompt: (n, T) int64 with T ≥ 1.
            length: Tokens to add to each.
            temperature: Logits are divided by it; near 0 always the likeliest token, 1 the model's own distribution.
            seed: Of the draws; the same seed gives the same continuation.

        Returns:
            (n, T + length) int64.
        """
        draw = torch.Generator(device=prompt.device).manual_seed(seed)
        # What stood for characters that training did not have is no character itself.
        never = self._tokenizer.token_to_id(UNKNOWN) if self._tokenizer else None
        tokens = [prompt]
        state: State | None = None
        for _ in range(length):
            logits, state = self(tokens[-1], state)
            scores = logits[:, -1].float() / max(temperature, 1e-6)
            if never is not None:
                scores[:, never] = -torch.inf
            p = torch.softmax(scores, dim=-1)
            tokens.append(torch.multinomial(p, 1, generator=draw))
        return torch.cat(tokens, dim=1)

    def sample(  # type: ignore[override]
        self, prompt: str | None = None, n: int = 1, *, length: int = 500, temperature: float = 0.8, seed: int = 1
    ) -> list[Media]:
        """Write text.

        Args:
            prompt: How each text starts; when left out, a new line.
            n: How many texts.
            length: Tokens to add to the prompt.
            temperature: 0 repeats the likeliest, 1 is the model's own distribution, above is wilder.
            seed: Of the draws; the same seed gives the same text.

        Raises:
            UserError: If the prompt is empty, or holds what the training text did not; if ``length`` is negative, or
                ``temperature``.
        """
        at_least(0, "--", length=length, temperature=temperature)
        ids = self.encode(prompt) if prompt is not None else self._opening()
        start = torch.tensor([ids] * n, device=self.device)
        return [Text(self.tokenizer.decode(row)) for row in self.generate(start, length, temperature, seed).tolist()]

    def encode(self, prompt: str) -> list[int]:
        """The tokens of a prompt.

        Raises:
            UserError: If it is empty, or holds what the training text did not.
        """
        ids: list[int] = self.tokenizer.encode(prompt).ids
        if not ids:
            raise UserError("the prompt is empty", "give at least one character, or leave it out", "--prompt")
        if self.tokenizer.decode(ids) != prompt:
            strange = sorted({c for c in prompt if self.tokenizer.decode(self.tokenizer.encode(c).ids) != c})
            what = f"the prompt holds {' '.join(map(repr, strange))}, which the training text did not"
            raise UserError(what, "leave it out", "--prompt")
        return ids

    def _opening(self) -> list[int]:
        """What a text starts with when nobody says: a new line, or a space where the text has no lines."""
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        for opening in ("\n", " "):
            ids: list[int] = self.tokenizer.encode(opening).ids
            if ids and unknown not in ids:
                return ids
        return [self.tokenizer.get_vocab_size() - 1]
