"""The reference tutorial's translator on Multi30k, trained by its own settings and scored as ours is.

bentrevett's pytorch-seq2seq (part 4) gives 28.30 BLEU, computed on small letters and words that spaCy has cut. This is
its algorithm written anew: words seen twice, in small letters; a bidirectional GRU of 512 units and additive attention;
dropout 0.5; every second step is given the truth, otherwise what was said before; ten epochs of Adam at 0.001 in
batches of 128 sentences of like length; the epoch of the least loss in validation; the likeliest word at each step.
Words are cut by a rule instead of spaCy's models. ``python benchmarks/translation_tutorial.py FOLDER``
"""

from __future__ import annotations

import argparse
import copy
import gzip
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor, nn

PAD, UNKNOWN, START, END = range(4)
BATCH, EMBEDDING, HIDDEN, DROPOUT, TRUTH, LIMIT = 128, 256, 512, 0.5, 0.5, 50
Pair = tuple[list[int], list[int]]


def words(line: str) -> list[str]:
    """Small letters; hyphens and apostrophes stay within words, every other sign is a word."""
    return re.findall(r"\w+(?:[-'’]\w+)*|[^\w\s]", line.lower())


def vocabulary(sentences: list[list[str]]) -> dict[str, int]:
    """What occurs twice, after four signs."""
    counted = Counter(word for sentence in sentences for word in sentence)
    return {word: number for number, word in enumerate((w for w, n in counted.items() if n > 1), start=END + 1)}


def numbered(sentence: list[str], known: dict[str, int]) -> list[int]:
    """A sentence as numbers, between the signs of start and end."""
    return [START, *(known.get(word, UNKNOWN) for word in sentence), END]


def padded(sentences: list[list[int]]) -> Tensor:
    """One row for each sentence. Shape: (B, T)."""
    return nn.utils.rnn.pad_sequence([torch.tensor(s) for s in sentences], batch_first=True, padding_value=PAD)


def batches(pairs: list[Pair], shuffle: bool) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Sentences of like length together: the source, its lengths, the target."""
    order = sorted(pairs, key=lambda pair: len(pair[0]) + random.random() * shuffle)
    parts = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    if shuffle:
        random.shuffle(parts)
    for part in parts:
        yield padded([s for s, _ in part]), torch.tensor([len(s) for s, _ in part]), padded([t for _, t in part])


class Tutorial(nn.Module):
    """Encoder, attention and decoder as the tutorial has them.

    Args:
        sources: Words of the source.
        targets: Words of the target.
    """

    def __init__(self, sources: int, targets: int) -> None:
        super().__init__()
        self.source_embedding = nn.Embedding(sources, EMBEDDING)
        self.encoder = nn.GRU(EMBEDDING, HIDDEN, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * HIDDEN, HIDDEN)
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(2 * HIDDEN, HIDDEN, bias=False)
        self.energy = nn.Linear(HIDDEN, 1, bias=False)
        self.target_embedding = nn.Embedding(targets, EMBEDDING)
        self.decoder = nn.GRUCell(EMBEDDING + 2 * HIDDEN, HIDDEN)
        self.scores = nn.Linear(EMBEDDING + 3 * HIDDEN, targets)
        self.dropout = nn.Dropout(DROPOUT)
        for name, weight in self.named_parameters():
            if "weight" in name:
                nn.init.normal_(weight, std=0.01)
            else:
                nn.init.zeros_(weight)

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor | None = None, truth: float = 0) -> Tensor:
        """Scores of the words after the start, or the words themselves where there is no target.

        Args:
            source: Shape: (B, S).
            lengths: Shape: (B,).
            target: Shape: (B, T), or None to write up to LIMIT words.
            truth: How often the truth is given at a step in place of what was said.

        Returns:
            Shape: (B, T - 1, V), or (B, LIMIT) without a target.
        """
        embedded = self.dropout(self.source_embedding(source))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        packed, last = self.encoder(packed)
        annotations, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        state = torch.tanh(self.bridge(torch.cat((last[0], last[1]), dim=1)))
        keys, absent = self.key(annotations), source == PAD
        word = torch.full((len(source),), START)
        said, trains = [], torch.is_grad_enabled()
        for place in range(1, LIMIT + 1 if target is None else target.shape[1]):
            energy = self.energy(torch.tanh(keys + self.query(state)[:, None]))[..., 0].masked_fill(absent, -1e10)
            context = torch.bmm(energy.softmax(dim=1)[:, None], annotations)[:, 0]
            embedded = self.dropout(self.target_embedding(word))
            state = self.decoder(torch.cat((embedded, context), dim=1), state)
            features = torch.cat((state, context, embedded), dim=1)
            if target is not None and trains:  # all scores together at the end, but for those that the next step needs
                said.append(features)
                with torch.no_grad():
                    word = target[:, place] if random.random() < truth else self.scores(features).argmax(dim=1)
                continue
            scores = self.scores(features)
            word = scores.argmax(dim=1)
            said.append(word if target is None else scores)
            if target is None and all((row == END).any() for row in torch.stack(said, dim=1)):
                break
        if target is not None and trains:
            return self.scores(torch.stack(said, dim=1))
        return torch.stack(said, dim=1)

    def loss(self, source: Tensor, lengths: Tensor, target: Tensor, truth: float = 0) -> Tensor:
        """The mean cross-entropy of the target's words."""
        scores = self(source, lengths, target, truth)
        return F.cross_entropy(scores.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)


