"""What both translation tasks share: loss, scores, what to show, and translating what a user types.

B sentences of a batch, S source steps, T target steps, V vocabulary.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from tokenizers import Tokenizer
from torch import Tensor

from dlmkit import Figure, Media, Table, Task, Text, UserError
from dlmkit.data.module import Batch
from dlmkit.tasks.task import Metrics
from dlmkit_seq2seq.figures import unaligned_figure
from dlmkit_seq2seq.model import AttentionTranslator
from dlmkit_seq2seq.plain import PlainTranslator
from dlmkit_seq2seq.scores import Bleu
from dlmkit_seq2seq.search import Found, beam_search
from dlmkit_seq2seq.transfer import take_encoder
from dlmkit_seq2seq.vocabulary import BEGIN, PAD, decode, encode, groups, read_tokenizer, seen_pieces, unseen

__all__ = ["Translation"]

SHOWN = 12
"""Sentences in the table that is shown."""

LONGEST = 400
"""Tokens that a prompt may have."""

KEPT = 4
"""Source sentences that travel with a checkpoint, for ``sample`` without a prompt."""


class Translation(Task, ABC):
    """Translates sentences; a child makes the net and hands it to :meth:`use`.

    The loss is the cross-entropy of the target's tokens in nats, padding left out; in training the right answer is
    smoothed (Szegedy et al. 2016). The test translates by beam search and scores with sacreBLEU and by exact matches.

    References:
        | Sequence to Sequence Learning with Neural Networks (Sutskever, Vinyals & Le, 2014)
        | Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), section 7: label smoothing
        | A Call for Clarity in Reporting BLEU Scores (Post, 2018)

    Args:
        label_smoothing: Share of the probability that training spreads over all tokens.
        encoder_from: A finished run whose encoder is taken and kept as it is, so that only a decoder is trained.
        beam_size: Beginnings that the search keeps, at the test and for what is shown.
        length_penalty: Exponent of the length that scores of the search are divided by.
        headline_score: Which score the run's last lines report.
        optimizer: Makes the optimiser from the parameters.
        lr_scheduler: Makes the learning-rate schedule from the optimiser; it is stepped after every batch.

    Raises:
        ValueError: If a figure is out of range.
    """

    conformance_options: ClassVar[Sequence[str]] = ("--model.hidden_size=16", "--model.embedding_size=16")

    net: AttentionTranslator | PlainTranslator

    def __init__(
        self,
        label_smoothing: float = 0.1,
        encoder_from: str | None = None,
        beam_size: int = 5,
        length_penalty: float = 1.0,
        headline_score: Literal["bleu", "exact_match"] = "bleu",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is {label_smoothing}; give at least 0 and below 1")
        if beam_size < 1:
            raise ValueError(f"beam_size is {beam_size}; give at least 1")
        self.label_smoothing, self.encoder_from = label_smoothing, encoder_from
        self.beam_size, self.length_penalty = beam_size, length_penalty
        self.headline = f"test/{headline_score}"  # type: ignore[misc]
        self.bleu = Bleu()
        self.languages = ("source", "target")
        self._tokenizers: tuple[Tokenizer, Tokenizer] | None = None
        self._seen: Tensor | None = None
        self._examples: list[str] = []

    def use(self, net: AttentionTranslator | PlainTranslator) -> None:
        """Take the net, its encoder frozen if it is to be another run's."""
        self.net = net
        if self.encoder_from is not None:
            net.encoder.requires_grad_(False)

    def loss(self, batch: Batch) -> Tensor | tuple[Tensor, Metrics]:
        """Cross-entropy of the target's tokens in nats, smoothed in training, and how many are the likeliest.

        Args:
            batch: ``source`` (B, S), ``source_length`` (B,), ``input`` and ``target`` (B, T), int64; 0 is padding.
        """
        asked = batch["target"] != PAD  # (B, T)
        readout, _ = self.net(batch["source"], batch["source_length"], batch["input"])
        logits, target = self.net.scores(readout[asked]), batch["target"][asked]  # (N, V), (N,)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.training:
            return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        right = (logits.argmax(dim=1) == target).float().mean()
        return F.cross_entropy(logits, target), {"token_accuracy": right}

    def count(self, batch: Batch) -> int:
        """How many tokens are asked for."""
        return int((batch["target"] != PAD).sum())

    def way_back(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of the longest sources: the summed loss of the targets' last tokens, and the embeddings (B, S, D)."""
        length = batch["source_length"].max()
        longest = batch["source_length"] == length
        source, given, target = (batch[name][longest] for name in ("source", "input", "target"))
        followed: list[Tensor] = []

        def follow(_module: object, _input: object, output: Tensor) -> Tensor:
            followed.append(output if output.requires_grad else output.requires_grad_())  # an encoder may be frozen
            return followed[0]

        with self.net.encoder.embedding.register_forward_hook(follow):
            readout, _ = self.net(source[:, : int(length)], length.expand(len(source)), given)
        rows, last = torch.arange(len(target), device=target.device), (target != PAD).sum(1) - 1
        logits = self.net.scores(readout[rows, last])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, target[rows, last], reduction="sum"), followed[0]

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test, which is translated and scored as well."""
        super().test_step(batch, batch_idx)
        translations, references = self.translate(batch), self.references(batch)
        self.bleu.update(translations, references)
        equal = [float(a == b) for a, b in zip(translations, references, strict=True)]
        self._log_metrics("test", {"exact_match": torch.tensor(equal, device=self.device).mean()}, len(equal))

    def on_test_epoch_end(self) -> None:
        """Log the corpus' BLEU, and say how it was computed."""
        self.log("test/bleu", self.bleu.compute().to(self.device), prog_bar=True)
        self.print(f"sacreBLEU {self.bleu.signature}, beam {self.beam_size}, length penalty {self.length_penalty:g}")
        self.bleu.reset()

    # What is known of the languages: from the data module in training, from the checkpoint afterwards.

    @property
    def source_tokenizer(self) -> Tokenizer:
        """Turns a sentence of the source into tokens."""
        return self._known[0]

    @property
    def target_tokenizer(self) -> Tokenizer:
        """Turns tokens into a sentence of the target."""
        return self._known[1]

    @property
    def _known(self) -> tuple[Tokenizer, Tokenizer]:
        if self._tokenizers is None:
            remedy = "train it on sentence pairs, or load a checkpoint that was"
            raise UserError("the task has no tokenizers", remedy)
        return self._tokenizers

    def configure_callbacks(self) -> list[Callback]:
        """Take another run's encoder, which Lightning asks before a run folder is made.

        Raises:
            UserError: If that run's encoder does not fit.
        """
        trainer: Any = self.trainer
        # A run that goes on has the encoder in its own checkpoint, and needs the other run no more.
        if self.encoder_from is not None and trainer.state.fn == "fit" and not self.resumed:
            take_encoder(self.net.encoder, trainer.datamodule.source_tokenizer.to_str(), self.encoder_from)
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Take tokenizers and examples from the data module."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self._tokenizers = data.source_tokenizer, data.target_tokenizer
        self._seen, self.languages = data.source_seen, tuple(data.languages)
        self.bleu = Bleu(data.lowercase[1]).to(self.device)
        batch = data.batch("val", 0, 0, 0, 1)
        self._examples = self._sources(batch)[:KEPT]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the tokenizers, and some sentences to translate."""
        if self._tokenizers is not None:
            checkpoint["translation"] = {
                "tokenizers": [tokenizer.to_str() for tokenizer in self._tokenizers],
                "seen": self._seen,
                "languages": list(self.languages),
                "examples": self._examples,
            }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up.

        Raises:
            UserError: If the data has other vocabularies.
        """
        known = checkpoint.get("translation")
        if known is None:
            return
        if self._tokenizers is not None and [t.to_str() for t in self._tokenizers] != known["tokenizers"]:
            what = "the data has other tokens than those that the network was trained on"
            raise UserError(what, "use the data that the run was started with", "data")
        first, second = (read_tokenizer(saved) for saved in known["tokenizers"])
        self._tokenizers, self._seen = (first, second), known["seen"]
        self.languages, self._examples = tuple(known["languages"]), known["examples"]

    # Translating.

    def search(self, batch: Mapping[str, Tensor], beam: int | None = None, penalty: float | None = None) -> Found:
        """Beam search for the sources of a batch."""
        limit = 2 * batch["source_length"] + 10
        penalty = self.length_penalty if penalty is None else penalty
        return beam_search(self.net, batch["source"], batch["source_length"], beam or self.beam_size, penalty, limit)

    def translate(self, batch: Mapping[str, Tensor]) -> list[str]:
        """The best translation of each source of a batch."""
        return [decode(self.target_tokenizer, ids) for ids in self.search(batch).best()]

    def references(self, batch: Batch) -> list[str]:
        """The right translations of a batch; a vocabulary of bytes gives back what was encoded."""
        return [decode(self.target_tokenizer, row[row > PAD].tolist()) for row in batch["target"]]

    def _sources(self, batch: Mapping[str, Tensor]) -> list[str]:
        rows = zip(batch["source"].tolist(), batch["source_length"].tolist(), strict=True)
        return [decode(self.source_tokenizer, row[:length]) for row, length in rows]

    def show(self, batch: Batch) -> dict[str, Media]:
        """Translations beside their references, one of them drawn, and the shape of the problem."""
        some = {name: tensor[:: -(-len(tensor) // SHOWN)] for name, tensor in batch.items()}
        found = self.search(some).best()
        sources, written = self._sources(some), [decode(self.target_tokenizer, ids) for ids in found]
        rows = list(zip(sources, written, self.references(some), strict=True))
        lengths = some["source_length"].tolist()
        ids = [row[:length] for row, length in zip(some["source"].tolist(), lengths, strict=True)]
        every = [[word for word, _ in groups(self.source_tokenizer, row)] for row in ids]
        chosen = min(range(len(rows)), key=lambda row: (not found[row], abs(len(every[row]) - 8)))
        read = every[chosen]
        said = [word for word, _ in groups(self.target_tokenizer, found[chosen])]
        shape = unaligned_figure(_few(read, 5), [*_few(said, 5), "END"], "many to many, unaligned")
        return {
            "translations": Table([self.languages[0], f"{self.languages[1]}, translated", "reference"], rows),
            "shape": Figure(shape),
            **(self.draw(ids[chosen], found[chosen]) if found[chosen] else {}),
        }

    def draw(self, source: list[int], target: list[int]) -> dict[str, Media]:
        """What there is to see of one translation, given as tokens; nothing without attention."""
        return {}

    @torch.no_grad()
    def attention(self, source: list[int], target: list[int]) -> Tensor:
        """Where the net looks for each target token but its end (T, S)."""
        tokens = torch.tensor([[BEGIN, *target[:-1]]], device=self.device)
        row = torch.tensor([source], device=self.device)
        attention: Tensor = self.net(row, torch.tensor([len(source)], device=self.device), tokens)[1][0]
        return attention[: len(target)]

    def sample(  # type: ignore[override]
        self,
        prompt: str | None = None,
        n: int = 1,
        *,
        beam: int | None = None,
        penalty: float | None = None,
        picture: bool = False,
    ) -> list[Media]:
        """Translate.

        Args:
            prompt: A sentence of the source language; when left out, some that the checkpoint holds.
            n: How many translations of it, the likeliest first.
            beam: Beginnings that the search keeps; when left out, as many as at the test, and at least n.
            penalty: Exponent of the length that scores are divided by; when left out, as at the test.
            picture: Whether to draw what there is to see, such as where the decoder looked.

        Raises:
            UserError: If the sentence is empty, too long, or holds what training did not have; if ``beam`` is below n.
        """
        beam = max(self.beam_size, n) if beam is None else beam
        if beam < n:
            raise UserError(f"beam is {beam}", f"give at least {n}, as many as there shall be translations", "--beam")
        media: list[Media] = []
        for text in self._examples if prompt is None else [prompt]:
            ids = self.encode(text)
            batch = {"source": torch.tensor([ids], device=self.device)}
            batch["source_length"] = torch.tensor([len(ids)], device=self.device)
            found = self.search(batch, beam, penalty)
            written = [row[row > PAD].tolist()[:-1] for row in found.tokens[0][found.scores[0] > -torch.inf]]
            head = f"{text} → " if prompt is None else ""
            media += [Text(head + decode(self.target_tokenizer, row)) for row in written[:n]]
            if picture:
                media += self.draw(ids, written[0]).values()
        return media

    def encode(self, text: str) -> list[int]:
        """The tokens of a sentence that a user typed.

        Raises:
            UserError: If there is none, if it is too long, or holds what training did not have.
        """
        ids = encode(self.source_tokenizer, [text])[0].tolist() if text.strip() else []
        if not ids:
            raise UserError("the prompt is empty", "give a sentence", "--prompt")
        if len(ids) > LONGEST:
            what = f"the prompt has {len(text):,} characters, which are {len(ids):,} tokens"
            raise UserError(what, f"give one sentence of at most {LONGEST} tokens", "--prompt")
        if self._seen is None:
            return list(ids)
        if strange := unseen(self.source_tokenizer, text, self._seen):
            remedy = "write it in another way, or leave it out"
            raise UserError(f"the training text has no {' '.join(strange)}", remedy, "--prompt")
        return [piece for index in ids for piece in seen_pieces(self.source_tokenizer, index, self._seen)]


def _few(words: list[str], most: int) -> list[str]:
    """Some words, with an ellipsis where others were."""
    return words if len(words) <= most else [*words[: most - 2], "…", words[-1]]
