"""word2vec as Lightning tasks: skip-gram and CBOW, trained in torch or by the compiled kernel."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from torch import Tensor

from dlmkit import Figure, Media, Table, Task, Text, UserError
from dlmkit.data.module import Batch
from dlmkit.errors import at_least
from dlmkit_word2vec.adagrad import RowAdagrad
from dlmkit_word2vec.blocks import Blocks, cbow_loss, cut, skip_gram_loss
from dlmkit_word2vec.engines import Changes, Threads, has_numba
from dlmkit_word2vec.evaluation import Section, Similarity, analogies, read_pairs, read_questions, similarity, total
from dlmkit_word2vec.figures import map_figure
from dlmkit_word2vec.formats import read_vectors
from dlmkit_word2vec.groups import purity
from dlmkit_word2vec.model import Embeddings
from dlmkit_word2vec.relations import known_analogies, known_queries, known_relations
from dlmkit_word2vec.sampling import PAD
from dlmkit_word2vec.vectors import Vectors

__all__ = ["CBOW", "Word2Vec"]

LEAST = 0.002
"""What is left of the learning rate at the end, as a share."""


class Word2Vec(Task):
    r"""Word vectors by skip-gram with negative sampling: a word tells which words stand around it.

    .. math::
        -\log \sigma(u_w \cdot v_c) - \sum_{k=1}^{K} \log \sigma(-u_{n_k} \cdot v_c), \qquad
        n_k \sim P_n(n) \propto \operatorname{count}(n)^{3/4}

    for every centre w and every word c around it. Frequent words are passed over at random, near words are seen more
    often than far ones, and the learning rate falls in a straight line. Two engines have the same objective: a compiled
    loop on the CPU that takes a step for each centre, and matrix products over whole batches in torch with one Adagrad
    rate for each word.

    References:
        | Efficient Estimation of Word Representations in Vector Space (Mikolov, Chen, Corrado, Dean, 2013)
        | Distributed Representations of Words and Phrases and their Compositionality (Mikolov et al., 2013)

    Args:
        vocab_size: Words V; follows from the data.
        window: How far a centre sees to each side at most; follows from the data.
        negatives: Words of noise K for each word that was seen; follows from the data.
        dim: Numbers in a vector.
        rate: The learning rate at the start, from which it falls to a five-hundredth; when left out, 0.05 for numba
            (0.2 with CBOW) and 0.2 for torch.
        engine: numba is the compiled loop on the CPU (the extra fast), torch runs everywhere; auto takes numba where it
            is installed and the run is on the CPU.
        threads: Threads of the compiled loop, 0 for every core; only one repeats bit for bit.
        sync_every: With numba and several processes, after how many batches they add up what they have changed. With
            torch the gradients of every batch are averaged.
        start: A file of vectors in word2vec's format, text or .bin, that the words it has begin with.
        similarity: Files of word pairs with people's scores (WordSim-353, SimLex-999, MEN), for the test.
        analogies: A file of analogy questions (questions-words.txt), for the test.
        restrict: Only so many of the most frequent words take part in analogies.
        show_words: Words whose neighbours are shown; when left out, some that the text has.
    """

    headline: ClassVar[str] = "test/loss"
    conformance: ClassVar[Mapping[str, str]] = {}
    conformance_options: ClassVar[Sequence[str]] = ("--model.engine=torch", "--model.dim=16")

    kernel: ClassVar[Literal["skip_gram", "cbow"]] = "skip_gram"
    rates: ClassVar[Mapping[str, float]] = {"numba": 0.05, "torch": 0.2}
    objective: ClassVar[Callable[[Tensor, Tensor, Blocks], Tensor]] = staticmethod(skip_gram_loss)

    def __init__(
        self,
        vocab_size: int,
        window: int,
        negatives: int,
        dim: int = 100,
        rate: float | None = None,
        engine: Literal["auto", "numba", "torch"] = "auto",
        threads: int = 0,
        sync_every: int = 1,
        start: str | None = None,
        similarity: list[str] | None = None,
        analogies: str | None = None,
        restrict: int = 30_000,
        show_words: list[str] | None = None,
    ) -> None:
        super().__init__(optimizer=lambda parameters: RowAdagrad(parameters))
        least: dict[str, tuple[float, float]] = {
            "dim": (dim, 1),
            "threads": (threads, 0),
            "sync_every": (sync_every, 1),
        }
        for name, (value, bound) in (least | {"restrict": (restrict, 4)}).items():
            if value < bound:
                raise UserError(f"{name} is {value}", f"give at least {bound}", f"model.{name}")
        if rate is not None and not 0 < rate < math.inf:
            raise UserError(f"rate is {rate}", "give a number above 0, such as 0.05", "model.rate")
        if engine == "numba" and not has_numba():
            remedy = "pip install 'dlmkit-word2vec[fast]', or give model.engine=torch"
            raise UserError("numba is not installed", remedy, "model.engine")
        self.window, self.negatives, self.rate = window, negatives, rate
        self.engine, self.threads, self.sync_every = engine, threads, sync_every
        self.start, self.restrict, self.show_words = start, restrict, show_words
        self.pairs = {Path(path).stem: read_pairs(path) for path in similarity or ()}  # read now: a fault ends the run
        self.questions = read_questions(analogies) if analogies else {}
        self.started = read_vectors(Path(start).expanduser()) if start else None
        if self.started is not None and self.started.matrix.shape[1] != dim:
            what = f"the vectors in {start} have {self.started.matrix.shape[1]} numbers"
            raise UserError(what, f"give model.dim={self.started.matrix.shape[1]}", "model.start")
        self.net = Embeddings(vocab_size, dim)
        self.words: list[str] = []
        self.counts = np.zeros(0, np.int64)
        self.sections: list[Section] = []
        self.agreements: dict[str, Similarity] = {}
        self._changes: Changes | None = None
        self._before = 0.0

    # The loss, in torch.

    def loss(self, batch: Batch) -> Tensor:
        """The mean over all pairs of a centre and a word around it.

        Args:
            batch: ``input``, ``window`` and ``noise`` (B, T) and ``pairs`` (B,), int64, as from the data module
                ``words``.
        """
        texts = (batch["input"], batch["window"], batch["noise"])
        blocks = cut(*texts, self.window, self.negatives, self.net.input.dtype)
        return type(self).objective(self.net.input, self.net.output, blocks) / max(1, self.count(batch))

    def count(self, batch: Batch) -> int:
        """How many pairs a batch has."""
        return int(batch["pairs"].sum())

    # Training. With numba the kernel is the optimiser; Lightning counts its steps.

    @property
    def compiled(self) -> bool:
        """Whether the compiled loop trains."""
        return not self.automatic_optimization

    def configure_callbacks(self) -> list[Callback]:
        """Choose the engine, now that the device is known; Lightning asks this before a run folder is made."""
        on_cpu = self.trainer.strategy.root_device.type == "cpu"
        if self.engine == "numba" and not on_cpu:
            what = "the compiled loop runs on the CPU only"
            raise UserError(what, "give trainer.accelerator=cpu, or model.engine=torch", "model.engine")
        chosen = self.engine != "torch" and on_cpu and has_numba()
        self.automatic_optimization = not chosen
        return super().configure_callbacks()

    def setup(self, stage: str) -> None:
        """Take the words from the data module."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.words, self.counts = list(data.vocabulary), np.asarray(data.counts)
        if self.started is not None and stage == "fit":
            known = [(row, self.started.number[word]) for row, word in enumerate(self.words) if word in self.started]
            if not known:
                raise UserError("it has none of the text's words", "give vectors of another text", str(self.start))
            here, there = (list(rows) for rows in zip(*known, strict=True))
            with torch.no_grad():
                self.net.input[here] = torch.from_numpy(self.started.matrix[there])

    def on_fit_start(self) -> None:
        """Remember where all processes begin."""
        if self.compiled and self.trainer.world_size > 1:
            self._changes = Changes([self.net.input, self.net.output])

    @cached_property
    def _kernel(self) -> Threads:
        return Threads(self.kernel, self.threads)

    def current_rate(self) -> float:
        """The learning rate of the next step: from ``rate`` down in a straight line over all words that are planned."""
        first = self.rate or self.rates["numba" if self.compiled else "torch"]
        planned = float(self.trainer.estimated_stepping_batches)
        done = self.trainer.global_step / planned if 0 < planned < math.inf else 0.0
        return first * max(LEAST, 1 - (1 - LEAST) * done)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate of torch's engine."""
        if not self.compiled:
            for group in self.optimizers(use_pl_optimizer=False).param_groups:  # type: ignore[union-attr]
                group["lr"] = self.current_rate()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:  # type: ignore[override]
        """One batch, by the engine that was chosen."""
        if not self.compiled:
            return super().training_step(batch, batch_idx)
        total, count = self._kernel(self.net.input, self.net.output, batch, self.negatives, self.current_rate())
        self.optimizers().step()  # type: ignore[union-attr]  # without gradients it only counts
        if self._changes is not None and self.trainer.global_step % self.sync_every == 0:
            self._changes.exchange()
        self.log("train/loss", total / max(1, count), prog_bar=True, batch_size=max(1, count))
        return None

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Tell the speed, in words of the text, those that are passed over included."""
        now = time.monotonic()
        if self._before and self.trainer.global_step % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            words = int(batch["words"].sum()) * self.trainer.world_size
            self.log("train/words_per_second", words / max(now - self._before, 1e-9), batch_size=1)
        self._before = now

    def on_validation_start(self) -> None:
        """Give every process the same weights before they are judged and saved."""
        if self._changes is not None and dist.is_initialized():
            self._changes.exchange()

    # Judging.

    def on_validation_epoch_end(self) -> None:
        """How pure the built-in groups of words are."""
        self._log_groups("val")

    def on_test_epoch_end(self) -> None:
        """The same, and what the files that were given ask."""
        self._log_groups("test")
        for name, found in self.agreements.items():
            if math.isfinite(found.correlation):
                self.log(f"test/{name}", found.correlation, batch_size=1)
        if self.sections:
            answered = total(self.sections)
            self.log("test/analogies", answered.right / max(1, answered.used), batch_size=1)

    def on_test_start(self) -> None:
        """Ask what the files ask, so that ``show`` can tell it."""
        vectors = self.vectors()
        self.agreements = {name: similarity(vectors, pairs) for name, pairs in self.pairs.items()}
        if self.questions:
            self.sections = analogies(vectors, self.questions, self.restrict)

    def _log_groups(self, stage: str) -> None:
        found = purity(self.vectors().directions, self.words)
        if found is not None:
            self.log(f"{stage}/groups", found[0], batch_size=1)

    # What was learnt.

    def vectors(self) -> Vectors:
        """The input vectors of all words."""
        return Vectors(self.words, self.net.input.detach().float().cpu().numpy().copy())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the words."""
        checkpoint["vocabulary"] = {"words": "\n".join(self.words), "counts": torch.from_numpy(self.counts)}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them up."""
        known = checkpoint.get("vocabulary")
        if known is not None:
            self.words, self.counts = known["words"].split("\n"), known["counts"].numpy()

    def show(self, batch: Batch) -> dict[str, Media]:
        """Nearest words, sums of words, and maps with the arrows of some relations."""
        vectors = self.vectors()
        media: dict[str, Media] = {"neighbours": self._neighbours(vectors)}
        if known := known_analogies(vectors):
            rows = [self._analogy(vectors, *words) for words in known]
            media["analogies"] = Table(["question", "expected", "nearest", "second", "third"], rows)
        relations = known_relations(vectors)
        if sum(map(len, relations.values())) >= 3:
            media["map-pca"] = Figure(map_figure(vectors, relations, "pca"))
            media["map-tsne"] = Figure(map_figure(vectors, relations, "tsne"))
        if self.sections:
            every = [*self.sections, total(self.sections)]
            media["analogies-by-section"] = Table(["section", "right", "asked", "in the file"], every)
        if self.agreements or self.sections:
            media["evaluation"] = Text("\n".join(self._judged()))
        media["nearest"] = Text(_told(vectors, self.show_words))
        return media

    def _judged(self) -> Iterator[str]:
        """A line for each file, with what was left out."""
        for name, found in self.agreements.items():
            yield f"{name}: Spearman {found.correlation:.3f}, {found.used} of {found.pairs} pairs known"
        if self.sections:
            all_of = total(self.sections)
            share = 100 * all_of.right / max(1, all_of.used)
            known = f"{all_of.used} of {all_of.questions} questions known"
            yield f"analogies: {share:.2f} %, {known} among {self.restrict} words"

    def _neighbours(self, vectors: Vectors) -> Table:
        words = self.show_words or known_queries(vectors)
        rows = [(word, *(f"{n.word} {n.likeness:.2f}" for n in vectors.nearest(word, 6))) for word in words]
        return Table(["word", *map(str, range(1, max(map(len, rows))))], rows)

    @staticmethod
    def _analogy(vectors: Vectors, a: str, b: str, c: str, d: str) -> tuple[str, ...]:
        found = vectors.nearest(f"{b} - {a} + {c}", 3)
        return (f"{b} - {a} + {c}", d, *(f"{n.word} {n.likeness:.2f}" for n in found))

    def sample(self, prompt: str = "", n: int = 1, *, top: int = 10) -> list[Media]:  # type: ignore[override]
        """The words nearest to a word or to a sum of words.

        Args:
            prompt: Words with + and - between them, such as "king - queen + aunt"; when left out, some words each.
            n: Has no effect: there is one answer.
            top: How many of the nearest words.

        Raises:
            UserError: If a word is not known, or a sign is missing.
        """
        at_least(1, "--", top=top)
        vectors = self.vectors()
        if not prompt.strip():
            return [Text(_told(vectors, self.show_words, top))]
        found = vectors.nearest(prompt, top)
        width = max(len(neighbour.word) for neighbour in found)
        return [Text("\n".join(f"{neighbour.word:<{width}}  {neighbour.likeness:.3f}" for neighbour in found))]


class CBOW(Word2Vec):
    r"""Word vectors by CBOW with negative sampling: the words around tell which word stands between them.

    .. math::
        -\log \sigma(u_w \cdot h) - \sum_{k=1}^{K} \log \sigma(-u_{n_k} \cdot h), \qquad
        h = \frac{1}{C} \sum_{c=1}^{C} v_c

    for every centre w. The gradient of each v_c is divided by C as the mean asks; the authors' program leaves that out.
    Everything else is as in skip-gram.

    References:
        | Efficient Estimation of Word Representations in Vector Space (Mikolov, Chen, Corrado, Dean, 2013)
        | Corrected CBOW Performs as well as Skip-gram (İrsoy, Benton, Stratos, 2021)
    """

    kernel: ClassVar[Literal["skip_gram", "cbow"]] = "cbow"
    rates: ClassVar[Mapping[str, float]] = {"numba": 0.2, "torch": 0.2}
    objective: ClassVar[Callable[[Tensor, Tensor, Blocks], Tensor]] = staticmethod(cbow_loss)

    def count(self, batch: Batch) -> int:
        """How many centres see a word: all but those that are alone in their row."""
        sizes = (batch["input"] != PAD).sum(dim=1)
        return int(sizes[sizes > 1].sum())


def _told(vectors: Vectors, words: list[str] | None, top: int = 5) -> str:
    """Lines of a word and its nearest ones."""
    chosen = words or known_queries(vectors)
    width = max(map(len, chosen))
    return "\n".join(f"{w:<{width}}  {', '.join(n.word for n in vectors.nearest(w, top))}" for w in chosen)