def read(folder: Path, split: str) -> tuple[list[str], list[str]]:
    """The German and the English lines."""
    german, english = (
        gzip.decompress((folder / f"{split}.{language}.gz").read_bytes()).decode().splitlines()
        for language in ("de", "en")
    )
    return german, english


@torch.no_grad()
def translated(net: Tutorial, sentences: list[list[int]], known: dict[str, int]) -> list[str]:
    """Translations in the order of the sentences, words with spaces between them."""
    net.eval()
    names = {number: word for word, number in known.items()} | {UNKNOWN: "<unk>"}
    out = []
    for start in range(0, len(sentences), BATCH):
        part = sentences[start : start + BATCH]
        for row in net(padded(part), torch.tensor([len(s) for s in part])).tolist():
            said = row[: row.index(END)] if END in row else row
            out.append(" ".join(names[number] for number in said if number in names))
    return out


def main() -> None:
    """Train, pick, score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with train, val and test_2016_flickr, .de.gz and .en.gz")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--state", type=Path, help="a file to go on from, written after each epoch")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(1234)
    random.seed(1234)
    texts = {split: read(given.data, split) for split in ("train", "val", "test_2016_flickr")}
    cut = {split: [[words(line) for line in side] for side in sides] for split, sides in texts.items()}
    known = [vocabulary(side) for side in cut["train"]]
    pairs = {
        split: [(numbered(de, known[0]), numbered(en, known[1])) for de, en in zip(*sides, strict=True)]
        for split, sides in cut.items()
    }
    net = Tutorial(*(len(side) + END + 1 for side in known))
    optimizer = torch.optim.Adam(net.parameters())
    parameters = sum(p.numel() for p in net.parameters())
    print(f"{len(pairs['train']):,} pairs, {len(known[0]):,} and {len(known[1]):,} words, {parameters:,} parameters")
    done, least, best, spent = 0, float("inf"), net.state_dict(), 0.0
    if given.state and given.state.exists():
        state = torch.load(given.state, weights_only=False)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"])
        random.setstate(state["random"])
        done, least, best, spent = state["epoch"], state["least"], state["best"], state["seconds"]
        print(f"goes on after epoch {done}")
    started = time.perf_counter() - spent
    for epoch in range(done + 1, given.epochs + 1):
        net.train()
        for batch in batches(pairs["train"], shuffle=True):
            optimizer.zero_grad()
            net.loss(*batch, truth=TRUTH).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        net.eval()
        with torch.no_grad():
            losses = [float(net.loss(*batch)) for batch in batches(pairs["val"], shuffle=False)]
        loss = sum(losses) / len(losses)
        print(f"epoch {epoch}: val loss {loss:.3f} (own words), {time.perf_counter() - started:.0f} s", flush=True)
        if loss < least:
            least, best = loss, copy.deepcopy(net.state_dict())
        if given.state:
            state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "least": least}
            state |= {"best": best, "seconds": time.perf_counter() - started}
            half = given.state.with_name(f"{given.state.name}.half")  # a stop while writing leaves the last one whole
            torch.save(state | {"torch": torch.get_rng_state(), "random": random.getstate()}, half)
            half.replace(given.state)
    net.load_state_dict(best)
    said = translated(net, [source for source, _ in pairs["test_2016_flickr"]], known[1])
    references = texts["test_2016_flickr"][1]
    for lowercase in (False, True):
        scorer = BLEU(lowercase=lowercase, force=True)  # words apart from marks are what 13a makes of the references
        print(f"sacreBLEU {scorer.corpus_score(said, [references]).score:.2f}  {scorer.get_signature()}")
    own = BLEU(tokenize="none", force=True).corpus_score(said, [[" ".join(s) for s in cut["test_2016_flickr"][1]]])
    print(f"on small letters and its own words, as the tutorial scores: {own.score:.2f}")
    print(*said[:3], sep="\n")


if __name__ == "__main__":
    main()
