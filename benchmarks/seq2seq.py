"""Translation: training steps against the tutorials' loop, sentences written per second, and the second start.

The tutorials' loop is the same net with the same parameters, written step by step: in each target step the annotations
go through the attention's matrix anew, each beside a copy of the state; the word and the context go through the gates
together; and the vocabulary's product is made for one step (after the algorithm of bentrevett's pytorch-seq2seq, part
3). Both sides give the same loss, which is checked first. ``python benchmarks/seq2seq.py``
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from common import report
from dlmkit_seq2seq.model import AttentionTranslator, gru_step
from dlmkit_seq2seq.parallel import ParallelText
from dlmkit_seq2seq.search import beam_search
from torch import Tensor


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="sentences in a batch B")
    parser.add_argument("--steps", type=int, default=15, help="words in a sentence, of both languages")
    parser.add_argument("--vocabulary", type=int, default=5000, help="pieces of both languages")
    parser.add_argument("--hidden", type=int, default=512, help="width of a state H")
    parser.add_argument("--embedding", type=int, default=256, help="width of an embedding")
    parser.add_argument("--attention", type=int, default=512, help="width of the attention's comparison")
    parser.add_argument("--repeats", type=int, default=7, help="pairs that are measured")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--sentences", type=int, default=256, help="sentences that are translated")
    parser.add_argument("--data", type=Path, help="a folder with train.de.gz and train.en.gz, for the second start")
    return parser.parse_args()


def made(given: argparse.Namespace) -> AttentionTranslator:
    """The net of both sides."""
    vocabularies = given.vocabulary, given.vocabulary
    return AttentionTranslator(*vocabularies, given.embedding, given.hidden, given.attention)


def tutorial_loss(net: AttentionTranslator, source: Tensor, lengths: Tensor, tokens: Tensor, target: Tensor) -> Tensor:
    """Teacher forcing with nothing hoisted out of the loop over target steps."""
    annotations, last = net.encoder(source, lengths)
    mask = torch.arange(source.shape[1]) < lengths[:, None]
    state = torch.tanh(net.bridge(last))
    decoder, heads = net.decoder, net.decoder.attention
    both = torch.cat((heads.query.weight, heads.key.weight), dim=1)  # one matrix each, as the tutorial has them
    gates = torch.cat((decoder.word_gates.weight, decoder.context_gates.weight), dim=1)
    logits = []
    for place in range(tokens.shape[1]):
        word = decoder.dropout(decoder.embedding(tokens[:, place]))
        repeated = state[:, None].expand(-1, source.shape[1], -1)
        compared = F.linear(torch.cat((repeated, annotations), dim=2), both, heads.key.bias)
        energy = heads.energy(torch.tanh(compared))[..., 0].masked_fill(~mask, -torch.inf)
        context = torch.bmm(energy.softmax(dim=1)[:, None], annotations)[:, 0]
        inputs = F.linear(torch.cat((word, context), dim=1), gates, decoder.word_gates.bias)
        state = gru_step(inputs, decoder.state_gates(state), state)
        readout = decoder.dropout(torch.tanh(decoder.readout(torch.cat((state, word, context), dim=1))))
        logits.append(decoder.scores(readout))
    return F.cross_entropy(torch.stack(logits, dim=1).flatten(0, 1), target.flatten())


def our_loss(net: AttentionTranslator, source: Tensor, lengths: Tensor, tokens: Tensor, target: Tensor) -> Tensor:
    """What the task computes."""
    return F.cross_entropy(net.scores(net(source, lengths, tokens)[0]).flatten(0, 1), target.flatten())


def training(given: argparse.Namespace) -> None:
    """Time whole steps of both, in turn."""
    net = made(given)
    optimizer = torch.optim.AdamW(net.parameters())
    source, tokens, target = torch.randint(3, given.vocabulary, (3, given.batch, given.steps)).unbind(0)
    lengths = torch.full((given.batch,), given.steps)
    batch = source, lengths, tokens, target
    torch.testing.assert_close(our_loss(net, *batch), tutorial_loss(net, *batch))

    def seconds(loss: Callable[..., Tensor]) -> float:
        start = time.perf_counter()
        loss(net, *batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    sides: dict[Callable[..., Tensor], list[float]] = {our_loss: [], tutorial_loss: []}
    for repeat in range(-1, given.repeats):  # a pair to warm up
        for loss in sides if repeat % 2 else reversed(sides):
            taken = seconds(loss)
            if repeat >= 0:
                sides[loss].append(given.batch / taken)
    report("training", sides[our_loss], sides[tutorial_loss], "sentences/s", "the tutorials' loop")


def decoding(given: argparse.Namespace) -> None:
    """Time beam search; a net that knows nothing is made to write as many words as it reads."""
    net = made(given).eval()
    source = torch.randint(3, given.vocabulary, (given.sentences, given.steps))
    lengths = torch.full((given.sentences,), given.steps)
    for beam in (1, 5):
        start = time.perf_counter()
        for part, of in zip(source.split(given.batch), lengths.split(given.batch), strict=True):
            with torch.no_grad():
                net.decoder.bias[2] = -50.0  # no end before the limit
            beam_search(net, part, of, beam, limit=given.steps + 1)
        taken = time.perf_counter() - start
        print(f"decoding, beam {beam}: {given.sentences / taken:.4g} sentences/s of {given.steps} words")


def starting(folder: Path) -> None:
    """Time the first and the second start on a corpus."""
    import os

    files = [str(folder / f"train.{language}.gz") for language in ("de", "en")]
    with tempfile.TemporaryDirectory() as cache:
        os.environ["DLMKIT_CACHE"] = cache
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            ParallelText(files, ["de", "en"], source_pieces=4000, target_pieces=4000).setup("fit")
            taken.append(time.perf_counter() - start)
    print(f"first start {taken[0]:.2f} s, second start {taken[1]:.2f} s, {taken[0] / taken[1]:.0f} times as fast")


def main() -> None:
    """Measure and print."""
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(
        f"B={given.batch}, {given.steps} words, V={given.vocabulary}, H={given.hidden}, {given.threads} thread(s), "
        f"torch {torch.__version__}, CPU"
    )
    training(given)
    decoding(given)
    if given.data:
        starting(given.data)


if __name__ == "__main__":
    main()
