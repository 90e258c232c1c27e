"""Words per second and quality of word2vec: our two engines beside gensim, one after the other in one process.

All have the same words, vocabulary and settings (skip-gram, 100 numbers, window 5, 5 negatives, sample 1e-3, min_count
5) and take turns for each seed. The time is that of training, without reading the text: on the clock, and on the
processor, where that of other programs is left out. Words are counted before frequent ones are passed over, for all of
them. Ours runs under Lightning, without checkpoints, in batches of 100,000 words for numba and of 20,000 for torch.

Quality: Spearman's correlation on WordSim-353, SimLex-999 and MEN over the pairs whose words are known; analogies over
all sections and for each by itself (a column for each contender, in their order), with answers and questions among the
30,000 most frequent words, in small letters.

Rates are chosen on a development set (MTurk-771), never on these: give --dev=EN-MTurk-771.txt with several --rates.

Usage: python benchmarks/word2vec.py TEXT --evaluation DIR [--megabytes 10] [--epochs 1] [--seeds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import report
from dlmkit_word2vec.data import Words
from dlmkit_word2vec.evaluation import analogies, read_pairs, read_questions, similarity, total
from dlmkit_word2vec.task import CBOW, Word2Vec
from dlmkit_word2vec.vectors import Vectors
from lightning.pytorch import Trainer, seed_everything

DIM, WINDOW, NEGATIVES, SAMPLE, MIN_COUNT = 100, 5, 5, 1e-3, 5
SIMILARITY = {"WordSim-353": "EN-WS-353-ALL.txt", "SimLex-999": "EN-SIMLEX-999.txt", "MEN": "EN-MEN-TR-3k.txt"}
Quality = dict[str, float]


class Seconds(NamedTuple):
    """What a training takes.

    Args:
        clock: As a person waits.
        processor: Of all threads together.
    """

    clock: float
    processor: float


def first_part(path: Path, megabytes: float) -> Path:
    """The beginning of a text, cut between two words, as a file of its own."""
    size = round(megabytes * 1e6)
    with path.open("rb") as file:
        text = file.read(size) if size else file.read()
    part = Path(tempfile.mkdtemp()) / "part.txt"
    part.write_bytes(text[: text.rfind(b" ")])
    return part


def judge(vectors: Vectors, folder: Path, dev: str | None) -> Quality:
    """The figures of one model."""
    if dev:
        return {"dev": similarity(vectors, read_pairs(str(folder / dev))).correlation}
    found = {name: similarity(vectors, read_pairs(str(folder / file))).correlation for name, file in SIMILARITY.items()}
    sections = analogies(vectors, read_questions(str(folder / "questions-words.txt")))
    shares = {f"{name} %": 100 * right / used for name, right, used, _ in [*sections, total(sections)] if used}
    return found | {("analogies %" if name == f"{total(sections).name} %" else name): s for name, s in shares.items()}


def timed(train: Callable[[], Any]) -> Seconds:
    """What a training takes."""
    clock, processor = time.perf_counter(), time.process_time()
    train()
    return Seconds(time.perf_counter() - clock, time.process_time() - processor)


def ours(engine: str, text: Path, options: argparse.Namespace, rate: float, seed: int) -> tuple[Seconds, Vectors]:
    """Seconds of training, and the vectors."""
    seed_everything(seed, verbose=False)
    settings: dict[str, Any] = {"window": WINDOW, "negatives": NEGATIVES, "sample": SAMPLE, "min_count": MIN_COUNT}
    settings |= {"batch_size": {"numba": 100, "torch": 20}[engine]}
    data = Words(str(text), split="spaces", val_fraction=1e-9, test_fraction=1e-9, **settings)
    kind = CBOW if options.cbow else Word2Vec
    task = kind(data.vocab_size, WINDOW, NEGATIVES, DIM, rate=rate, engine=engine, threads=options.threads)
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    accelerator = "auto" if engine == "torch" else "cpu"
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=options.epochs,
        limit_val_batches=0,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **quiet,
    )
    return timed(lambda: trainer.fit(task, data)), task.vectors()


def gensim(text: Path, options: argparse.Namespace, rate: float, seed: int) -> tuple[Seconds, Vectors]:
    """The same from the peer, its vocabulary built beforehand."""
    from gensim.models import Word2Vec as Peer

    words = text.read_text().split()
    sentences = [words[i : i + 1000] for i in range(0, len(words), 1000)]
    settings: dict[str, Any] = {"window": WINDOW, "negative": NEGATIVES, "sample": SAMPLE, "min_count": MIN_COUNT}
    model = Peer(vector_size=DIM, sg=int(not options.cbow), alpha=rate, seed=seed, workers=options.threads, **settings)
    model.build_vocab(sentences)
    seconds = timed(lambda: model.train(sentences, total_examples=len(sentences), epochs=options.epochs))
    return seconds, Vectors(model.wv.index_to_key, model.wv.vectors)


def contenders(options: argparse.Namespace) -> Iterator[tuple[str, Callable[..., tuple[Seconds, Vectors]], float]]:
    """Name, how to train, rate."""
    makers: dict[str, Callable[..., tuple[Seconds, Vectors]]] = {
        "gensim": gensim,
        "numba": lambda *given: ours("numba", *given),
        "torch": lambda *given: ours("torch", *given),
    }
    for given in options.rates:
        name, _, rates = given.partition("=")
        for rate in rates.split(","):
            yield (f"{name} {rate}", makers[name], float(rate))


def main() -> None:
    """Take turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a text of words with white space between them, such as text8")
    parser.add_argument("--evaluation", type=Path, required=True, help="the folder of the evaluation files")
    parser.add_argument("--megabytes", type=float, default=10, help="only so much of the text's beginning; 0 for all")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="of each contender")
    parser.add_argument("--rates", nargs="+", default=["gensim=0.025", "numba=0.025", "torch=0.2"], help="NAME=R,R,…")
    parser.add_argument("--dev", help="judge by this file of pairs alone, to choose rates")
    parser.add_argument("--cbow", action="store_true", help="CBOW in place of skip-gram")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for logger in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(logger).setLevel(logging.ERROR)
    os.environ.setdefault("DLMKIT_CACHE", tempfile.mkdtemp())
    torch.set_num_threads(options.threads)
    text = first_part(options.text, options.megabytes)
    words = len(text.read_text().split())
    print(f"{words:,} words, {options.epochs} epochs, {options.threads} threads, {options.seeds} seeds", flush=True)
    every = list(contenders(options))
    small, once = first_part(text, 1), argparse.Namespace(**{**vars(options), "epochs": 1})
    for _, train, rate in every:  # compile, and warm up
        train(small, once, rate, 0)
    _ = Words(str(text), split="spaces", min_count=MIN_COUNT).vocab_size  # read the text into the cache
    speeds: dict[str, list[Seconds]] = {name: [] for name, *_ in every}
    figures: dict[str, list[Quality]] = {name: [] for name, *_ in every}
    for seed in range(1, options.seeds + 1):
        for name, train, rate in every:
            seconds, vectors = train(text, options, rate, seed)
            speeds[name].append(Seconds(*(words * options.epochs / time for time in seconds)))
            figures[name].append(judge(vectors, options.evaluation, options.dev))
    peer = every[0][0]
    for name, *_ in every:
        first = [key for key in figures[name][0] if key in ("dev", *SIMILARITY, "analogies %")]
        told = (f"{key} {_spread([f[key] for f in figures[name]])}" for key in first)
        print(f"{name:<14} {', '.join(told)}")
    sections = [key for key in figures[peer][0] if key not in ("dev", *SIMILARITY, "analogies %")]
    for section in sections:
        medians = (f"{statistics.median(f[section] for f in figures[name]):9.1f}" for name, *_ in every)
        print(f"{section:<30} {' '.join(medians)}")
    for name, *_ in every[1:]:
        for kind in Seconds._fields:
            both = ([getattr(speed, kind) for speed in speeds[who]] for who in (name, peer))
            report(f"{name}, by the {kind}", *both, "words/s", peer)


def _spread(values: list[float]) -> str:
    values = [float(np.round(value, 3)) for value in values]
    return f"{statistics.median(values):.3f} ({min(values):.3f}–{max(values):.3f})"


if __name__ == "__main__":
    main()
